"""Pictures of an audit: agreement with people, positives by position, positives per query."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from winnow.audit.biases import PositionBias
from winnow.audit.lists import ListComparison
from winnow.audit.people import HumanAgreement
from winnow.audit.report import AuditReport
from winnow.audit.resampling import Estimate
from winnow.files import replacing

_COLOURS = ("#d97a3a", "#b0b0b0", "#7fa7cf")
_BAR_WIDTH = 0.26


def plot_audit(directory: Path, report: AuditReport) -> list[Path]:
    """PNG files in ``directory``; a picture of nothing is left out."""
    made = []
    if report.people is not None:
        made.append(_save(directory / "agreement.png", _agreement(report.people, report.lists)))
    if report.positions.places:
        made.append(_save(directory / "positions.png", _positions(report.positions)))
        made.append(_save(directory / "positives.png", _histogram(report.queries.positives)))
    return made


def _agreement(people: HumanAgreement, lists: ListComparison | None) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    order = people.order
    shown = [people.precision, people.recall, people.kappa, order.first_right, order.auc, order.sibling_auc]
    _bars(left, shown, offset=0, colour=_COLOURS[0])
    left.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    left.set_xticks(range(6), ["precision", "recall", "kappa", "first is\nright", "AUC", "AUC vs\nsiblings"])
    left.set_title("the judge, against human labels (an AUC of .5 is chance)")
    if lists is not None:
        rankings = {"judged pool": lists.judged, **lists.lists}
        for number, (name, by_measure) in enumerate(rankings.items()):
            offset = (number - (len(rankings) - 1) / 2) * _BAR_WIDTH
            colour = _COLOURS[number % len(_COLOURS)]
            _bars(right, list(by_measure.values()), offset=offset, colour=colour, label=name)
        right.set_xticks(range(len(lists.judged)), list(lists.judged))
        right.legend(loc="upper center", ncols=2)
    right.set_title("what judging adds to the lists")
    for axes in (left, right):
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]), top=1.2)
    return figure


def _bars(axes: Axes, found: Sequence[Estimate | None], *, offset: float, colour: str, label: str = "") -> None:
    known = [(place, each) for place, each in enumerate(found) if each is not None and each.value is not None]
    if not known:
        return
    places, values = [place + offset for place, _ in known], [each.value for _, each in known]
    axes.bar(places, values, _BAR_WIDTH, yerr=_reach([each for _, each in known]), color=colour, label=label, capsize=2)


def _reach(found: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above their values."""
    below = [0.0 if each.low is None else max(0.0, each.value - each.low) for each in found]
    above = [0.0 if each.high is None else max(0.0, each.high - each.value) for each in found]
    return below, above


def _positions(positions: PositionBias) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    places = [place for place in positions.places if place.share.value is not None]
    where = [place.position for place in places]
    shares = [place.share for place in places]
    axes.errorbar(
        where,
        [each.value for each in shares],
        yerr=_reach(shares),
        fmt="o",
        color=_COLOURS[0],
        label="the judge",
        capsize=2,
    )
    chance = [place.expected / place.num_pairs for place in places]
    axes.plot(where, chance, color="black", linewidth=0.8, linestyle=":", label="if order said nothing")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("position in the prompt")
    axes.set_title("share of positives by position, 95 % intervals")
    axes.legend()
    return figure


def _histogram(positives: Mapping[int, int]) -> Figure:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.bar(list(positives), list(positives.values()), color=_COLOURS[2])
    axes.set_xlabel("positives of a query")
    axes.set_ylabel("queries")
    axes.set_title("positives per query")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _save(path: Path, figure: Figure) -> Path:
    with replacing(path) as temporary:
        # Without the software tag, so that equal numbers give equal bytes.
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    return path
