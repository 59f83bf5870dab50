"""Which arithmetic a processor is quick at."""

from functools import cache
from pathlib import Path
from typing import Literal

Precision = Literal["bfloat16", "float16", "float32"]

_HAVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names the instructions on x86 and on ARM."""


def quick_precision(*, gpus: int) -> Precision:
    """bfloat16 on a GPU, and on a CPU that has it: without the instructions, float32 is several times as fast."""
    return "bfloat16" if gpus or has_bfloat16(_cpu_description()) else "float32"


def has_bfloat16(cpu_description: str) -> bool:
    """Whether the processors of a ``/proc/cpuinfo`` compute in bfloat16.

    >>> has_bfloat16("flags : fpu avx2 avx512f avx512_bf16"), has_bfloat16("flags : fpu avx2"), has_bfloat16("")
    (True, False, False)
    """
    lines = (line.partition(":") for line in cpu_description.splitlines())
    instructions = (words.split() for name, _, words in lines if name.strip() in ("flags", "Features"))
    return any(not _HAVE_BFLOAT16.isdisjoint(names) for names in instructions)


@cache
def _cpu_description() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
