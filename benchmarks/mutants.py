"""Change the code at many places, one at a time, and count the changes that no test notices.

    python benchmarks/mutants.py losses retrieval/fusion
    python benchmarks/mutants.py losses --survivors       # once more those that survived, after a test was added

Each mutant (mutations.py) is run against the tests of its room, in a process of its own that was forked from one with
all libraries imported, in a copy of the working tree. Results are added to ``--results``: what is in there is not run
again until its file changes.
"""

import argparse
import hashlib
import importlib.util
import json
import multiprocessing as mp
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mutations import Mutation, mutations

ROOT = Path(__file__).parents[1]
PACKAGE = "platform/winnow"


@dataclass(frozen=True)
class Room:
    """What is changed, and who is to notice."""

    sources: Sequence[str]
    tests: Sequence[str]
    without: Sequence[str] = ()
    """Tests that take most of the time, of what is not changed here."""


ROOMS = {
    "losses": Room(["losses/*.py"], ["unit/losses", "parity/test_objectives.py", "property/test_objectives.py"]),
    "labels": Room(["labels/*.py"], ["unit/labels", "property/test_sampling.py"]),
    "judging/parsing": Room(["judging/parsing.py"], ["unit/judging/test_parsing.py", "property/test_parsing.py"]),
    "retrieval/fusion": Room(
        ["retrieval/fusion.py"], ["unit/retrieval/test_fusion.py", "unit/retrieval/test_retriever.py"]
    ),
    # plots.py is left out: what it gets wrong, a person sees.
    "evaluation": Room(
        ["evaluation/[!p]*.py"],
        ["unit/evaluation", "parity/test_measures.py", "parity/test_significance.py"],
        without=["unit/evaluation/test_tables.py::test_plot_of_equal_numbers_has_equal_bytes"],
    ),
    "serving": Room(["serving/*.py"], ["unit/serving"], without=["unit/serving/test_hostile_versions.py"]),
    "api/guard": Room(["api/guard.py"], ["unit/api/test_guard.py", "unit/api/test_app.py"]),
    "api/keys": Room(["api/keys.py"], ["unit/api/test_keys.py", "unit/api/test_guard.py"]),
    "retrieval/filtering": Room(
        ["retrieval/filtering.py", "retrieval/fields.py"],
        ["unit/retrieval/test_filtering.py", "unit/retrieval/test_fields.py", "unit/retrieval/test_retriever.py"],
    ),
}


