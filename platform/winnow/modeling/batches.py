"""Length-aware batches: texts of like length together, so that little padding is computed."""

from collections.abc import Sequence


def batches_by_length(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Positions in batches of at most ``max_tokens`` tokens, padding included; longest texts first.

    The longest batch comes first, so a batch that does not fit in memory fails at once.
    A text longer than ``max_tokens`` gets a batch of its own.

    >>> batches_by_length([3, 9, 2, 8], max_tokens=18)
    [[1, 3], [0, 2]]
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batches: list[list[int]] = []
    for position in order:
        # The first text of a batch is its longest: it sets the width of every row.
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
