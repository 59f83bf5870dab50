"""What of the training examples can be used."""

import pytest

from winnow import schema
from winnow.errors import DataError
from winnow.losses.config import LossConfig
from winnow.records import LabelledPassage, TrainingExample
from winnow.training.examples import read_examples, usable_examples

LIKELIHOOD = LossConfig(objective="LSEPair", temperature=1)
UTILITY = LossConfig(objective="KL", temperature=1, utility_temperature=1)


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
    written = [example("q1", ["a"], ["b", "c"], 0.5), example("q2", [], ["a"])]

    assert read_examples(write(tmp_path, *written)) == written


def test_examples_without_a_positive_are_left_out_and_counted():
    usable = usable_examples([example("q1", ["a"], ["b"]), example("q2", [], ["a"])], LIKELIHOOD)

    assert [kept.query_id for kept in usable.examples] == ["q1"]
    assert usable.left_out == {"no_positive": 1}


def test_distillation_needs_utilities_rather_than_positives():
    usable = usable_examples([example("q1", ["a"], ["b"]), example("q2", [], ["a", "b"], 0.1)], UTILITY)

    assert [kept.query_id for kept in usable.examples] == ["q2"]
    assert usable.left_out == {"fewer_than_two_utilities": 1}


def test_a_dataset_without_any_usable_example_is_refused_with_counts():
    with pytest.raises(DataError, match=r"none of 1 training examples can be used with LSEPair.*no_positive"):
        usable_examples([example("q1", [], ["a"])], LIKELIHOOD)


def test_a_passage_that_is_both_positive_and_negative_is_refused(tmp_path):
    with pytest.raises(DataError, match="query 'q1' lists passage 'a' more than once"):
        read_examples(write(tmp_path, example("q1", ["a"], ["a"])))


def test_a_query_with_two_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="several rows for 1 queries, such as 'q1'"):
        read_examples(write(tmp_path, example("q1", ["a"], []), example("q1", ["b"], [])))
