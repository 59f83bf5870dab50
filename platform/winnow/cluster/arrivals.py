"""Whether the driver can read what actors on other machines say they have written.

An output that is not shared, or a listing that stays stale, would otherwise publish what is left as if it were all.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from winnow.cluster.sink import EvidenceSink
from winnow.errors import DataError

PATIENCE_S = 60.0
"""Network disks remember a listing for about this long."""
_PAUSE_S = 0.5
_LOOK_EVERY_S = 5.0
"""While receipts come in: a listing of many parts takes milliseconds."""


@dataclass
class _Part:
    node: str
    num_queries: int
    deadline: float


@dataclass
class Arrivals:
    """The parts that receipts name and the driver has not seen yet. Each has ``patience_s`` from its receipt on."""

    sink: EvidenceSink
    patience_s: float = PATIENCE_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _expected: dict[str, _Part] = field(default_factory=dict)
    _next_look: float = 0.0

    def expect(self, receipts: pa.Table) -> None:
        """Parts to look out for. Raises ``DataError`` if an earlier one is overdue."""
        counts = Counter(zip(receipts["part"].to_pylist(), receipts["node"].to_pylist(), strict=True))
        for (name, node), num_queries in counts.items():
            self._expected[name] = _Part(node, num_queries, self.clock() + self.patience_s)
        if self.clock() >= self._next_look:
            self._look()

    def wait(self) -> None:
        """Returns when every part has been seen. Raises ``DataError`` if one is overdue."""
        while self._look():
            self.sleep(_PAUSE_S)

    def _look(self) -> int:
        """How many parts are still out."""
        self._next_look = self.clock() + _LOOK_EVERY_S
        missing = self.sink.missing(self._expected)
        self._expected = {name: part for name, part in self._expected.items() if name in missing}
        for name, part in self._expected.items():
            if self.clock() >= part.deadline:
                raise self._not_seen(name, part)
        return len(self._expected)

    def _not_seen(self, name: str, part: _Part) -> DataError:
        return DataError(
            f"node {part.node!r} has judged {part.num_queries} queries into {name!r}, and after {self.patience_s:g} s "
            f"that file cannot be seen in {str(self.sink.directory)!r} from {socket.gethostname()!r}; give `output` a "
            f"folder that every machine shares and run the same command again"
        )
