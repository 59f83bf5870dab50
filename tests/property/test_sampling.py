"""What holds for every group, whatever the labels and the settings."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from winnow.labels.mining import MiningConfig, mine_negatives
from winnow.labels.sampling import Sampler, SamplingConfig, eligible_positives
from winnow.records import LabelledPassage, TrainingExample

HUMAN = {"human", "both"}
QUERIES = [TrainingExample(f"q{i}", "?", (LabelledPassage("p", "human"),), ()) for i in range(400)]
seeds, epochs = st.integers(0, 99), st.integers(0, 9)
sources = st.sampled_from(["llm", "human", "both"])
whose = st.one_of(
    st.fixed_dictionaries({"human_positives": st.sampled_from(["random", "exclude", "include"])}),
    st.fixed_dictionaries({"labels": st.just("human"), "human_share": st.floats(0.1, 1)}),
    st.fixed_dictionaries(
        {
            "labels": st.just("union"),
            "human_share": st.floats(0, 1),
            "human_positives": st.sampled_from(["random", "include"]),
        }
    ),
)
how_many = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["random_one", "first", "average", "all"]),
        "group_size": st.integers(2, 12),
        "max_positives": st.integers(1, 12),
    }
)
configs = st.builds(lambda many, labels: SamplingConfig(**many, **labels), how_many, whose)


@st.composite
def examples(draw):
    positives = tuple(LabelledPassage(f"p{i}", s) for i, s in enumerate(draw(st.lists(sources, max_size=12))))
    negatives = tuple(LabelledPassage(f"n{i}", "llm") for i in range(draw(st.integers(0, 12))))
    return TrainingExample(draw(st.text(min_size=1, max_size=4)), "a question", positives, negatives)


@given(example=examples(), others=st.lists(examples(), max_size=3), config=configs, seed=seeds, epoch=epochs)
def test_a_group_has_a_positive_if_it_can_fits_its_size_and_has_room_for_a_negative(
    example, others, config, seed, epoch
):
    group = Sampler([example, *others], config, seed=seed).group(example, epoch)

    members = group.positives + group.negatives
    assert len(set(members)) == len(members) <= config.group_size
    assert len(group.positives) <= config.group_size - 1
    assert bool(group.positives) == bool(eligible_positives(example, config, seed=seed))
    assert bool(group.negatives) == bool(example.negatives)
    assert set(group.positives) <= set(eligible_positives(example, config, seed=seed)) <= set(example.positives)
    assert set(group.negatives) <= set(example.negatives)


@given(example=examples(), config=configs, seed=seeds, epoch=epochs)
def test_every_labelled_positive_is_drawn_or_withheld_and_none_is_a_negative(example, config, seed, epoch):
    group = Sampler([example], config, seed=seed).group(example, epoch)

    drawn = {passage.passage_id for passage in group.positives}
    assert drawn | group.withheld == {passage.passage_id for passage in example.positives}
    assert not drawn & group.withheld
    assert not {passage.passage_id for passage in group.negatives} & (drawn | group.withheld)


@given(
    given_examples=st.lists(examples(), min_size=1, max_size=5, unique_by=lambda e: e.query_id),
    config=configs,
    seed=seeds,
    epoch=epochs,
)
def test_a_draw_depends_on_seed_epoch_and_query_alone(given_examples, config, seed, epoch):
    shuffled = random.Random(seed).sample(given_examples, len(given_examples))
    sampler, other = Sampler(given_examples, config, seed=seed), Sampler(shuffled, config, seed=seed)

    groups = {example.query_id: sampler.group(example, epoch) for example in given_examples}

    for example in shuffled:
        assert other.group(example, epoch) == groups[example.query_id]
        if config.policy != "average":
            assert Sampler([example], config, seed=seed).group(example, epoch) == groups[example.query_id]


@given(example=examples(), many=how_many, labels=st.sampled_from(["llm", "union"]), seed=seeds, epoch=epochs)
def test_include_draws_human_positives_as_far_as_there_is_room_before_any_other(example, many, labels, seed, epoch):
    config = SamplingConfig(**many, labels=labels, human_positives="include")
    sampler = Sampler([example], config, seed=seed)

    drawn = sampler.group(example, epoch).positives

    num_human = sum(passage.source in HUMAN for passage in example.positives)
    assert sum(passage.source in HUMAN for passage in drawn) == min(num_human, sampler.most_positives)
    assert len(drawn) == min(len(example.positives), sampler.most_positives)


@given(example=examples(), many=how_many, seed=seeds, epoch=epochs)
def test_exclude_never_draws_what_people_named(example, many, seed, epoch):
    config = SamplingConfig(**many, human_positives="exclude")

    group = Sampler([example], config, seed=seed).group(example, epoch)

    assert all(passage.source == "llm" for passage in group.positives)


@given(share=st.floats(0.05, 1), larger=st.floats(0.05, 1), seed=seeds)
def test_a_larger_human_share_keeps_the_queries_of_a_smaller_and_both_are_close_to_what_was_asked(share, larger, seed):
    share, larger = sorted((share, larger))
    configs = [SamplingConfig(labels="human", human_share=value) for value in (share, larger)]

    known = [{q.query_id for q in QUERIES if eligible_positives(q, config, seed=seed)} for config in configs]

    assert known[0] <= known[1]
    # Six standard deviations of a binomial share of 400 are at most 0.15.
    assert all(abs(len(names) / 400 - config.human_share) < 0.15 for names, config in zip(known, configs, strict=True))
    assert share < 1 or len(known[0]) == 400


@given(
    example=examples(),
    ranking=st.lists(st.tuples(st.sampled_from("pn"), st.integers(0, 20)), max_size=30, unique=True),
    seed=seeds,
    window=st.tuples(st.integers(1, 10), st.integers(0, 20)),
    margin=st.one_of(st.none(), st.floats(0, 1)),
)
def test_no_mined_negative_is_a_positive_outside_the_window_or_within_the_margin(
    example, ranking, seed, window, margin
):
    draw = random.Random(seed)
    scores = sorted((draw.uniform(-1, 1) for _ in ranking), reverse=True)
    ranked = [(f"{kind}{number}", score) for (kind, number), score in zip(ranking, scores, strict=True)]
    positive_scores = {passage.passage_id: draw.uniform(-1, 1) for passage in example.positives}
    config = MiningConfig(first_rank=window[0], last_rank=sum(window), margin=margin, max_negatives=5)

    found = mine_negatives(example, ranked, positive_scores, config)

    others = [name for name, _ in ranked if name not in positive_scores]
    names = [passage.passage_id for passage in found.negatives]
    assert not set(names) & positive_scores.keys()
    assert names == [name for name in others if name in names]
    assert len(names) <= 5
    for name in names:
        assert window[0] <= others.index(name) + 1 <= sum(window)
        if margin is not None:
            assert dict(ranked)[name] + margin <= max(positive_scores.values()) + 1e-12
    assert replace(found, negatives=example.negatives) == example
