"""Whatever a judge says: no label that it did not name, and no surprise but a ``JudgmentParseError``."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from winnow.engines.reasoning import split_reasoning
from winnow.errors import JudgmentParseError
from winnow.judging.parsing import parse_ranking, parse_selection

pieces = st.sampled_from(
    ["[", "]", "[1]", "[2]", "[12]", "[0]", "[none]", ", ", " > ", " and ", "1", "-1", "٣", "\n", "<think>", "</think>"]
)
hostile = st.lists(pieces | st.text(max_size=4), max_size=12).map("".join) | st.text(max_size=60)
pool_sizes = st.integers(1, 40)


def said_in(reply):
    """``reply`` without its reasoning, found tag by tag."""
    said, is_thought = "", False
    for part in re.split("(</?think>)", reply, flags=re.IGNORECASE | re.ASCII):
        if part.lower() == "</think>":
            said, is_thought = (said if is_thought else ""), False
        elif part.lower() == "<think>":
            is_thought = True
        elif not is_thought:
            said += f" {part}"
    return said


def read(parse, reply, pool_size):
    try:
        return parse(split_reasoning(reply)[1], pool_size=pool_size)
    except JudgmentParseError:
        return None


@given(reply=hostile, pool_size=pool_sizes)
@example(reply="[0]", pool_size=3)
@example(reply="[-1]", pool_size=3)
@example(reply="\ud800[1]", pool_size=3)
@example(reply="[" + "1" * 5000 + "]", pool_size=3)
def test_a_reading_names_only_passages_of_the_pool_that_the_reply_names(reply, pool_size):
    for parse in (parse_selection, parse_ranking):
        positions = read(parse, reply, pool_size)

        if positions is not None:
            assert all(0 <= position < pool_size for position in positions)
            assert {str(position + 1) for position in positions} == set(re.findall("[0-9]+", said_in(reply)))
            assert len(set(positions)) == len(positions)
            assert positions or "[none]" in "".join(reply.lower().split())


@given(thought=hostile, labels=st.lists(st.integers(1, 40), min_size=1, unique=True))
def test_nothing_that_was_thought_changes_what_is_read(thought, labels):
    thought = thought.replace("<think>", "").replace("</think>", "")
    said = ", ".join(f"[{label}]" for label in labels)

    for reply in (f"<think>{thought}</think>{said}", f"{thought}</think>{said}", f"{said}<think>{thought}"):
        assert read(parse_selection, reply, 40) == [label - 1 for label in labels]


@given(labels=st.lists(st.integers(1, 40), min_size=1, unique=True), separator=st.sampled_from([", ", " > ", "\n", ""]))
def test_a_written_list_is_read_back(labels, separator):
    reply = separator.join(f"[{label}]" for label in labels)

    assert parse_ranking(reply, pool_size=40) == [label - 1 for label in labels]


@given(text=hostile)
def test_what_is_said_holds_no_end_of_reasoning(text):
    _, said = split_reasoning(text)

    assert "</think>" not in said
