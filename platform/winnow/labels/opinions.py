"""Two opinions of one query's passages, the judge's and people's: stored together, and settled when they are used.

A passage on which the two differ stands in two lists of an example, as ``llm`` in one and as ``human`` in the other;
as ``both`` where they agree. So one example serves runs that know what people said and runs that do not.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from winnow.grades import Opinion, opinion_of
from winnow.labels.from_judgments import JudgedPool
from winnow.pooling.order import PoolOrder
from winnow.records import LabelledPassage, TrainingExample

Named = Mapping[Opinion, Sequence[str]]
"""Passages by what people hold of them."""


def people_say(grades: Mapping[str, int], relevant_from: int, order: PoolOrder) -> dict[Opinion, list[str]]:
    """The passages of ``grades`` by opinion, the best graded first; ``order`` decides among equal grades."""
    said: dict[Opinion, list[str]] = {"positive": [], "withheld": [], "negative": []}
    for passage_id in sorted(grades, key=lambda name: (-grades[name], order.key(name))):
        said[opinion_of(grades[passage_id], relevant_from)].append(passage_id)
    return said


def unite(judged: JudgedPool, people: Named, scores: Mapping[str, float | None], *, max_negatives: int) -> JudgedPool:
    """The judge's lists, followed in each by what only people put there, with the judge's score where it has one.

    Of the passages that people alone reject, the first ``max_negatives`` become hard negatives; a veto on what the
    judge has an opinion of is kept whatever their number.
    """
    known = {passage.passage_id for side in judged for passage in side}
    rejected = people["negative"]
    vetoes = [name for number, name in enumerate(rejected) if number < max_negatives or name in known]
    return JudgedPool(
        _united(judged.positives, people["positive"], scores),
        _united(judged.negatives, vetoes, scores),
        _united(judged.withheld, people["withheld"], scores),
    )


def settle(example: TrainingExample, *, knows_people: bool) -> TrainingExample:
    """``example`` with one opinion per passage: people's where they have one and it is known, else the judge's.

    Where it is not known, nothing is left of what people said. Settled twice is settled once.
    """
    sides = (example.positives, example.negatives, example.withheld)
    overruled = {p.passage_id for side in sides for p in side if p.source == "human"} if knows_people else set()
    positives, negatives, withheld = (tuple(_settled(side, overruled, knows_people=knows_people)) for side in sides)
    return replace(example, positives=positives, negatives=negatives, withheld=withheld)


def _settled(
    side: Sequence[LabelledPassage], overruled: Collection[str], *, knows_people: bool
) -> Iterator[LabelledPassage]:
    for passage in side:
        if passage.source == "human":
            if knows_people:
                yield passage
        elif passage.source == "both":
            yield passage if knows_people else replace(passage, source="llm")
        elif passage.passage_id not in overruled:
            yield passage


def _united(
    judged: Sequence[LabelledPassage], people: Sequence[str], scores: Mapping[str, float | None]
) -> tuple[LabelledPassage, ...]:
    named = set(people)
    united = {p.passage_id: replace(p, source="both") if p.passage_id in named else p for p in judged}
    for name in people:
        united.setdefault(name, LabelledPassage(name, "human", utility_score=scores.get(name)))
    return tuple(united.values())
