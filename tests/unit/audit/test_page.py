"""The page: foreign text stays text, and nothing is fetched."""

import base64
import json
import re
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from winnow.audit.biases import length_bias, position_bias
from winnow.audit.page import Browsed, as_script_data, write_page
from winnow.audit.report import AuditReport, QueryCounts

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "<!-- <script> -->",
    "line\u2028paragraph\u2029end",
    '"quoted" & \\u003c \x00 é',
]


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of the script and style elements."""

    def __init__(self, page):
        super().__init__()
        self.found, self.texts, self._inside = [], {}, None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = dict(attrs).get("id", tag)

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data


def query(text, status="ok", marks=()):
    passage = {"passage_id": "p", "title": text, "text": text, "human_label": None, "found_by": [text]}
    return {
        "query_id": text,
        "query": text,
        "status": status,
        "marks": list(marks),
        "passages": [passage],
        "traces": [],
    }


@pytest.fixture
def page(judged, tmp_path):
    def make(texts=HOSTILE, judge_id="a-judge"):
        pairs = judged({"q1": "J."})
        counts = QueryCounts({"ok": 1}, {1: 1}, 2, 0, 0, 0)
        positions, lengths = (bias(pairs, samples=100, seed=1) for bias in (position_bias, length_bias))
        report = AuditReport(judge_id, {}, counts, None, None, None, None, positions, None, lengths, None)
        picture = tmp_path / "positions.png"
        picture.write_bytes(b"\x89PNG")
        browsed = Browsed([query(text) for text in texts], num_queries=9, num_failed=2, num_disputed=4)
        return write_page(tmp_path / "audit.html", report, browsed, [picture]).read_text(encoding="utf-8")

    return make


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_survives_as_text(page, text):
    elements = Elements(page([text]))

    (shown,) = json.loads(elements.texts["data"])
    assert shown["query"] == shown["passages"][0]["text"] == text


def test_hostile_text_makes_no_element(page):
    harmless, hostile = Elements(page(["plain"])), Elements(page())

    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in harmless.found]


def test_a_hostile_judge_makes_no_element_either(page):
    text = page(["plain"], judge_id="<script>alert(1)</script>")

    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_data_cannot_end_its_element():
    assert not re.search("[<>&\u2028\u2029]", as_script_data(HOSTILE))
    assert json.loads(as_script_data(HOSTILE)) == HOSTILE


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_script_data([float("nan")])


def test_only_its_own_script_and_style_are_allowed(page):
    elements = Elements(page())
    policy = next(attrs["content"] for tag, attrs in elements.found if attrs.get("http-equiv"))

    def source(name):
        return f"'sha256-{base64.b64encode(sha256(elements.texts[name].encode()).digest()).decode()}'"

    assert "default-src 'none'" in policy
    assert f"script-src {source('script')};" in policy
    assert f"style-src {source('style')};" in policy
    assert "unsafe" not in policy


def test_nothing_is_fetched(page):
    addresses = [
        value
        for _, attrs in Elements(page()).found
        for name, value in attrs.items()
        if name in ("src", "href", "srcset")
    ]

    assert addresses == ["#browser", "data:image/png;base64,iVBORw=="]


def test_no_element_has_a_handler_or_a_style_of_its_own(page):
    names = {name for _, attrs in Elements(page()).found for name in attrs}

    assert not {name for name in names if name.startswith("on") or name == "style"}


def test_the_page_says_how_many_of_how_many_it_holds(page):
    text = page(["a", "b"])

    assert "2 of 9 queries are here: 0 of 2 failures, 0 of 4 disagreements, and 2 others drawn at random." in text


def test_equal_audits_have_equal_pages(page):
    assert page() == page()
