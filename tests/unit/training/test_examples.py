"""What of the training examples can be used."""

from dataclasses import replace

import pytest

from winnow import schema
from winnow.config import build_config
from winnow.errors import DataError
from winnow.labels.sampling import SamplingConfig
from winnow.losses.config import LossConfig
from winnow.records import LabelledPassage, Passage, TrainingExample
from winnow.training.__main__ import JobConfig, run
from winnow.training.config import TrainConfig
from winnow.training.examples import read_examples, usable_examples

LIKELIHOOD = TrainConfig(loss=LossConfig(objective="LSEPair", temperature=1))
UTILITY = TrainConfig(loss=LossConfig(objective="KL", temperature=1, utility_temperature=1))


def example(query_id, positives, negatives, utility=None):
    sides = (
        tuple(LabelledPassage(name, "llm", utility_score=utility) for name in side) for side in (positives, negatives)
    )
    return TrainingExample(query_id, f"question {query_id}", *sides)


def write(tmp_path, *examples):
    return schema.write_dataset(
        tmp_path / "training_examples.parquet", schema.to_table(examples, schema.TRAINING_EXAMPLES)
    )


def test_examples_come_back_as_they_were_written(tmp_path):
    withholding = replace(example("q3", ["a"], ["b"]), withheld=(LabelledPassage("c", "both", 0.5, 1.0),))
    written = [example("q1", ["a"], ["b", "c"], 0.5), example("q2", [], ["a"]), withholding]

    assert read_examples(write(tmp_path, *written)) == written


def test_examples_without_a_positive_are_left_out_and_counted():
    usable = usable_examples([example("q1", ["a"], ["b"]), example("q2", [], ["a"])], LIKELIHOOD, seed=1)

    assert [kept.query_id for kept in usable.examples] == ["q1"]
    assert usable.left_out == {"no_positive": 1}


def test_examples_whose_positives_no_stage_may_draw_are_left_out():
    by_people = LIKELIHOOD.model_copy(update={"sampling": SamplingConfig(labels="human")})
    both = LabelledPassage("a", "both")
    rows = [example("q1", ["a"], ["b"]), TrainingExample("q2", "question q2", (both,), ())]

    usable = usable_examples(rows, by_people, seed=1)

    assert [kept.query_id for kept in usable.examples] == ["q2"]
    assert usable.left_out == {"no_positive": 1}


def test_a_query_whose_only_positive_people_veto_teaches_those_alone_who_do_not_know_it():
    vetoed = TrainingExample("q2", "?", (LabelledPassage("a", "llm"),), (LabelledPassage("a", "human"),))
    rows = [example("q1", ["a"], ["b"]), vetoed]
    blind = LIKELIHOOD.model_copy(update={"sampling": SamplingConfig(human_share=0)})

    assert [kept.query_id for kept in usable_examples(rows, LIKELIHOOD, seed=1).examples] == ["q1"]
    assert [kept.query_id for kept in usable_examples(rows, blind, seed=1).examples] == ["q1", "q2"]


def test_distillation_counts_the_utilities_of_what_may_be_drawn():
    """b is people's negative, which only a run that knows them draws."""
    scored = {name: LabelledPassage(name, who, utility_score=1.0) for name, who in {"a": "llm", "b": "human"}.items()}
    rows = [TrainingExample("q1", "?", (scored["a"],), (scored["b"],)), example("q2", ["a"], ["b"], 0.1)]
    blind = UTILITY.model_copy(update={"sampling": SamplingConfig(human_share=0)})

    assert usable_examples(rows, UTILITY, seed=1).left_out == {}
    assert usable_examples(rows, blind, seed=1).left_out == {"fewer_than_two_utilities": 1}


def test_distillation_needs_utilities_rather_than_positives():
    usable = usable_examples([example("q1", ["a"], ["b"]), example("q2", [], ["a", "b"], 0.1)], UTILITY, seed=1)

    assert [kept.query_id for kept in usable.examples] == ["q2"]
    assert usable.left_out == {"fewer_than_two_utilities": 1}


def test_a_dataset_without_any_usable_example_is_refused_with_counts():
    with pytest.raises(DataError, match=r"none of 1 training examples can be used with LSEPair.*no_positive"):
        usable_examples([example("q1", [], ["a"])], LIKELIHOOD, seed=1)


def test_a_passage_that_is_both_positive_and_negative_is_refused(tmp_path):
    with pytest.raises(DataError, match="query 'q1' has passage 'a' more than once by 'llm'"):
        read_examples(write(tmp_path, example("q1", ["a"], ["a"])))


@pytest.mark.parametrize(
    ("positives", "negatives", "withheld", "is_fine"),
    [
        ("llm", "human", None, True),
        ("human", None, "llm", True),
        (None, "llm", "human", True),
        ("both", None, None, True),
        ("llm", "both", None, False),
        ("llm", None, "llm", False),
        (None, "human", "human", False),
        ("human", "mined", None, False),
        (None, "mined", "llm", False),
        ("human", "llm", "llm", False),
    ],
)
def test_the_judge_and_people_hold_one_opinion_each_of_a_passage(tmp_path, positives, negatives, withheld, is_fine):
    sides = (() if who is None else (LabelledPassage("a", who),) for who in (positives, negatives, withheld))
    row = TrainingExample("q1", "question", *sides)

    if is_fine:
        assert read_examples(write(tmp_path, row)) == [row]
    else:
        with pytest.raises(DataError, match="query 'q1' has passage 'a' more than once by"):
            read_examples(write(tmp_path, row))


@pytest.mark.parametrize("side", ["positives", "negatives", "withheld"])
@pytest.mark.parametrize("source", ["crowd", "mined"])
def test_a_label_of_an_unknown_source_is_refused(tmp_path, side, source):
    labels = {"positives": (), "negatives": (), side: (LabelledPassage("a", source),)}
    path = write(tmp_path, TrainingExample("q1", "question", **labels))

    if (side, source) == ("negatives", "mined"):
        assert len(read_examples(path)) == 1
    else:
        with pytest.raises(DataError, match=f"query 'q1' has '{source}' as source in {side}, expected one of"):
            read_examples(path)


def test_a_query_with_two_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="several rows for 1 queries, such as 'q1'"):
        read_examples(write(tmp_path, example("q1", ["a"], []), example("q1", ["b"], [])))


@pytest.mark.parametrize("withheld", [(), (LabelledPassage("copy", "llm"),)])
def test_copies_in_examples_made_by_hand_are_refused(tmp_path, withheld):
    """In a batch with q1 and q2, the copy would be a negative of q1 though it says what its positive says."""
    positive = "b" if withheld else "copy"
    rows = [example("q1", ["a"], []), replace(example("q2", [positive], []), withheld=withheld)]
    passages = [Passage("a", "red  apples"), Passage("b", "cars"), Passage("copy", "red apples")]
    schema.write_dataset(tmp_path / "passages.parquet", schema.to_table(passages, schema.PASSAGES))
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    settings = {"encoder": {"model": str(tmp_path / "encoder")}, "examples": str(write(tmp_path, *rows))}
    settings |= {"passages": str(tmp_path / "passages.parquet"), "train": {"loss": {"temperature": 1}}}

    with pytest.raises(DataError, match=r"names 1 copies, such as 'copy' .* those of 'a'"):
        run(build_config(JobConfig, {**settings, "output": str(tmp_path / "out")}))