@dataclass(frozen=True)
class Mutant:
    """One mutation of one file of a room."""

    room: str
    path: str
    source: str
    mutation: Mutation

    @property
    def key(self) -> str:
        """Changes when the file does."""
        return hashlib.sha256(repr((self.room, self.path, self.source, self.mutation)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``survived``, ``killed`` by a test, or ``timeout``."""

    key: str
    room: str
    result: str
    noticed_by: str
    diff: str


def main() -> int:
    """Run what has no result yet; 1 if a tenth of a room or more survives."""
    options = _options()
    known = _known(options.results)
    shares = []
    for name in options.rooms:
        chosen = _choose(name, options.count, options.seed)
        finished = {key for key, found in known.items() if not (options.survivors and found.result != "killed")}
        pending = [mutant for mutant in chosen if mutant.key not in finished]
        for outcome in _run(name, pending, num_processes=options.processes) if pending else ():
            known[outcome.key] = outcome
            with options.results.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        shares.append(_report(name, [known[mutant.key] for mutant in chosen]))
    return int(max(shares) >= 0.1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), metavar="room", help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--count", type=int, default=150, help="mutants per room; all there are if fewer")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "mutants.jsonl")
    parser.add_argument("--survivors", action="store_true", help="run those that no test failed on once more")
    options = parser.parse_args()
    if unknown := set(options.rooms) - set(ROOMS):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    return options


def _known(path: Path) -> dict[str, Outcome]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {outcome.key: outcome for outcome in (Outcome(**json.loads(line)) for line in lines)}


def _choose(name: str, count: int, seed: int) -> list[Mutant]:
    """``count`` mutants of a room, in the order of their draw with ``seed``: any beginning of them is a sample too."""
    paths = sorted(path for pattern in ROOMS[name].sources for path in (ROOT / PACKAGE).glob(pattern))
    everything = [
        Mutant(name, str(path.relative_to(ROOT)), source, mutation)
        for path in paths
        for source in [path.read_text()]
        for mutation in mutations(source)
    ]
    drawn = random.Random(f"{seed} {name}").sample(range(len(everything)), min(count, len(everything)))
    return [everything[place] for place in drawn]


def _run(name: str, mutants: Sequence[Mutant], *, num_processes: int) -> Iterator[Outcome]:
    """The outcomes in the order in which they come."""
    with tempfile.TemporaryDirectory(prefix="winnow-mutants-") as scratch:
        first = _copy_tree(Path(scratch) / "0")
        limit_s = _try_unchanged(name, first)
        # With what has been compiled, which takes most of the time of a short run.
        copies = [first, *(Path(shutil.copytree(first, first.with_name(str(n)))) for n in range(1, num_processes))]
        pending, running = list(reversed(mutants)), {}
        while pending or running:
            while pending and copies:
                started = _Trial(pending.pop(), copies.pop(), limit_s)
                running[started.process.sentinel] = started
            wait(list(running), timeout=0.2)
            for sentinel, trial in list(running.items()):
                if (outcome := trial.outcome()) is not None:
                    copies.append(running.pop(sentinel).copy)
                    yield outcome


def _copy_tree(target: Path) -> Path:
    """The working tree as git sees it, uncommitted changes included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def _try_unchanged(name: str, copy: Path) -> float:
    """Seconds of CPU that a mutant may take. Imports here what the tests import, so that forked processes have it."""
    for attempt in ("alone", "with what it imports"):
        modules, theirs = mp.Pipe(duplex=False)
        started = _cpu_s_of_children()
        process = mp.get_context("fork").Process(target=_test, args=(name, copy, copy / "unchanged", theirs))
        process.start()
        imported = modules.recv()
        process.join()
        seconds = _cpu_s_of_children() - started
        if process.exitcode != 0:
            said = (copy / "unchanged.log").read_text()[-3000:]
            raise SystemExit(f"the tests of {name} fail on the code as it is:\n{said}")
        print(f"{name}: unchanged, {attempt}: {seconds:.1f} s of CPU", flush=True)
        for module in imported:
            with suppress(Exception):
                importlib.import_module(module)
    return 10 + 5 * seconds


def _cpu_s_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _test(name: str, copy: Path, report: Path, modules: Any, limit_s: int = resource.RLIM_INFINITY) -> None:
    """Run the tests of a room in this process, which is a fork of its own; exits with pytest's code."""
    import hypothesis
    import pytest

    os.setpgid(0, 0)  # what a mutant starts is killed with it
    # Of CPU, as a machine that others use too makes every mutant slow.
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))
    log = report.with_suffix(".log").open("w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    os.chdir(copy)
    sys.path.insert(0, str(copy / "platform"))
    hypothesis.settings.register_profile("mutants", deadline=None, database=None, derandomize=True, max_examples=25)
    hypothesis.settings.load_profile("mutants")
    watch = _Watch(report)
    arguments = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    arguments += [f"--deselect=tests/{path}" for path in ROOMS[name].without]
    code = pytest.main([*arguments, *(f"tests/{path}" for path in ROOMS[name].tests)], plugins=[watch])
    assert sys.modules["winnow"].__file__.startswith(str(copy)), "the copy is what has to be tested"
    if modules is not None:
        modules.send([each for each in sys.modules if _is_library(sys.modules[each])])
    sys.stdout.flush()
    os._exit(int(code))


def _is_library(module: Any) -> bool:
    return "site-packages" in (getattr(module, "__file__", None) or "")


class _Watch:
    """A pytest plugin that writes down the first test that failed."""

    def __init__(self, report: Path) -> None:
        self._report = report

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._report.write_text(report.nodeid)


class _Trial:
    """A mutant under test, in a copy of the tree that is its own until it ends."""

    def __init__(self, mutant: Mutant, copy: Path, limit_s: float) -> None:
        self.copy = copy
        self._mutant = mutant
        self._deadline = time.monotonic() + 20 * limit_s  # for those that wait
        self._report = copy / "report"
        self._report.unlink(missing_ok=True)
        self._write(mutant.mutation.apply(mutant.source))
        arguments = (mutant.room, copy, self._report, None, int(limit_s))
        self.process = mp.get_context("fork").Process(target=_test, args=arguments)
        self.process.start()

    def outcome(self) -> Outcome | None:
        """What became of it; ``None`` while it runs."""
        if self.process.is_alive() and time.monotonic() < self._deadline:
            return None
        ended_by = {None: "timeout", -signal.SIGXCPU: "timeout", 0: "survived"}
        result = ended_by.get(self.process.exitcode, "killed")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.join()
        self._write(self._mutant.source)
        noticed_by = self._report.read_text() if self._report.exists() else ""
        diff = self._mutant.mutation.diff(self._mutant.source, self._mutant.path)
        return Outcome(self._mutant.key, self._mutant.room, result, noticed_by, diff)

    def _write(self, source: str) -> None:
        path = self.copy / self._mutant.path
        path.write_text(source)
        # Python tells a stale one by whole seconds and the length, which two mutants may share.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def _report(name: str, outcomes: Sequence[Outcome]) -> float:
    survivors = [outcome for outcome in outcomes if outcome.result == "survived"]
    for outcome in survivors:
        print(outcome.diff)
    timeouts = sum(outcome.result == "timeout" for outcome in outcomes)
    print(
        f"{name}: {len(outcomes)} mutants, {len(outcomes) - len(survivors)} noticed ({timeouts} by running too long), "
        f"{len(survivors)} survived ({len(survivors) / len(outcomes):.1%})\n",
        flush=True,
    )
    return len(survivors) / len(outcomes)


if __name__ == "__main__":
    sys.exit(main())
