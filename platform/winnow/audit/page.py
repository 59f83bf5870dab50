"""The audit as one HTML file that needs no network, and runs no script but its own.

Queries, passages and replies are foreign text. They are embedded as JSON in which nothing can end the element
it stands in, and the script puts them on the page as text alone.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from winnow.audit.report import AuditReport
from winnow.audit.tables import sections, sentences
from winnow.files import replacing

_HERE = Path(__file__).parent
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_PICTURES = {
    "agreement.png": "The judge's labels and order against human labels; what judging adds to the ranked lists",
    "positions.png": "Share of positives at each position in the prompt, with intervals",
    "positives.png": "How many queries have how many positives",
}


@dataclass(frozen=True)
class Browsed:
    """The queries on the page, and out of how many of each kind they are."""

    queries: Sequence[Mapping[str, Any]]
    num_queries: int
    num_failed: int
    num_disputed: int

    def sentence(self) -> str:
        """How many of how many, by kind."""
        failed = sum(query["status"] != "ok" for query in self.queries)
        disputed = sum(query["status"] == "ok" and bool(query["marks"]) for query in self.queries)
        return (
            f"{len(self.queries):,} of {self.num_queries:,} queries are here: "
            f"{failed:,} of {self.num_failed:,} failures, {disputed:,} of {self.num_disputed:,} disagreements, "
            f"and {len(self.queries) - failed - disputed:,} others drawn at random."
        )


def write_page(path: Path, report: AuditReport, browsed: Browsed, pictures: Sequence[Path]) -> Path:
    """``path``, holding the report, its pictures and the queries."""
    style, script = (_HERE / "page.css").read_text("utf-8"), (_HERE / "page.js").read_text("utf-8")
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html.jinja").render(
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        report=report,
        sections=sections(report),
        sentences=[*sentences(report), browsed.sentence()],
        pictures=[(_PICTURES[picture.name], _data_url(picture)) for picture in pictures],
        queries=Markup(as_script_data(browsed.queries)),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def as_script_data(value: Any) -> str:
    """``value`` as JSON that may stand inside an HTML script element, whatever texts are in it.

    >>> as_script_data({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _policy(style: str, script: str) -> str:
    """A content security policy that allows this style, this script and embedded pictures; nothing is fetched."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash_source(style)}; script-src {_hash_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
