"""Documentation that can be checked by a machine is."""

import runpy
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
