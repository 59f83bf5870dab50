"""The judge's opinion and people's, stored together and settled when they are used."""

import pytest

from winnow.labels.from_judgments import JudgedPool
from winnow.labels.opinions import people_say, settle, unite
from winnow.pooling.order import PoolOrder
from winnow.records import LabelledPassage, TrainingExample

SOURCES = {"l": "llm", "h": "human", "b": "both"}


def side(words: str) -> tuple[LabelledPassage, ...]:
    """``"al bh"`` is passage a by the LLM and b by people (human); ``b`` as second letter is both."""
    return tuple(LabelledPassage(word[0], SOURCES[word[1]]) for word in words.split())


def words(passages) -> str:
    return " ".join(passage.passage_id + passage.source[0] for passage in passages)


def example(positives: str = "", negatives: str = "", withheld: str = "") -> TrainingExample:
    return TrainingExample("q", "?", side(positives), side(negatives), side(withheld))


@pytest.mark.parametrize(
    ("grades", "relevant_from", "expected"),
    [
        # By list rank among equal grades: b has rank 2, a rank 9, z none.
        ({"a": 1, "b": 1, "c": 2, "z": 1}, 1, ("cbaz", "", "")),
        ({"a": 1, "b": 2, "c": 3, "z": 0}, 2, ("cb", "a", "z")),
        ({"a": -1, "b": 0, "c": 0, "z": 0}, 1, ("", "", "bcza")),
        ({}, 1, ("", "", "")),
    ],
)
def test_grades_are_read_from_the_lowest_relevant_one_on(grades, relevant_from, expected):
    order = PoolOrder("q", {"a": 9, "b": 2, "c": 3}, 1)

    said = people_say(grades, relevant_from, order)

    assert tuple("".join(said[opinion]) for opinion in ("positive", "withheld", "negative")) == expected


def test_people_join_each_list_behind_the_judge_and_differing_opinions_stand_in_two():
    judged = JudgedPool(side("al bl cl"), side("dl el"), side("fl"))
    people = {"positive": "bdz", "withheld": "ay", "negative": "cex"}

    united = unite(judged, people, {"d": 0.5}, max_negatives=9)

    assert tuple(map(words, united)) == ("al bb cl dh zh", "dl eb ch xh", "fl ah yh")
    assert {p.passage_id: p.utility_score for p in united.positives} == dict.fromkeys("abcz", None) | {"d": 0.5}


def test_of_what_only_people_reject_no_more_is_kept_than_wanted_but_every_veto_is():
    judged = JudgedPool(side("pl"), side("nl"), side("wl"))
    people = {"positive": "", "withheld": "", "negative": "abcpnw"}

    united = unite(judged, people, {}, max_negatives=2)

    assert words(united.negatives) == "nb ah bh ph wh"


@pytest.mark.parametrize(
    ("stored", "known", "unknown"),
    [
        # Agreement.
        (("ab", "nb", "wb"), ("ab", "nb", "wb"), ("al", "nl", "wl")),
        # People alone.
        (("ah", "nh", "wh"), ("ah", "nh", "wh"), ("", "", "")),
        # The judge alone.
        (("al", "nl", "wl"), ("al", "nl", "wl"), ("al", "nl", "wl")),
        # People overrule the judge, wherever it has put the passage.
        (("al", "ah", ""), ("", "ah", ""), ("al", "", "")),
        (("ah", "al", ""), ("ah", "", ""), ("", "al", "")),
        (("al", "", "ah"), ("", "", "ah"), ("al", "", "")),
        (("", "al", "ah"), ("", "", "ah"), ("", "al", "")),
        (("ah", "", "al"), ("ah", "", ""), ("", "", "al")),
        (("", "ah", "al"), ("", "ah", ""), ("", "", "al")),
    ],
)
def test_where_people_are_known_they_win_and_where_not_the_judge_is_alone(stored, known, unknown):
    for knows_people, expected in ((True, known), (False, unknown)):
        settled = settle(example(*stored), knows_people=knows_people)

        assert tuple(map(words, (settled.positives, settled.negatives, settled.withheld))) == expected
        assert settle(settled, knows_people=knows_people) == settled
