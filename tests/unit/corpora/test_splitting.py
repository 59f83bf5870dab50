"""No question in two splits: which texts ask the same, who keeps a question, and what has to be said."""

import pytest

from winnow.config import build_config
from winnow.corpora.config import TrainSplitConfig
from winnow.corpora.splitting import RawSplit, question_key, separate
from winnow.errors import ConfigError
from winnow.records import Query


def split(name: str, *texts: str, judged: str | None = None) -> RawSplit:
    """Queries with ids ``0``, ``1`` ...; ``judged`` lists the ids that the qrels name."""
    queries = [Query(str(number), text) for number, text in enumerate(texts)]
    named = None if judged is None else frozenset(judged)
    return RawSplit(name, "corpus", queries, named, [(query_id, "p", 1) for query_id in judged or ""])


def texts(splits: list[RawSplit]) -> dict[str, list[str]]:
    return {each.name: [query.query for query in each.queries] for each in splits}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Who wrote Emma?", "who wrote emma", True),
        ("who  wrote\tEmma ?", "Who wrote Emma", True),
        ("who wrote Emma?!", "who wrote Emma.", True),
        ("ＷＨＯ wrote Ｅｍｍａ？", "who wrote emma", True),
        ("Straße", "STRASSE", True),
        ("is 100 ㎒ fast", "is 100 mhz fast", True),
        ("Cafe\u0301", "Café", True),
        ("谁写的。", "谁写的", True),
        ("what is C#", "what is C", False),
        ("what is .net", "what is net", False),
        ("who wrote Emma", "who wrote Emile", False),
        ("?", "!", False),
        ("is it 1.5", "is it 15", False),
        ("What\u2019s \u201cEmma\u201d?", 'what\'s "Emma"', True),
        ("\u00bfQui\u00e9n escribi\u00f3 Emma?", "qui\u00e9n escribi\u00f3 Emma", True),
        ("\ufeffco\u00adop\u200b", "coop", True),
        ("1914\u20131918", "1914-1918", True),
        ("it's", "its", False),
        ("re-sign", "resign", False),
    ],
)
def test_two_texts_ask_the_same_up_to_case_spacing_typography_and_final_mark(one, other, same):
    assert (question_key(one) == question_key(other)) == same


@pytest.mark.parametrize(
    ("train", "dev", "tests", "left"),
    [
        # Unlabelled training questions, none of them elsewhere: all stay.
        (split("train", "a", "b"), None, [], {"train": ["a", "b"]}),
        # Only what the qrels name is a dev or test question, so only that leaves training.
        (
            split("train", "A?", "b", "c", "d"),
            split("dev", "a", "b", judged="0"),
            [split("t", "x", "c.", "d", judged="01")],
            {"train": ["b", "d"], "dev": ["a"], "t": ["x", "c."]},
        ),
        # Equal ids in different files mean nothing.
        (split("train", "a"), split("dev", "x", judged="0"), [], {"train": ["a"], "dev": ["x"]}),
        # A test collection keeps its question against dev, and against other test collections nothing changes.
        (
            split("train", "a"),
            split("dev", "q", "r", judged="01"),
            [split("s", "Q", judged="0"), split("t", "q", judged="0")],
            {"train": ["a"], "dev": ["r"], "s": ["Q"], "t": ["q"]},
        ),
        # What left dev for a test collection is not trained on either.
        (
            split("train", "q", "z"),
            split("dev", "q", "r", judged="01"),
            [split("t", "q", judged="0")],
            {"train": ["z"], "dev": ["r"], "t": ["q"]},
        ),
    ],
)
def test_a_question_belongs_to_the_test_collections_before_dev_and_to_dev_before_training(train, dev, tests, left):
    assert texts(separate(train, dev, tests, questions=None)) == left


@pytest.mark.parametrize(("questions", "left"), [("judged", ["a", "c"]), ("all", ["a", "b", "c"])])
def test_questions_without_training_labels_are_trained_on_if_asked(questions, left):
    train = split("train", "a", "b", "c", judged="02")

    assert texts(separate(train, None, [], questions=questions)) == {"train": left}


def test_training_questions_that_ask_the_same_are_one_with_the_labels_of_all():
    """As two, each would have the positives of the other as negatives of the batch."""
    queries = [Query("1", "Who?"), Query("2", "why"), Query("3", "who"), Query("4", "WHO ?")]
    pairs = [("3", "p", 2), ("1", "p", 0), ("3", "r", 0), ("2", "p", 0), ("4", "s", 1)]
    train = RawSplit("train", "corpus", queries, frozenset("1234"), pairs)

    [left] = separate(train, None, [], questions="judged")

    assert [query.query_id for query in left.queries] == ["1", "2"]
    assert left.checked().qrels == {"1": {"p": 2, "r": 0, "s": 1}, "2": {"p": 0}}
    assert left.left_out == {"asked before": 2}


def test_labels_for_some_of_the_training_questions_need_a_word_about_the_others():
    with pytest.raises(ConfigError, match=r"name 2 of the 3 questions .*`data.train.questions: judged` .* `all`"):
        separate(split("train", "a", "b", "c", judged="02"), None, [], questions=None)


def test_labels_for_all_training_questions_or_for_none_need_no_word():
    for judged in ("01", None):
        assert texts(separate(split("train", "a", "b", judged=judged), None, [], questions=None)) == {
            "train": ["a", "b"]
        }


def test_judged_questions_without_labels_are_refused_when_the_file_is_read():
    with pytest.raises(ConfigError, match="needs `qrels`"):
        build_config(TrainSplitConfig, {"queries": "q.jsonl", "questions": "judged"})
    build_config(TrainSplitConfig, {"queries": "q.jsonl", "questions": "all"})
