"""Carry a journal to MLflow: every line once, in order, now or later.

Lines go over in batches, and the byte offset is written down after each. A process killed between the two
repeats one batch, which changes nothing: a metric with equal key, step and time, or an equal parameter, tag,
input or file, is the same one in MLflow.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from winnow.tracking import registry
from winnow.tracking.config import TrackingConfig
from winnow.tracking.state import RunState, StateStore, head_of
from winnow.tracking.store import ROLE_TAG, UID_TAG, EntryRefused, connect, experiment_id, translated_errors

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

Entry = Mapping[str, Any]
ItemT = TypeVar("ItemT")

_LINES_PER_BATCH = 200
_MOST_METRICS, _MOST_TEXTS = 1000, 100  # in one request to MLflow
_VALUE_LENGTH, _DIGEST_LENGTH = 6000, 36
_SECRET = re.compile(r"(password|passwd|secret|credentials?|api_?key|(access|auth|hub|hf)_?token)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_UNNAMEABLE = re.compile(r"[^/\w.\- :]")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines of a journal; ``end`` is the byte after the last, ``num_garbled`` lines were not JSON."""

    entries: list[Entry]
    end: int
    num_garbled: int


def read_batch(journal: Path, offset: int) -> Batch:
    """The whole lines after ``offset``, a few hundred at most. A line that is still being written is left for later."""
    if not journal.exists():
        return Batch([], offset, 0)
    entries, num_garbled = [], 0
    with journal.open("rb") as file:
        file.seek(offset)
        for _ in range(_LINES_PER_BATCH):
            line = file.readline()
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            try:
                entries.append(json.loads(line))
            except ValueError:
                num_garbled += 1
    return Batch(entries, offset, num_garbled)


