"""Who may import whom. A broken rule is reported with file and line."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "platform" / "winnow"

BASE = {
    *(
        "records",
        "schema",
        "config",
        "errors",
        "seeding",
        "files",
        "digests",
        "machine",
        "models",
        "progress",
        "grades",
        "__init__",
    ),
}
PURE = {
    *("corpora", "pooling", "engines", "judging", "labels", "losses", "modeling", "retrieval", "evaluation", "audit"),
    "answering",
}
ALLOWED = {
    **dict.fromkeys(PURE, BASE | PURE),
    **dict.fromkeys(BASE, BASE),
    "training": BASE | PURE | {"training"},
    "api": BASE | PURE | {"api"},
    "serving": BASE | PURE | {"api", "serving"},
    "tracking": BASE | PURE | {"training", "api", "tracking"},
    "cluster": BASE | PURE | {"training", "api", "serving", "tracking", "cluster", "client"},
    "steps": BASE | PURE | {"training", "api", "serving", "tracking", "cluster", "steps", "client"},
    "client": {"records", "errors", "__init__"},
    "cli": {"config", "errors", "machine", "steps", "__init__"},
}
# A framework is an adapter: one folder knows it.
ONLY_IN = {"ray": "cluster", "mlflow": "tracking", "vllm": "engines", "fastapi": "api"}
EXCEPTIONS = {("cluster/replica.py", "fastapi")}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that ``path`` imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            if node.module == "winnow":
                yield from ((node.lineno, f"winnow.{alias.name}") for alias in node.names)


def all_imports() -> Iterator[tuple[str, str, int, str]]:
    """Room, file, line and imported name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        room = inside.parts[0].removesuffix(".py")
        for line, name in imports(path):
            yield room, str(inside), line, name


def test_rooms_import_only_the_rooms_below_them():
    broken = [
        f"{file}:{line} imports {name}"
        for room, file, line, name in all_imports()
        if name.startswith("winnow.") and name.split(".")[1] not in ALLOWED[room] | {room, "__version__"}
    ]

    assert broken == []


def test_a_framework_is_known_in_one_folder():
    broken = [
        f"{file}:{line} imports {name} outside {ONLY_IN[name.split('.')[0]]}/"
        for room, file, line, name in all_imports()
        if ONLY_IN.get(name.split(".")[0], room) != room and (file, name.split(".")[0]) not in EXCEPTIONS
    ]

    assert broken == []


@pytest.mark.parametrize("folder", ["platform", "jobs", "serve"])
def test_source_roots_are_no_packages(folder):
    """A package called ``platform`` would hide the standard library's module of that name."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("module", ["winnow", "winnow.client", "winnow.records", "winnow.config", "winnow.cli"])
def test_the_light_base_needs_no_heavy_library(module, tmp_path):
    heavy = "torch ray vllm faiss transformers mlflow pyarrow numpy fastapi"
    script = f"import sys, {module}; print([name for name in {heavy.split()} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "also"),
    [("winnow.steps.serve", ""), ("winnow.cluster.replica", ""), ("winnow.cluster.control", "fastapi")],
)
def test_what_starts_and_orders_replicas_does_not_wait_for_what_they_load(module, also, tmp_path):
    """Importing torch and transformers takes several times as long as all the rest."""
    heavy = f"torch transformers faiss numba mlflow openai {also}"
    script = f"import sys, {module}; print([name for name in {heavy.split()} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.strip().splitlines()[-1] == "[]"
