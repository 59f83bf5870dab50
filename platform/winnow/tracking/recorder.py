"""Follow a command: a parent run in MLflow with a child per step, filled from the steps' journals.

What cannot be carried over now stays on disk and goes with the next command; no step ever waits for it.
A command that was killed goes on in the same runs when it is started again.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import uuid4

from winnow.config import fingerprint
from winnow.tracking.config import TrackingConfig
from winnow.tracking.journal import Journal
from winnow.tracking.replay import Replayer
from winnow.tracking.state import RunState, RunStatus, fingerprint_of
from winnow.tracking.store import TrackerError, compare_link, tracking_uri, ui_command, without_credentials

_RETRY_AFTER_S = 30.0


class Recorded(Protocol):
    """What a recorder needs of the configuration of a run."""

    output: Path
    tracking: TrackingConfig

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """All settings as plain JSON values."""


class MlflowRecorder(AbstractContextManager["MlflowRecorder"]):
    """The MLflow side of one command; hand it to the steps as ``StepOptions.recorder``."""

    def __init__(self, config: Recorded, *, run_name: str) -> None:
        self._settings = config.model_dump(mode="json")
        self._tracking = config.tracking
        self._name = run_name
        self._uri = tracking_uri(config.output)
        self._replayer = Replayer(config.output, config.tracking, self._uri)
        self._states = self._replayer.states
        self._live: list[RunState] = []
        self._lock = Lock()
        self._retry_at = 0.0
        self._has_warned = False
        self._stop = Event()
        self._thread = Thread(target=self._follow, name="winnow-tracking", daemon=True)
        self._locks = ExitStack()

    def __enter__(self) -> Self:
        self.flush_pending()
        self._run = self._open_run()
        self._carry(self._run)
        self._live.append(self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._end(self._run, _status_after(kind))
        self._locks.close()
        self._retry_at = 0.0
        self.flush_pending()

    @contextmanager
    def following(self, step: str, journal: Path) -> Iterator[None]:
        """While the block runs, and once more at its end, carry what is new in ``journal``."""
        key = f"{self._run.key}.{step}-{fingerprint_of(journal)}"
        with self._states.owned(key) as mine:
            assert mine, f"step {step} is followed twice at the same time"
            state = self._open_step(key, step, journal)
            self._live.append(state)
            try:
                yield
            except BaseException as error:
                self._end(state, _status_after(type(error)))
                raise
            else:
                self._end(state, "FINISHED")
            finally:
                self._carry(state)

    def flush_pending(self) -> None:
        """Carry over what earlier commands could not, and mark the runs of those that were killed."""
        for state in self._states.pending():
            if state.uri == without_credentials(self._uri):
                with self._states.owned(state.key) as mine:
                    if mine:
                        self._flush(state.key)

    def how_to_look(self) -> list[str]:
        """Lines that say how to open MLflow, and the link that compares the latest runs."""
        lines = [f"MLflow: {ui_command(self._uri)}"]
        try:
            experiment = self._replayer.experiment(self._tracking.experiment)
            lines.append(f"compare: {compare_link(self._replayer.client(), experiment)}")
        except TrackerError as error:
            self._warn(error)
        return lines

    def _open_run(self) -> RunState:
        prefix = f"{self._name}-{fingerprint(self._settings)}-"
        state = self._states.latest(prefix)
        if state is None or state.status != "KILLED" or not self._own(state.key):
            key = f"{prefix}{uuid4().hex[:8]}"
            state = self._new_state(key, self._name, self._states.root / "journals" / f"{key}.jsonl")
            self._own(key)
            Path(state.journal).parent.mkdir(parents=True, exist_ok=True)
            Journal(Path(state.journal)).params(_flatten(self._settings))
        return self._reopen(state)

    def _open_step(self, key: str, step: str, journal: Path) -> RunState:
        state = self._states.find(key)
        if state is None or not state.follows(journal):
            state = self._new_state(key, step, journal, parent=self._run.key)
        state.journal = str(journal.resolve())
        return self._reopen(state)

    def _new_state(self, key: str, name: str, journal: Path, *, parent: str | None = None) -> RunState:
        uri = without_credentials(self._uri)
        return RunState(key, name, self._tracking.experiment, uri, str(journal.resolve()), parent)

    def _reopen(self, state: RunState) -> RunState:
        state.status, state.ended = "RUNNING", None
        self._states.save(state)
        return state

    def _own(self, key: str) -> bool:
        return self._locks.enter_context(self._states.owned(key))

    def _end(self, state: RunState, status: RunStatus) -> None:
        with self._lock:
            self._live = [other for other in self._live if other is not state]
            state.status, state.ended = status, time.time()
            self._states.save(state)

    def _flush(self, key: str) -> None:
        state = self._states.find_open(key)
        if state is None:
            return  # another process was faster
        if state.status == "RUNNING":
            # Its process is gone, or it would hold the lock.
            state.status, state.ended = "KILLED", time.time()
            self._states.save(state)
        self._carry(state)

    def _follow(self) -> None:
        while not self._stop.wait(self._tracking.interval_s):
            for state in list(self._live):
                self._carry(state, only_live=True)

    def _carry(self, state: RunState, *, only_live: bool = False) -> None:
        with self._lock:
            if time.monotonic() < self._retry_at or (only_live and state not in self._live):
                return
            try:
                self._replayer.replay(state)
            except TrackerError as error:
                self._retry_at = time.monotonic() + _RETRY_AFTER_S
                self._warn(error)

    def _warn(self, error: TrackerError) -> None:
        if not self._has_warned:
            self._has_warned = True
            print(
                f"tracking: MLflow at {without_credentials(self._uri)} cannot be used now ({error}); the work goes on, "
                f"and the next command carries the journals over; correct MLFLOW_TRACKING_URI if it is wrong",
                file=sys.stderr,
                flush=True,
            )


def _status_after(kind: type[BaseException] | None) -> RunStatus:
    if kind is None:
        return "FINISHED"
    return "FAILED" if issubclass(kind, Exception) else "KILLED"


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
