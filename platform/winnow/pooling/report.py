"""The statistics of pools as a table, as sentences and as a picture."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from winnow.files import replacing
from winnow.pooling.statistics import PoolStatistics

NO_HUMAN_POSITIVES = "recall needs human positives: name judged pairs as `data.train.qrels`"


def render_recall(statistics: PoolStatistics) -> Table:
    """Recall of the human positives: a row per list, below them their union and the pools."""
    table = Table(title=f"recall of human positives, {statistics.num_judged:,} questions", title_justify="left")
    table.add_column("list")
    for depth in statistics.union_recall:
        table.add_column(f"@{depth}", justify="right")
    depths = list(statistics.union_recall)
    for source, curve in statistics.recall.items():
        table.add_row(source, *_cells(curve, depths), end_section=source == list(statistics.recall)[-1])
    table.add_row("union", *_cells(statistics.union_recall, depths))
    table.add_row("pool", *[""] * (len(depths) - 1), f"{statistics.pool_recall:.3f}")
    return table


def render_counts(statistics: PoolStatistics) -> list[str]:
    """What else the pools hold, in sentences."""
    found_by = ", ".join(f"{count:,} found by {source}" for source, count in statistics.found_by.items())
    lines = [
        f"{statistics.num_pools:,} questions, {statistics.num_candidates:,} candidates "
        f"({statistics.mean_size:.1f} per question, {statistics.fewest} to {statistics.most}); {found_by or 'none'}"
    ]
    if statistics.num_judged:
        positives = statistics.human_positives
        lines.append(
            f"{sum(positives.values()):,} human positives of {statistics.num_judged:,} questions: "
            f"{positives['found']:,} in the pools and on a list, {positives['added']:,} added, "
            f"{positives['missing']:,} missing; recall of the pools {statistics.pool_recall:.3f}"
        )
    for source, count in statistics.empty_lists.items():
        lines.append(f"{source} found nothing for {count:,} questions")
    if statistics.num_empty_pools:
        lines.append(
            f"{statistics.num_empty_pools:,} questions have no candidate; they are kept with an empty pool and will be "
            f"labelled `empty_pool`. A dense source finds something for every question"
        )
    return lines


def plot_recall(path: Path, statistics: PoolStatistics) -> Path:
    """``path``, a PNG: recall of human positives by depth, for each list, their union and the pools."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for source, curve in statistics.recall.items():
        axes.plot(list(curve), list(curve.values()), marker="o", label=source)
    union = statistics.union_recall
    axes.plot(list(union), list(union.values()), marker="s", linestyle="--", color="black", label="union")
    axes.axhline(statistics.pool_recall or 0.0, color="grey", linestyle=":", label="pool")
    axes.set_xscale("log")
    axes.set_xticks(list(union), [str(depth) for depth in union], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("depth of the list")
    axes.set_ylabel("recall of human positives")
    axes.set_title(f"{statistics.num_judged:,} questions with human positives")
    axes.legend()
    with replacing(path) as temporary:
        # Without the software tag, so that equal numbers give equal bytes.
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    return path


def _cells(curve: Mapping[int, float], depths: list[int]) -> list[str]:
    # A list that is not read to a depth has no recall there.
    return [f"{curve[depth]:.3f}" if depth in curve else "-" for depth in depths]
