"""Searching for the questions of an evaluation."""

from winnow.corpora.store import Split
from winnow.records import Query, ScoredPassage
from winnow.steps.evaluate import _ranked


def test_questions_are_searched_for_and_counted_in_blocks_and_keep_their_own_hits(capsys):
    queries = [Query(f"q{number}", f"text {number}") for number in range(300)]
    split = Split("dev", "corpus", tuple(queries), {})
    asked = []

    def search(texts):
        asked.append(len(texts))
        return [[ScoredPassage(f"of {text}", 1.0)] for text in texts]

    rankings = _ranked("BM25", split, queries, search)

    assert asked == [256, 44]
    assert rankings == {f"q{number}": [f"of text {number}"] for number in range(300)}
    assert "evaluate dev: BM25: 300 questions in" in capsys.readouterr().out
