"""What holds for every group, whatever the labels and the settings."""

from hypothesis import given
from hypothesis import strategies as st

from winnow.labels.sampling import SamplingConfig, sample_group
from winnow.records import LabelledPassage, TrainingExample

configs = st.builds(
    SamplingConfig,
    policy=st.sampled_from(["random_one", "first", "all"]),
    group_size=st.integers(2, 12),
    max_positives=st.integers(1, 12),
)


@st.composite
def examples(draw):
    sides = [
        tuple(LabelledPassage(f"{side}{i}", "llm") for i in range(draw(st.integers(0, 12)))) for side in ("p", "n")
    ]
    return TrainingExample(draw(st.text(min_size=1, max_size=4)), "a question", *sides)


@given(example=examples(), config=configs, seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_a_group_is_drawn_without_repeats_fits_its_size_and_has_room_for_a_negative(example, config, seed, epoch):
    group = sample_group(example, config, seed=seed, epoch=epoch)

    members = group.positives + group.negatives
    assert len(set(members)) == len(members) <= config.group_size
    assert len(group.positives) < config.group_size
    assert bool(group.positives) == bool(example.positives)
    assert bool(group.negatives) == bool(example.negatives)
    assert set(group.positives) <= set(example.positives)
    assert set(group.negatives) <= set(example.negatives)


@given(example=examples(), config=configs, seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_every_labelled_positive_is_drawn_or_withheld(example, config, seed, epoch):
    group = sample_group(example, config, seed=seed, epoch=epoch)

    drawn = {passage.passage_id for passage in group.positives}
    assert drawn | group.withheld == {passage.passage_id for passage in example.positives}
    assert not drawn & group.withheld


@given(example=examples(), config=configs, seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_a_draw_depends_on_seed_epoch_and_query_alone(example, config, seed, epoch):
    assert sample_group(example, config, seed=seed, epoch=epoch) == sample_group(
        example, config, seed=seed, epoch=epoch
    )
