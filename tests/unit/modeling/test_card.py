"""The model card says what it was given, in a form that hubs can read."""

import pytest
import yaml
from sentence_transformers import SentenceTransformer
from tiny_models import tiny_encoder

from winnow.modeling.card import ModelCard, render_card, write_card
from winnow.modeling.contract import Contract

CONTRACT = Contract("mean", True, "query: ", "", 32, 128)
CARD = ModelCard(
    name="pydocs",
    base_model="intfloat/e5-base-v2",
    run_id="0f3a",
    dimension=768,
    recipe={"loss": {"objective": "LSEPair", "temperature": 0.05}, "epochs": 2, "note": "a | b\nc"},
    data={"queries": 12345, "left out": "3 without a positive"},
    measures={"dev nDCG@10": 0.81239},
)


def front_matter(text):
    return yaml.safe_load(text.split("---")[1])


def test_the_card_holds_recipe_data_measures_and_run():
    lines = render_card(CARD, CONTRACT).splitlines()

    for row in (
        "| loss.objective | LSEPair |",
        "| loss.temperature | 0.05 |",
        "| note | a \\| b c |",
        "| queries | 12,345 |",
        "| dev nDCG@10 | 0.8124 |",
        "| passage tokens, at most | 128 |",
    ):
        assert row in lines
    assert "in run `0f3a`" in "\n".join(lines)


def test_hubs_can_read_the_front_matter():
    assert front_matter(render_card(CARD, CONTRACT)) == {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "dense-retrieval", "winnow"],
        "base_model": "intfloat/e5-base-v2",
    }


@pytest.mark.parametrize("base", ["/somewhere/private/base", "./private/base", "package:private/base"])
def test_a_base_that_is_no_hub_id_is_not_linked_and_no_folder_is_told(base):
    card = ModelCard(name="n", base_model=base, run_id="r", dimension=8, recipe={})

    text = render_card(card, CONTRACT)

    assert "base_model" not in front_matter(text)
    assert "somewhere" not in text
    assert base.startswith("package:") or "private" not in text


def test_what_is_not_known_has_no_section():
    text = render_card(ModelCard(name="n", base_model="b", run_id="r", dimension=8, recipe={}), CONTRACT)

    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Use", "## Contract"]
    assert "licen" not in text.lower()


def test_the_card_lies_beside_the_weights_and_both_readers_take_the_directory(tmp_path):
    encoder = tiny_encoder(query_prefix="query: ")

    path = write_card(encoder.save(tmp_path), CARD)

    assert path == tmp_path / "README.md"
    assert "`query: `" in path.read_text(encoding="utf-8")
    assert SentenceTransformer(str(tmp_path), device="cpu").get_embedding_dimension() == 32
