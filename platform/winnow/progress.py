"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Progress:
    """Counts work done. ``note`` shows short facts (failures, loss) beside the bar."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def advance(self, count: int = 1) -> None:
        self._bar.update(count)

    def note(self, **facts: object) -> None:
        self._bar.set_postfix({key: str(value) for key, value in facts.items()}, refresh=False)


@contextmanager
def progress(total: int, *, label: str, unit: str = "rows") -> Iterator[Progress]:
    """A progress bar with rate and remaining time; outside a terminal it writes a line every 10 seconds."""
    is_terminal = sys.stderr.isatty()
    bar = tqdm(
        total=total,
        desc=label,
        unit=f" {unit}",
        mininterval=0.3 if is_terminal else 10,
        dynamic_ncols=is_terminal,
        ncols=None if is_terminal else 100,
        file=sys.stderr if is_terminal else _LinePerUpdate(),
    )
    started = time.monotonic()
    try:
        yield Progress(bar)
    finally:
        seconds = max(time.monotonic() - started, 1e-9)
        done = bar.n
        bar.close()
        print(f"{label}: {done:,} {unit} in {seconds:.1f} s ({done / seconds:,.1f} {unit}/s)", flush=True)


class _LinePerUpdate:
    """A log cannot rewrite a line, so each update becomes a line of its own."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()
