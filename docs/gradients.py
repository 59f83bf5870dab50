"""The picture of docs/train.md, how hard each objective pulls on each passage: `python docs/gradients.py`.

A pull is -d loss / d score, by autograd through the objectives themselves.
Legend: Q rows of scores, P passages: two positives, then two negatives.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from winnow.losses.objectives import infonce, joint_lh, lse_pair, sum_marg_lh

Objective = Callable[[Tensor, Tensor], Tensor]

PICTURE = Path(__file__).parent / "images" / "gradients.svg"
SCORES = (2.0, 1.0, 0.5, -1.0)
IS_POSITIVE = (True, True, False, False)
_PASSAGE_COLOURS = ("#1b7f5c", "#7cc9a8", "#b5533c", "#e3a793")
_BAR_WIDTH = 0.19


def rand1lh(scores_QP: Tensor, is_positive_QP: Tensor) -> Tensor:
    """InfoNCE averaged over the draws of one positive; the others are no candidates then."""
    losses = []
    for drawn_P in torch.eye(scores_QP.shape[1], dtype=torch.bool)[is_positive_QP[0]]:
        left_out_QP = is_positive_QP & ~drawn_P
        losses.append(infonce(scores_QP.masked_fill(left_out_QP, -torch.inf), is_positive_QP & drawn_P))
    return torch.stack(losses).mean(dim=0)


OBJECTIVES: dict[str, Objective] = {
    "Rand1LH": rand1lh,
    "JointLH,\nmean": partial(joint_lh, normalise=True),
    "SumMargLH": sum_marg_lh,
    "LSEPair": lse_pair,
    "LSEPair,\nmin\npositive": partial(lse_pair, positives="min"),
    "LSEPair,\nmax\npositive": partial(lse_pair, positives="max"),
    "LSEPair,\nmax\nnegative": partial(lse_pair, negatives="max"),
}
_LINES = {
    "Rand1LH": ("#777777", "-"),
    "JointLH,\nmean": ("#c58a00", "-"),
    "SumMargLH": ("#0072b2", "-"),
    "LSEPair": ("#b3266b", "-"),
    "LSEPair,\nmin\npositive": ("#b3266b", "--"),
    "LSEPair,\nmax\npositive": ("#b3266b", ":"),
}


def pulls(objective: Objective, scores_QP: Tensor) -> Tensor:
    """Pull on every passage of every row."""
    scores_QP = scores_QP.clone().requires_grad_()
    objective(scores_QP, torch.tensor(IS_POSITIVE).expand_as(scores_QP)).sum().backward()
    return -scores_QP.grad


def draw() -> Figure:
    """Pulls on the four passages of the worked example, and on a positive as its score rises."""
    figure = Figure(figsize=(12.5, 4.6), layout="constrained", facecolor="white")
    passages, rising = figure.subplots(1, 2, width_ratios=(1.45, 1))
    _draw_passages(passages)
    _draw_rising(rising)
    for axes in (passages, rising):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_passages(axes: Axes) -> None:
    by_objective = [pulls(objective, torch.tensor([SCORES]))[0].tolist() for objective in OBJECTIVES.values()]
    for column, (score, is_positive) in enumerate(zip(SCORES, IS_POSITIVE, strict=True)):
        places = [group + (column - 1.5) * _BAR_WIDTH for group in range(len(OBJECTIVES))]
        label = f"{'positive' if is_positive else 'negative'} at {_spell(score)}"
        axes.bar(places, [row[column] for row in by_objective], _BAR_WIDTH, color=_PASSAGE_COLOURS[column], label=label)
    axes.set_xticks(range(len(OBJECTIVES)), OBJECTIVES, fontsize=9)
    axes.set_ylabel("pull on the score, −∂loss / ∂score")
    axes.set_title("Two positives and two negatives")
    axes.legend(ncols=2, fontsize=9, loc="upper left", frameon=False)
    axes.set_ylim(top=0.62)


def _draw_rising(axes: Axes) -> None:
    score_Q = torch.linspace(-4, 4, 161)
    scores_QP = torch.tensor([SCORES]).repeat(len(score_Q), 1)
    scores_QP[:, 0] = score_Q
    for name, (colour, style) in _LINES.items():
        pull_Q = pulls(OBJECTIVES[name], scores_QP)[:, 0]
        axes.plot(score_Q.tolist(), pull_Q.tolist(), style, color=colour, linewidth=1.8, label=name.replace("\n", " "))
    axes.axvline(SCORES[1], color="black", linewidth=0.8, linestyle=(0, (1, 3)))
    other, *negatives = map(_spell, SCORES[1:])
    axes.annotate("the other positive", (SCORES[1], -0.42), (-4, 0), textcoords="offset points", ha="right", fontsize=9)
    axes.set_xlabel(f"its score (the other positive at {other}, negatives at {' and '.join(negatives)})")
    axes.set_ylabel("pull on its score (below 0: pushed down)")
    axes.set_title("One positive, as its score rises")
    axes.legend(fontsize=9, frameon=True, framealpha=1, edgecolor="white", loc="upper right")


def _spell(score: float) -> str:
    return f"{score:g}".replace("-", "−")


def save(path: Path) -> None:
    """The picture at ``path``, equal bytes for equal pulls."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "winnow"}):
        draw().savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    save(PICTURE)
