"""Length-aware batches: texts of like length together, so that little padding is computed."""

from collections.abc import Sequence


def batches_by_length(lengths: Sequence[int], *, max_tokens: int, packed: bool = False) -> list[list[int]]:
    """Positions in batches of at most ``max_tokens`` tokens, longest texts first.

    Padding counts, unless texts are ``packed`` without any. The longest batch comes first, so a batch that does
    not fit in memory fails at once. A text longer than ``max_tokens`` gets a batch of its own.

    >>> batches_by_length([3, 9, 2, 8], max_tokens=18)
    [[1, 3], [0, 2]]
    >>> batches_by_length([3, 9, 2, 8], max_tokens=20, packed=True)
    [[1, 3, 0], [2]]
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batches: list[list[int]] = []
    filled = 0
    for position in order:
        # The first text of a padded batch is its longest: it sets the width of every row.
        width = lengths[position] if packed or not batches else lengths[batches[-1][0]]
        if batches and filled + width <= max_tokens:
            batches[-1].append(position)
            filled += width
        else:
            batches.append([position])
            filled = lengths[position]
    return batches