class Replayer:
    """Writes journals into one MLflow store. Not for use by two threads at a time."""

    def __init__(self, output: Path, config: TrackingConfig, uri: str) -> None:
        self.states = StateStore(output)
        self._artifacts = output / "mlartifacts"
        self._config = config
        self._uri = uri
        self._client: MlflowClient | None = None
        self._params: dict[str, dict[str, str]] = {}

    def replay(self, state: RunState) -> None:
        """Carry over what is new, and the end of the run if it has ended. Raises ``TrackerError``."""
        with translated_errors():
            run_id = self._ensure_run(state)
            if state.status == "RUNNING":
                self._show_status(state)
            while (batch := self._next_batch(state)).end > state.offset:
                self._apply(state, run_id, batch.entries)
                state.offset = batch.end
                state.refused += batch.num_garbled
                self.states.save(state)
            self._show_status(state)
        if state.status != "RUNNING":
            self._close(state)

    def client(self) -> "MlflowClient":
        """The connection, made when it is first needed."""
        if self._client is None:
            with translated_errors():
                self._client = connect(self._uri)
        return self._client

    def experiment(self, name: str) -> str:
        """The id of the experiment called ``name``, which is created if it is not there."""
        with translated_errors():
            return experiment_id(self.client(), name, artifacts=self._artifacts)

    def _next_batch(self, state: RunState) -> Batch:
        journal = state.journal_path
        if not state.follows(journal):
            # Another attempt's journal lies there now; it has a run of its own.
            return Batch([], state.offset, 0)
        state.head = state.head or head_of(journal)
        return read_batch(journal, state.offset)

    def _ensure_run(self, state: RunState) -> str:
        if state.run_id is None:
            parent = None if state.parent is None else self.states.find(state.parent)
            parent_id = None if parent is None else self._ensure_run(parent)
            state.run_id = self._find_run(state) or self._create_run(state, parent_id)
            self.states.save(state)
        return state.run_id

    def _find_run(self, state: RunState) -> str | None:
        experiment = self.experiment(state.experiment)
        found = self.client().search_runs([experiment], f"tags.`{UID_TAG}` = '{state.uid}'", max_results=1)
        return found[0].info.run_id if found else None

    def _create_run(self, state: RunState, parent_id: str | None) -> str:
        tags = {UID_TAG: state.uid, ROLE_TAG: "run" if parent_id is None else "step"}
        if parent_id is not None:
            tags["mlflow.parentRunId"] = parent_id
        experiment = self.experiment(state.experiment)
        started = int(state.started * 1000)
        return self.client().create_run(experiment, start_time=started, tags=tags, run_name=state.name).info.run_id

    def _show_status(self, state: RunState) -> None:
        if state.shown == state.status:
            return
        if state.status == "RUNNING":
            self.client().update_run(state.run_id, status="RUNNING")
        else:
            self.client().set_terminated(state.run_id, state.status, end_time=int((state.ended or 0) * 1000))
        state.shown = state.status
        self.states.save(state)

    def _close(self, state: RunState) -> None:
        self.states.close(state)
        if state.refused:
            print(
                f"tracking: {state.refused} journal lines of {state.name} were not accepted by MLflow; "
                f"all are in {state.journal_path}",
                file=sys.stderr,
            )

    def _apply(self, state: RunState, run_id: str, entries: Sequence[Entry]) -> None:
        try:
            with translated_errors():
                self._send_values(state, run_id, entries)
                for entry in entries:
                    self._send_one(state, run_id, entry)
        except EntryRefused as error:
            if len(entries) > 1:
                for entry in entries:
                    self._apply(state, run_id, [entry])
                return
            state.refused += 1
            print(f"tracking: MLflow refuses {json.dumps(entries[0])[:120]}: {error}", file=sys.stderr)

    def _send_values(self, state: RunState, run_id: str, entries: Sequence[Entry]) -> None:
        """Metrics, parameters and tags of all ``entries``, in as few requests as MLflow allows."""
        from mlflow.entities import Param, RunTag

        metrics = [metric for entry in entries for metric in _as_metrics(entry)]
        params, tags = self._split_params(run_id, entries)
        for chunk in _chunks(metrics, _MOST_METRICS):
            self.client().log_batch(run_id, metrics=chunk)
        for chunk in _chunks([Param(key, value) for key, value in params.items()], _MOST_TEXTS):
            self.client().log_batch(run_id, params=chunk)
        for chunk in _chunks([RunTag(key, value) for key, value in tags.items()], _MOST_TEXTS):
            self.client().log_batch(run_id, tags=chunk)
        self._known_params(run_id).update(params)

    def _split_params(self, run_id: str, entries: Sequence[Entry]) -> tuple[dict[str, str], dict[str, str]]:
        """Parameters that are new, and tags. MLflow keeps a parameter's first value, so a later one becomes a tag."""
        known, params, tags = self._known_params(run_id), {}, {}
        for entry in entries:
            texts = {_as_key(key): _as_value(key, value) for key, value in entry.get("values", {}).items()}
            if entry["kind"] == "tags":
                tags.update(texts)
            elif entry["kind"] == "params":
                for key, value in texts.items():
                    first = known.get(key, params.setdefault(key, value))
                    if key in known:
                        del params[key]
                    if first != value:
                        tags[f"changed.{key}"] = value
        return params, tags

    def _known_params(self, run_id: str) -> dict[str, str]:
        if run_id not in self._params:
            self._params[run_id] = dict(self.client().get_run(run_id).data.params)
        return self._params[run_id]

    def _send_one(self, state: RunState, run_id: str, entry: Entry) -> None:
        match entry["kind"]:
            case "params" | "metrics" | "tags":
                pass
            case "headline":
                self._send_headline(state, entry)
            case "dataset":
                self._send_dataset(run_id, entry)
            case "artifact":
                self._send_artifact(state.journal_path.parent, run_id, entry["path"])
            case "retriever_version":
                self._send_version(run_id, entry)
            case unknown:
                raise EntryRefused(f"no journal entry of kind {unknown!r} is known to this version of winnow")

    def _send_headline(self, state: RunState, entry: Entry) -> None:
        parent = None if state.parent is None else self.states.find(state.parent)
        if parent is not None:
            self.client().log_batch(self._ensure_run(parent), metrics=_as_metrics(entry))

    def _send_dataset(self, run_id: str, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": Path(entry["path"]).resolve().as_uri()})
        profile = json.dumps({"num_rows": entry["num_rows"], "digest": entry["digest"]})
        dataset = Dataset(entry["name"], entry["digest"][:_DIGEST_LENGTH], "local", source, profile=profile)
        tagged = DatasetInput(dataset, [InputTag("mlflow.data.context", entry["context"])])
        self.client().log_inputs(run_id, [tagged])

    def _send_artifact(self, directory: Path, run_id: str, name: str) -> None:
        path = directory / name
        if path.is_dir():
            self.client().log_artifacts(run_id, str(path), name)
        elif path.is_file():
            folder = Path(name).parent.as_posix()
            self.client().log_artifact(run_id, str(path), None if folder == "." else folder)
        else:
            raise EntryRefused(f"there is no file {str(path)!r} any more")

    def _send_version(self, run_id: str, entry: Entry) -> None:
        model = self._config.model_name
        number, decision = registry.register(
            self.client(), run_id, entry, model=model, min_gain=self._config.champion_min_gain
        )
        self.client().set_tag(run_id, "winnow.retriever_version", number)
        print(f"tracking: retriever version {number} of {model!r}: {decision}", flush=True)


def _as_metrics(entry: Entry) -> "list[Metric]":
    from mlflow.entities import Metric

    if entry["kind"] not in ("metrics", "headline"):
        return []
    time_ms, step = int(entry["time"] * 1000), entry.get("step", 0)
    return [Metric(_as_key(key), value, time_ms, step) for key, value in entry["values"].items()]


def _as_key(name: str) -> str:
    """``name`` in the letters that MLflow allows: ``nDCG@10`` becomes ``nDCG_at_10``."""
    return _UNNAMEABLE.sub("_", name.replace("@", "_at_"))


def _as_value(key: str, value: Any) -> str:
    if _SECRET.search(key):
        return "(not recorded)"
    text = _CREDENTIALS.sub("://", str(value))
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 6]} (cut)"


def _chunks(items: Sequence[ItemT], size: int) -> Iterator[list[ItemT]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
