"""Documentation that can be checked by a machine is."""

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_configuration_page_equals_the_code():
    page = runpy.run_path(str(ROOT / "docs" / "settings.py"))["reference"]()

    assert (ROOT / "docs" / "configuration.md").read_text() == page, (
        "run: python docs/settings.py > docs/configuration.md"
    )


def test_every_setting_has_help():
    rows = [line for line in (ROOT / "docs" / "configuration.md").read_text().splitlines() if line.startswith("| `")]

    assert len(rows) > 50
    assert [row for row in rows if row.rstrip().endswith("|  |")] == []


def test_nothing_installs_the_package_of_somebody_else():
    """`winnow` on the package index is not ours: extras refer to our own name, and no text installs the other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    folders = ["docs", "platform", "jobs", "serve", "examples", "benchmarks", "requirements"]
    texts = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    read = [path for path in texts if path.suffix in {".md", ".py", ".yaml", ".toml", ".txt"}]
    installing = re.compile(r"install[^\n]*[ '\"]winnow(\[|['\"`\s=]|$)")

    assert project["name"] == "winnow-retrieval"
    assert {name for name in wanted if re.match(r"winnow\b", name)} == {
        "winnow-retrieval[pipeline]",
        "winnow-retrieval[onnx]",
    }
    assert [str(path) for path in read if installing.search(path.read_text(encoding="utf-8"))] == []
