"""Dev questions: which are chosen, and what an encoder is worth on them."""

import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from winnow.errors import DataError
from winnow.training.dev import DevEvaluation, DevSet, choose_dev
from winnow.training.tokens import TOKENS, TokenStore
from winnow.training.watching import DevConfig

CORPUS = [f"p{number:03d}" for number in range(100)]
QRELS = {f"q{number}": {f"p{number:03d}": 1, f"p{number + 50:03d}": 0} for number in range(30)}


class WordTower:
    """A text's embedding is the share of each token in it, times dropout; notes how it is called."""

    dimension = 8
    packs = False

    def __init__(self):
        self.module = nn.Sequential(nn.Embedding.from_pretrained(torch.eye(8), freeze=False), nn.Dropout(0.9))
        self.called_with = set()

    def embed(self, token_ids, *, side):
        self.called_with.add((side, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return torch.stack([self.module(torch.tensor(row)).mean(dim=0) for row in token_ids])


@pytest.fixture
def dev_set(tmp_path):
    texts = {
        "query": {"apple": [0], "bear": [1], "nothing": [7]},
        "passage": {"d1": [0], "d2": [0, 1, 2], "d3": [2, 1], "d4": [3, 4, 5, 6]},
    }
    rows = [
        {"side": side, "id": name, "input_ids": ids} for side, named in texts.items() for name, ids in named.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TOKENS), tmp_path / "part-0.parquet")
    qrels = {"apple": {"d2": 1}, "bear": {"d3": 1, "d1": 0}, "nothing": {"d3": 2}}
    return DevSet(("apple", "bear", "nothing"), ("d3", "d1", "d4", "d2"), qrels, TokenStore(tmp_path))


def evaluation(tower, dev_set, *, precision="fp32", **settings):
    return DevEvaluation(tower, dev_set, DevConfig(**settings), micro_batch_tokens=4, precision=precision)


def test_measures_are_the_means_over_the_questions(dev_set):
    # d2 is second for "apple", d3 first for "bear", and third by id for "nothing", which scores 0 everywhere.
    measures = evaluation(WordTower(), dev_set, measure="R@1").measure()

    assert list(measures) == ["R@1", "nDCG@10", "RR@10", "R@100"]
    assert measures["R@1"] == pytest.approx(1 / 3)
    assert measures["RR@10"] == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert measures["nDCG@10"] == pytest.approx((1 / math.log2(3) + 1 + 1 / math.log2(4)) / 3)
    assert measures["R@100"] == 1


def test_an_evaluation_is_without_dropout_and_gradient_and_leaves_the_modes_as_they_were(dev_set):
    tower = WordTower()
    embedding, dropout = tower.module
    tower.module.train()
    embedding.eval()

    measures = evaluation(tower, dev_set).measure()

    assert measures == evaluation(tower, dev_set).measure()
    assert (tower.module.training, embedding.training, dropout.training) == (True, False, True)
    assert tower.called_with == {("query", False, False), ("passage", False, False)}


def test_the_modes_come_back_after_an_error_too(dev_set):
    tower = WordTower()
    unknown = DevSet(("apple", "pear"), dev_set.passages, {"apple": {"d1": 1}, "pear": {"d1": 1}}, dev_set.tokens)

    with pytest.raises(DataError, match="no tokens for query 'pear'"):
        evaluation(tower, unknown).measure()

    assert tower.module.training


def test_half_precision_is_used_when_asked_for(dev_set):
    tower = WordTower()

    measures = evaluation(tower, dev_set, precision="bf16").measure()

    assert {autocast for _, _, autocast in tower.called_with} == {True}
    assert measures["R@100"] == 1


def test_a_choice_depends_on_the_seed_and_not_on_the_order_of_the_questions():
    config = DevConfig(max_queries=10, max_passages=40)
    backwards = dict(reversed(QRELS.items()))

    choice = choose_dev(QRELS, CORPUS, config, seed=1)

    assert choose_dev(backwards, CORPUS, config, seed=1) == choice
    other = choose_dev(QRELS, CORPUS, config, seed=2)
    assert other.queries != choice.queries
    assert other.passages != choice.passages


def test_a_choice_holds_all_useful_passages_and_a_draw_of_others():
    choice = choose_dev(QRELS, CORPUS, DevConfig(max_queries=10, max_passages=40), seed=1)

    assert len(choice.queries) == 10
    assert len(set(choice.passages)) == 40
    assert {f"p{int(query_id[1:]):03d}" for query_id in choice.queries} <= set(choice.passages) <= set(CORPUS)
    assert (choice.num_unjudged, choice.num_unfindable, choice.num_not_drawn) == (0, 0, 20)


@pytest.mark.parametrize(("max_passages", "expected"), [(5, 30), (1000, 100)])
def test_useful_passages_are_never_cut_and_a_corpus_has_no_more_than_it_has(max_passages, expected):
    choice = choose_dev(QRELS, CORPUS, DevConfig(max_passages=max_passages), seed=1)

    assert len(choice.passages) == expected


def test_questions_that_cannot_be_answered_are_left_out_and_counted():
    qrels = {**QRELS, "unjudged": {"p000": 0}, "empty": {}, "elsewhere": {"p999": 1}, "half": {"p999": 1, "p001": 1}}

    choice = choose_dev(qrels, CORPUS, DevConfig(), seed=1)

    assert set(choice.queries) == {*QRELS, "half"}
    assert "p999" not in choice.passages
    assert (choice.num_unjudged, choice.num_unfindable, choice.num_not_drawn) == (2, 1, 0)


def test_the_lowest_relevant_grade_says_which_questions_and_passages_are_chosen():
    qrels = {"q1": {"p001": 2, "p002": 1}, "q2": {"p003": 1}, "q3": {"p004": 3}}

    choice = choose_dev(qrels, CORPUS, DevConfig(max_passages=2), seed=1, relevant_from=2)

    assert (set(choice.queries), set(choice.passages), choice.num_unjudged) == ({"q1", "q3"}, {"p001", "p004"}, 1)


def test_binary_measures_of_a_dev_set_use_its_lowest_relevant_grade(dev_set):
    """The apple's d1, which scores highest, is related only; d2 comes second."""
    graded = replace(dev_set, queries=("apple",), qrels={"apple": {"d1": 1, "d2": 2}})

    values = [evaluation(WordTower(), replace(graded, relevant_from=lowest)).measure()["RR@10"] for lowest in (1, 2)]

    assert values == [1.0, 0.5]


@pytest.mark.parametrize("qrels", [{}, {"q": {"p000": 0}}, {"q": {"p999": 1}}])
def test_a_dev_split_that_nothing_can_be_measured_on_is_refused(qrels):
    with pytest.raises(DataError, match=rf"none of {len(qrels)} dev questions can be measured: .*check data.dev.qrels"):
        choose_dev(qrels, CORPUS, DevConfig(), seed=1)
