"""The kinds of vector index that Winnow builds: a closed part of FAISS's factory strings."""

import re
from dataclasses import dataclass
from typing import Literal

_SCALAR = r"SQ(?:4|6|8|fp16|bf16)"
_PRODUCT = r"PQ[1-9]\d*(?:x(?:[4-9]|1[0-2]))?"
_ROTATION = r"(?:OPQ[1-9]\d*(?:_[1-9]\d*)?,)"
_LISTS = r"IVF(?P<lists>[1-9]\d{0,6})"
_FORMS = {
    "flat": "Flat",
    "scalar": _SCALAR,
    "product": f"{_ROTATION}?{_PRODUCT}",
    "hnsw": rf"HNSW[1-9]\d{{0,2}}(?:[,_](?:Flat|{_SCALAR}))?",
    "ivf": f"{_LISTS},(?:Flat|{_SCALAR})|{_ROTATION}?{_LISTS.replace('lists', 'more_lists')},{_PRODUCT}",
}
FORMS = (
    "Flat, SQ8 (or SQ4, SQ6, SQfp16, SQbf16), PQ48 (or PQ48x4 to PQ48x12), OPQ48,PQ48 (or OPQ48_192,PQ48), "
    "HNSW32, HNSW32,SQ8, IVF1024,Flat, IVF1024,SQ8, IVF1024,PQ48, OPQ48,IVF1024,PQ48"
)
"""The accepted factory strings, by example; the numbers may be others."""


@dataclass(frozen=True, slots=True)
class Factory:
    """What a factory string asks for."""

    kind: Literal["flat", "scalar", "product", "hnsw", "ivf"]
    is_quantised: bool
    """The index keeps codes that are shorter than the vectors."""
    needs_training: bool
    """Lists or codes are learned from vectors."""
    is_rotated: bool
    """Vectors are rotated before they are coded."""
    num_lists: int = 0
    """IVF: how many."""


def parse_factory(text: str) -> Factory:
    """The meaning of a FAISS factory string. Raises ``ValueError`` with the accepted forms.

    >>> parse_factory("IVF1024,PQ48").num_lists
    1024
    >>> parse_factory("SQfp16").needs_training
    False
    """
    for kind, form in _FORMS.items():
        if match := re.fullmatch(form, text, re.ASCII):
            lists = next((int(value) for value in match.groupdict().values() if value), 0)
            code = re.split("[,_]", text)[-1]
            is_learned = kind == "ivf" or code.startswith("PQ") or re.fullmatch(r"SQ\d", code) is not None
            return Factory(kind, code.startswith(("SQ", "PQ")), is_learned, text.startswith("OPQ"), lists)
    raise ValueError(f"{text[:60]!r} is no kind of index that Winnow builds; use one of these forms: {FORMS}")
