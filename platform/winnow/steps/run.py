"""All steps from one configuration, each skipped when its output is there."""

import time

from winnow.cluster.runtime import ray_session
from winnow.steps.config import RunConfig
from winnow.steps.evaluate import print_report
from winnow.steps.serve import serve, serve_in_background
from winnow.steps.verbs import step_named
from winnow.steps.workspace import StepOptions, StepResult
from winnow.tracking.recorder import MlflowRecorder

VERBS = ["ingest", "pool", "annotate", "label", "train", "index", "evaluate"]


def run(config: RunConfig, *, force: bool = False, keep: bool = False) -> dict[str, StepResult]:
    """The result of every step, by verb; prints the comparison, the answers over HTTP, and where to look next."""
    started = time.monotonic()
    results: dict[str, StepResult] = {}
    with MlflowRecorder(config, run_name=config.name) as recorder:
        options = StepOptions(force=force, recorder=recorder)
        with ray_session(config.cluster):
            for verb in VERBS:
                results[verb] = step_named(verb)(config, options)
            if config.serve.ask and not keep:
                results["serve"] = serve(config, options)
        if keep:
            results["serve"] = serve_in_background(config, options)
    print_report(results["evaluate"])
    _print_times(results, time.monotonic() - started)
    print("\n".join(recorder.how_to_look()), flush=True)
    return results


def _print_times(results: dict[str, StepResult], seconds: float) -> None:
    steps = ", ".join(f"{verb} {'skipped' if result.skipped else 'done'}" for verb, result in results.items())
    print(f"\nrun: {steps}; {seconds:.0f} s in all", flush=True)
