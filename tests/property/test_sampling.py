"""What holds for every group, whatever the labels and the settings."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from winnow.labels.mining import MiningConfig, mine_negatives
from winnow.labels.opinions import settle
from winnow.labels.sampling import Sampler, SamplingConfig, as_known, eligible_positives
from winnow.records import LabelledPassage, TrainingExample

HUMAN = {"human", "both"}
QUERIES = [TrainingExample(f"q{i}", "?", (LabelledPassage("p", "human"),), ()) for i in range(400)]
seeds, epochs = st.integers(0, 99), st.integers(0, 9)
human_positives = st.sampled_from(["random", "exclude", "include"])
whose = st.one_of(
    st.fixed_dictionaries({"human_share": st.floats(0, 1), "labels": st.sampled_from(["llm", "union"])}),
    st.fixed_dictionaries({"human_share": st.floats(0.1, 1), "human_positives": human_positives}),
    st.fixed_dictionaries({"human_share": st.floats(0.1, 1), "labels": st.just("human")}),
    st.fixed_dictionaries(
        {"human_share": st.floats(0.1, 1), "labels": st.just("union"), "human_positives": st.just("include")}
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
opinions = st.sampled_from(["positives", "negatives", "withheld", None])


@st.composite
def examples(draw):
    """Any opinions of the judge and of people: up to a dozen passages, each in no, one or two lists."""
    sides = {"positives": [], "negatives": [], "withheld": []}
    for number, (judge, people) in enumerate(draw(st.lists(st.tuples(opinions, opinions), max_size=12))):
        if judge is not None and judge == people:
            sides[judge].append(LabelledPassage(f"p{number}", "both"))
            continue
        for source, side in (("llm", judge), ("human", people)):
            if side is not None:
                sides[side].append(LabelledPassage(f"p{number}", source))
    return TrainingExample(
        draw(st.text(min_size=1, max_size=4)), "a question", **{k: tuple(v) for k, v in sides.items()}
    )


def names(passages):
    return {passage.passage_id for passage in passages}


def held_by(example, who):
    """By passage, the list that ``who`` has put it in."""
    sources = {who, "both"}
    sides = ("positives", "negatives", "withheld")
    return {p.passage_id: side for side in sides for p in getattr(example, side) if p.source in sources}


@given(example=examples(), others=st.lists(examples(), max_size=3), config=configs, seed=seeds, epoch=epochs)
def test_a_group_has_a_positive_if_it_can_fits_its_size_and_has_room_for_a_negative(
    example, others, config, seed, epoch
):
    group = Sampler([example, *others], config, seed=seed).group(example, epoch)

    members = group.positives + group.negatives
    assert len(names(members)) == len(members) <= config.group_size
    assert len(group.positives) <= config.group_size - 1
    assert bool(group.positives) == bool(eligible_positives(example, config, seed=seed))
    assert bool(group.negatives) == bool(as_known(example, config, seed=seed).negatives)
    assert set(group.positives) <= set(eligible_positives(example, config, seed=seed))


@given(example=examples(), config=configs, seed=seeds, epoch=epochs)
def test_a_passage_has_one_part_in_a_group_and_people_decide_which_if_they_are_known(example, config, seed, epoch):
    group = Sampler([example], config, seed=seed).group(example, epoch)

    assert not names(group.positives) & names(group.negatives)
    assert not group.withheld & names(group.positives + group.negatives)
    judge, people = held_by(example, "llm"), held_by(example, "human")
    # Whether people are known for this query: a passage tells that only they named.
    probe = TrainingExample(example.query_id, "?", (LabelledPassage("probe", "human"),), ())
    knows = bool(as_known(probe, config, seed=seed).positives)
    holds = judge | people if knows else judge
    assert names(group.positives) <= {name for name, side in holds.items() if side == "positives"}
    assert names(group.negatives) <= {name for name, side in holds.items() if side == "negatives"}
    open_ = {name for name, side in holds.items() if side != "negatives"}
    assert group.withheld == open_ - names(group.positives)


@given(example=examples(), many=how_many, labels=st.sampled_from(["llm", "union"]), seed=seeds, epoch=epochs)
def test_at_a_human_share_of_0_a_group_is_as_if_nobody_had_said_anything(example, many, labels, seed, epoch):
    """What people put into an example, and where they agree with the judge, leaves no trace."""
    config = SamplingConfig(**many, labels=labels, human_share=0)
    sides = {
        side: tuple(replace(p, source="llm") for p in getattr(example, side) if p.source != "human")
        for side in ("positives", "negatives", "withheld")
    }
    silent = replace(example, **sides)

    group, expected = (Sampler([each], config, seed=seed).group(each, epoch) for each in (example, silent))

    assert group == expected


@given(example=examples(), config=configs, seed=seeds, epoch=epochs)
def test_an_example_as_a_run_knows_it_gives_the_groups_of_the_whole_one(example, config, seed, epoch):
    """What is mined for a stage is stored as that stage knows it, and sampled again."""
    known = as_known(example, config, seed=seed)

    assert as_known(known, config, seed=seed) == known
    groups = [Sampler([each], config, seed=seed).group(each, epoch) for each in (example, known)]
    assert groups[0] == groups[1]


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

    eligible = eligible_positives(example, config, seed=seed)
    num_human = sum(passage.source in HUMAN for passage in eligible)
    assert num_human == list(held_by(example, "human").values()).count("positives")
    assert sum(passage.source in HUMAN for passage in drawn) == min(num_human, sampler.most_positives)
    assert len(drawn) == min(len(eligible), sampler.most_positives)


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
    ranking=st.lists(st.tuples(st.sampled_from("px"), st.integers(0, 20)), max_size=30, unique=True),
    knows_people=st.booleans(),
    seed=seeds,
    window=st.tuples(st.integers(1, 10), st.integers(0, 20)),
    margin=st.one_of(st.none(), st.floats(0, 1)),
)
def test_no_mined_negative_is_a_positive_or_withheld_outside_the_window_or_within_the_margin(
    example, ranking, knows_people, seed, window, margin
):
    example = settle(example, knows_people=knows_people)
    draw = random.Random(seed)
    scores = sorted((draw.uniform(-1, 1) for _ in ranking), reverse=True)
    ranked = [(f"{kind}{number}", score) for (kind, number), score in zip(ranking, scores, strict=True)]
    positive_scores = {passage.passage_id: draw.uniform(-1, 1) for passage in example.positives}
    config = MiningConfig(first_rank=window[0], last_rank=sum(window), margin=margin, max_negatives=5)

    found = mine_negatives(example, ranked, positive_scores, config)

    apart = names(example.positives) | names(example.withheld)
    others = [name for name, _ in ranked if name not in apart]
    mined = [passage.passage_id for passage in found.negatives]
    assert not set(mined) & apart
    assert mined == [name for name in others if name in mined]
    assert len(mined) <= 5
    for name in mined:
        assert window[0] <= others.index(name) + 1 <= sum(window)
        if margin is not None:
            assert dict(ranked)[name] + margin <= max(positive_scores.values()) + 1e-12
    assert replace(found, negatives=example.negatives) == example
