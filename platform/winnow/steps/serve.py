"""The retriever version behind an HTTP endpoint: for three questions, until Ctrl-C, or in the background."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from winnow.api.ports import check_port
from winnow.client import KEY_VARIABLE, WinnowClient
from winnow.cluster.control import ServingPlan
from winnow.cluster.runtime import ray_session
from winnow.cluster.serving import plan_serving, serving
from winnow.errors import WinnowError
from winnow.files import write_json
from winnow.records import ScoredPassage
from winnow.retrieval.manifest import read_manifest
from winnow.retrieval.reference import parse_reference
from winnow.steps.config import RunConfig
from winnow.steps.served import served_reference
from winnow.steps.workspace import StepContext, StepOptions, StepPlan, StepResult, produce

STEP_VERSION = "1"
ANSWERS = "answers.json"
_SHOWN_CHARS = 110


def plan(config: RunConfig) -> StepPlan:
    """What ``serve`` would answer for ``config``."""
    settings = {"ask": list(config.serve.ask), "ask_k": config.serve.ask_k}
    return StepPlan("serve", STEP_VERSION, config.output, settings, {"retriever": _identity(served_reference(config))})


def serve(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """Answers to ``serve.ask`` over HTTP, shown and stored; everything that was started is stopped."""
    # What matters is that the endpoint works now, so an earlier answer is never enough.
    return produce(plan(config), partial(_build, config), replace(options, force=True))


def serve_in_background(config: RunConfig, options: StepOptions = StepOptions()) -> StepResult:
    """The same answers from an endpoint that stays up after this process has ended."""
    return produce(plan(config), partial(_build_in_background, config), replace(options, force=True))


def serve_until_stopped(config: RunConfig) -> None:
    """Returns after Ctrl-C or SIGTERM, when everything that was started has been stopped."""
    started = time.monotonic()
    with ray_session(config.cluster), serving(_plan_serving(config)) as url:
        _announce(url, time.monotonic() - started)
        print(f"[serve] try it: {_example_call(url)}\n[serve] stop with Ctrl-C", flush=True)
        _wait_for_stop_signal()
        print("[serve] stopping", flush=True)


def _build(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    started = time.monotonic()
    with ray_session(config.cluster), serving(_plan_serving(config)) as url:
        summary = _ask(config, context, url, time.monotonic() - started)
    print("[serve] stopped: port closed, no process left", flush=True)
    return summary


def _build_in_background(config: RunConfig, context: StepContext) -> Mapping[str, Any]:
    started = time.monotonic()
    process, url = _spawn(config, context.output / "serve")
    try:
        summary = _ask(config, context, url, time.monotonic() - started)
    except WinnowError:
        process.terminate()
        raise
    print(f"[serve] still running: {_example_call(url)}\n[serve] stop it with: kill {process.pid}", flush=True)
    return {**summary, "url": url, "pid": process.pid}


def _plan_serving(config: RunConfig) -> ServingPlan:
    return plan_serving(served_reference(config), config.serve, output=config.output)


def _identity(reference: str) -> str:
    """What is served, without the path of one machine; an entry of the registry is known by its name only."""
    target = parse_reference(reference)
    return read_manifest(target).version if isinstance(target, Path) else reference


def _ask(config: RunConfig, context: StepContext, url: str, seconds_to_ready: float) -> Mapping[str, Any]:
    version = _announce(url, seconds_to_ready)
    if config.serve.keys is not None and not os.environ.get(KEY_VARIABLE):
        print(f"[serve] serve.ask is left out: the endpoint asks for a key, and {KEY_VARIABLE} is not set", flush=True)
        return {"version": version, "num_questions": 0, "seconds_to_ready": round(seconds_to_ready, 1)}
    answers = _search(url, config.serve.ask, config.serve.ask_k)
    for question, hits in answers.items():
        print(_render(question, hits), flush=True)
    context.journal.params({"serve.version": version, "serve.num_questions": len(answers)})
    context.journal.metrics({"serve.seconds_to_ready": seconds_to_ready})
    rows = {question: [_as_row(hit) for hit in hits] for question, hits in answers.items()}
    write_json(context.directory / ANSWERS, rows)
    return {"version": version, "num_questions": len(answers), "seconds_to_ready": round(seconds_to_ready, 1)}


def _search(url: str, questions: Sequence[str], k: int) -> dict[str, list[ScoredPassage]]:
    with WinnowClient(url) as client:
        return {question: client.search([question], k)[0] for question in questions}


def _announce(url: str, seconds: float) -> str:
    with WinnowClient(url) as client:
        version = str(client.ready())
    print(f"[serve] ready in {seconds:.1f} s: {url}, retriever version {version}", flush=True)
    return version


def _render(question: str, hits: Sequence[ScoredPassage]) -> str:
    lines = [f"\n  {question}"]
    for rank, hit in enumerate(hits, start=1):
        text = " ".join(hit.text.split())
        shown = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."
        lines += [f"  {rank:3d}. {hit.score:.4f}  {hit.title or hit.passage_id}", f"               {shown}"]
    return "\n".join(lines)


def _as_row(hit: ScoredPassage) -> dict[str, Any]:
    return {"passage_id": hit.passage_id, "score": hit.score, "title": hit.title}


def _example_call(url: str) -> str:
    body = '{"query": "how do I copy a file?", "k": 3}'
    return f"curl {url}/v1/search -H 'content-type: application/json' -d {shlex.quote(body)}"


def _wait_for_stop_signal() -> None:
    """Returns at the first Ctrl-C or SIGTERM; a second one interrupts the stop that follows."""
    stopped = threading.Event()
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in watched}
    stopped.wait()
    for number, handler in before.items():
        signal.signal(number, handler)


def _spawn(config: RunConfig, directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    """``winnow serve`` as a process that outlives this one, and its URL, once it answers."""
    check_port(config.serve.host, config.serve.port)
    settings = directory / f"port-{config.serve.port}.yaml"
    log = settings.with_suffix(".log")
    settings.write_text(_as_yaml(config), encoding="utf-8")
    command = [sys.executable, "-m", "winnow.cli", "serve", "--config", str(settings)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = config.serve.url
    # Beyond the replica's own time limit lies the start of a Ray.
    _wait_for(process, url, log, timeout_s=config.serve.start_timeout_s + 60)
    return process, url


def _as_yaml(config: RunConfig) -> str:
    # Only what was set: a default that is written out looks like a wish, and some settings exclude each other.
    settings = config.model_dump(mode="json", exclude_unset=True)
    settings["output"] = str(config.output.resolve())
    settings.setdefault("serve", {})["retriever"] = served_reference(config)
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with WinnowClient(url) as client:
        while not client.ready():
            if process.poll() is not None:
                raise WinnowError(f"the endpoint ended with exit code {process.returncode}; see {log}\n{_tail(log)}")
            if time.monotonic() > deadline:
                process.terminate()
                raise WinnowError(f"{url} did not answer within {timeout_s:g} s and was stopped; see {log}")
            time.sleep(0.2)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
