"""The papers' recipes are whole: they load, measure what they cite, and train as the published trainers do."""

import re
from pathlib import Path

import pytest

from winnow.config import load_config
from winnow.labels.labeller import Labeller
from winnow.labels.pools import PooledQuery
from winnow.labels.sampling import Sampler
from winnow.records import Judgment
from winnow.steps.config import RunConfig

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "jobs" / "configs" / "recipes").glob("*.yaml"))
COMMANDS = re.findall(r"`([\w-]+\.yaml)((?: --set [^ `]+)+)", (ROOT / "docs" / "reproduce.md").read_text())
POOL_SIZE = 31


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_questions_to_choose_on_and_to_report_and_the_gpus_for_it(path):
    config = load_config(RunConfig, path)

    files = [config.data.train.qrels, config.data.dev.qrels, *(collection.qrels for collection in config.data.test)]
    assert len(set(files)) == len(files) >= 3
    assert {"RR@10", "nDCG@10", "R@1000"} <= set(config.evaluate.measures)
    assert config.cluster.encoder_gpus > 0
    assert config.train.gpus_per_worker == 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_on_judged_questions_with_the_dropout_of_the_published_trainers(path):
    config = load_config(RunConfig, path)

    assert config.data.train.questions == "judged"
    assert config.train.use_dropout


@pytest.mark.parametrize(("name", "options"), COMMANDS, ids=lambda value: value.strip().replace(" ", "_"))
def test_the_commands_of_the_page_can_be_read(name, options):
    path = ROOT / "jobs" / "configs" / "recipes" / name

    assert isinstance(load_config(RunConfig, path, options.split(" --set ")[1:]), RunConfig)


def test_the_page_has_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("human", [[], ["p3"], ["p30", "p7"]])
def test_replug_learns_from_the_whole_pool(human):
    """Whoever is called positive: KL compares distributions over all that the judge scored."""
    config = load_config(RunConfig, next(path for path in RECIPES if path.stem == "replug"))
    names = [f"p{number}" for number in range(POOL_SIZE)]
    judgments = [Judgment(name, utility_score=-number / 4) for number, name in enumerate(names)]

    labeller = Labeller(config.label, "score", relevant_from=1, seed=1)
    example = labeller.label(PooledQuery("q", "why", {}), "ok", judgments, dict.fromkeys(human, 1))
    group = Sampler([example], config.train.sampling, seed=1).group(example, 0)

    assert config.pool.max_passages == POOL_SIZE
    assert sorted(p.passage_id for p in (*group.positives, *group.negatives)) == sorted(names)
    assert all(p.utility_score is not None for p in (*group.positives, *group.negatives))
