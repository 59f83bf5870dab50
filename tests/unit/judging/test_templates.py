"""Prompts are checked when they are loaded, not when the first row fails."""

import pytest

from winnow.errors import ConfigError
from winnow.judging.templates import load_template


def write(folder, context="Passage: {passage}", continuation=" {query}", **more):
    lines = {"context": context, "context_without_passage": "Question:", "continuation": continuation, **more}
    (folder / "mine.yaml").write_text("\n".join(f'{key}: "{text}"' for key, text in lines.items()))
    return folder


def test_the_packaged_template_renders_title_text_and_query():
    template = load_template("query_gain-v1")

    assert template.render_context("os.stat", "Status of a file.") == (
        "Passage: os.stat. Status of a file.\nQuestion answered by the passage:"
    )
    assert template.render_context("", "No title.") == "Passage: No title.\nQuestion answered by the passage:"
    assert template.context_without_passage == "Question answered by the passage:"
    assert template.render_continuation("how old is a file?") == " how old is a file?"


def test_braces_in_a_passage_are_text():
    assert "a {passage} {0}" in load_template("query_gain-v1").render_context("", "a {passage} {0}")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'query_gian-v1'.*query_gain-v1"):
        load_template("query_gian-v1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": "Passage: {text}"}, r"context has the placeholders \['text'\], expected \['passage'\]"),
        ({"context": "Passage, forgotten"}, r"has the placeholders \[\], expected \['passage'\]"),
        ({"continuation": " {query} {passage}"}, r"continuation has the placeholders"),
        ({"context": "Passage: {passage} }"}, "write {{ and }} for braces"),
        ({"colour": "red"}, "needs exactly the keys"),
    ],
)
def test_wrong_placeholders_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_template("mine", write(tmp_path, **change))
