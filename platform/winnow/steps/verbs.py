"""One verb on its own: its step, followed by the experiment tracker."""

from collections.abc import Callable
from importlib import import_module

from winnow.steps.config import RunConfig
from winnow.steps.workspace import StepOptions, StepResult
from winnow.tracking.recorder import MlflowRecorder

Step = Callable[[RunConfig, StepOptions], StepResult]
_WITH_REPORT = {"audit", "evaluate"}


def step_named(verb: str) -> Step:
    """The function of ``verb``; its module is imported only now, because some of them are heavy."""
    return getattr(import_module(f"winnow.steps.{verb}"), verb)


def run_verb(verb: str, config: RunConfig, *, force: bool = False) -> StepResult:
    """The result of one step, recorded as a run of its own."""
    with MlflowRecorder(config, run_name=f"{config.name}-{verb}") as recorder:
        result = step_named(verb)(config, StepOptions(force=force, recorder=recorder))
    if verb in _WITH_REPORT:
        import_module(f"winnow.steps.{verb}").print_report(result)
    return result
