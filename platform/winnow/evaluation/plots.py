"""One picture per collection: the means with their uncertainty, and the gain of every question."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from winnow.evaluation.measures import Values
from winnow.evaluation.significance import mean_interval
from winnow.evaluation.tables import BASELINE, HYBRID, LEXICAL, TRAINED, CollectionReport
from winnow.files import replacing

_COLOURS = {LEXICAL: "#b0b0b0", BASELINE: "#7fa7cf", TRAINED: "#d97a3a", HYBRID: "#7aa874"}
_BAR_WIDTH = 0.2


def plot_report(path: Path, report: CollectionReport, values: Mapping[str, Values]) -> Path:
    """``path``, a PNG: means with confidence intervals at the left, the primary measure per question at the right.

    ``values`` are those that ``report`` was made from, by system, measure and query id.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    bars, gains = figure.subplots(1, 2)
    _draw_means(bars, values, report.measures, report.level)
    _draw_gains(gains, values[TRAINED][report.primary], values[BASELINE][report.primary], report.primary)
    figure.suptitle(f"{report.collection}: {report.num_queries} questions")
    with replacing(path) as temporary:
        # Without the software tag, so that equal numbers give equal bytes.
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    return path


def _draw_means(axes: Axes, values: Mapping[str, Values], measures: Sequence[str], level: float) -> None:
    for offset, (system, by_measure) in enumerate(values.items()):
        intervals = [mean_interval(list(by_measure[name].values()), level=level) for name in measures]
        centres = [(low + high) / 2 for low, high in intervals]
        positions = [index + (offset - (len(values) - 1) / 2) * _BAR_WIDTH for index in range(len(measures))]
        errors = [(high - low) / 2 for low, high in intervals]
        axes.bar(positions, centres, _BAR_WIDTH, yerr=errors, label=system, color=_COLOURS[system], capsize=2)
    axes.set_xticks(range(len(measures)), measures)
    axes.set_ylim(0, 1.2)
    axes.set_title(f"means, {100 * (1 - level):g} % intervals")
    axes.legend(loc="upper center", ncols=4)


def _draw_gains(axes: Axes, trained: Mapping[str, float], baseline: Mapping[str, float], primary: str) -> None:
    gains = sorted((trained[query_id] - baseline[query_id] for query_id in trained), reverse=True)
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    axes.bar(range(len(gains)), gains, width=1.0, color=[_COLOURS[TRAINED if gain > 0 else BASELINE] for gain in gains])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(f"{primary} per question, {TRAINED} minus {BASELINE}")
    axes.set_xlabel(f"questions, sorted: {better} better, {len(gains) - better - worse} equal, {worse} worse")
