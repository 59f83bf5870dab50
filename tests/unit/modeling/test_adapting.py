"""What training adds to an encoder is the same in training, after saving, and in sentence-transformers."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny_models import tiny_encoder

from winnow.errors import ConfigError
from winnow.modeling.adapting import adapt
from winnow.modeling.config import EncoderConfig, LoraConfig
from winnow.modeling.encoder import DenseEncoder

TEXTS = ["how do I copy a file?", "", "Zoë's naïve café 東京", "a text that is longer than the limit " * 20, "x"]
EXACT = EncoderConfig(model="unused", precision="float32")
LORA = LoraConfig(rank=4, alpha=8)


def adapted(encoder=None, *, projection=None, towers="tied", lora=None, gradient_checkpointing=False, seed=1):
    encoder = encoder or tiny_encoder(query_prefix="query: ", query_max_tokens=12, passage_max_tokens=24)
    adapt(
        encoder,
        projection=projection,
        towers=towers,
        lora=lora,
        gradient_checkpointing=gradient_checkpointing,
        seed=seed,
    )
    return encoder


def trained(encoder):
    """Every trainable number moved, as after some steps."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
    return encoder


def embed(encoder, side):
    with torch.no_grad():
        return encoder.embed(encoder.tokenize(TEXTS, side=side), side=side).numpy()


VARIANTS = {
    "projection": {"projection": 8},
    "untied": {"towers": "untied"},
    "untied, projection": {"towers": "untied", "projection": 8},
    "lora": {"lora": LORA},
    "lora of two layers": {"lora": LoraConfig(rank=2, targets=("query", "value"))},
    "untied, projection, lora": {"towers": "untied", "projection": 8, "lora": LORA},
    "checkpointing": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_training_serving_and_sentence_transformers_give_equal_vectors(tmp_path, variant):
    encoder = trained(adapted(**variant))

    ours = DenseEncoder.load(encoder.save(tmp_path), EXACT, device="cpu")
    theirs = SentenceTransformer(str(tmp_path), device="cpu")

    for side, encode in (("query", theirs.encode_query), ("passage", theirs.encode_document)):
        assert ours.encode(TEXTS, side=side) == pytest.approx(embed(encoder, side), abs=1e-5)
        assert encode(TEXTS) == pytest.approx(embed(encoder, side), abs=1e-5)
    assert ours.fingerprint == encoder.fingerprint
    assert ours.dimension == encoder.dimension == variant.get("projection", 32)
    assert ours.contract == encoder.contract


@pytest.mark.parametrize("towers", ["tied", "untied"])
def test_a_directory_that_sentence_transformers_wrote_is_read(tmp_path, towers):
    encoder = trained(adapted(projection=8, towers=towers))

    SentenceTransformer(str(encoder.save(tmp_path / "ours")), device="cpu").save(str(tmp_path / "theirs"))
    read = DenseEncoder.load(tmp_path / "theirs", EXACT, device="cpu")

    assert read.contract == encoder.contract
    assert read.encode(TEXTS, side="passage") == pytest.approx(embed(encoder, "passage"), abs=1e-5)


def test_saving_leaves_the_encoder_in_training_as_it_was(tmp_path):
    encoder = trained(adapted(towers="untied", lora=LORA))
    before = {name: weight.clone() for name, weight in encoder.module.state_dict().items()}

    encoder.save(tmp_path)

    after = encoder.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_adapters_and_a_second_tower_change_no_vector_before_training():
    plain = tiny_encoder()
    changed = adapted(tiny_encoder(), towers="untied", lora=LORA, gradient_checkpointing=True)

    assert embed(changed, "query") == pytest.approx(embed(plain, "query"), abs=1e-6)
    assert embed(changed, "passage") == pytest.approx(embed(plain, "passage"), abs=1e-6)


def test_equal_seeds_give_equal_weights_whatever_was_drawn_before():
    def weights(seed):
        torch.rand(3)
        return adapted(projection=8, towers="untied", lora=LORA, seed=seed).module.state_dict()

    first, again, other = weights(1), weights(1), weights(2)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["projection.weight"], other["projection.weight"])


def test_a_projection_to_all_dimensions_keeps_cosines():
    plain, turned = tiny_encoder(), adapted(tiny_encoder(), projection=32)

    before, after = embed(plain, "query"), embed(turned, "query")

    assert after @ after.T == pytest.approx(before @ before.T, abs=1e-5)
    assert np.abs(after - before).max() > 0.1


def test_lora_trains_adapters_and_projection_alone():
    encoder = adapted(projection=8, towers="untied", lora=LORA)

    encoder.embed([[2, 10, 3]], side="query").sum().backward()
    encoder.embed([[2, 10, 3]], side="passage").sum().backward()

    trainable = {name for name, parameter in encoder.module.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name or name == "projection.weight" for name in trainable)
    # Query, key, value, attention output and two feed-forward layers, in 2 layers of 2 towers, A and B each.
    assert len(trainable) == 6 * 2 * 2 * 2 + 1
    assert {name for name, p in encoder.module.named_parameters() if p.grad is not None} == trainable


def test_each_side_trains_its_own_tower():
    encoder = adapted(towers="untied")

    encoder.embed([[2, 10, 3]], side="passage").sum().backward()

    with_gradient = {name.split(".")[0] for name, p in encoder.module.named_parameters() if p.grad is not None}
    assert with_gradient == {"passage_backbone"}


def test_a_change_of_one_tower_changes_one_side_and_the_fingerprint():
    encoder = adapted(tiny_encoder(), towers="untied")
    query, passage, fingerprint = embed(encoder, "query"), embed(encoder, "passage"), encoder.fingerprint

    with torch.no_grad():
        encoder.module.passage_backbone.embeddings.word_embeddings.weight.neg_()

    assert (query == passage).all()
    assert (embed(encoder, "query") == query).all()
    assert np.abs(embed(encoder, "passage") - passage).max() > 0.01
    assert encoder.fingerprint != fingerprint


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("is_training", [False, True])
def test_recomputed_activations_give_the_same_gradients_with_and_without_dropout(lora, is_training):
    gradients = []
    for gradient_checkpointing in (False, True):
        encoder = adapted(lora=lora, gradient_checkpointing=gradient_checkpointing)
        encoder.module.train(is_training)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            encoder.embed(encoder.tokenize(TEXTS, side="query"), side="query")[:, 0].sum().backward()
        gradients.append({name: p.grad for name, p in encoder.module.named_parameters() if p.requires_grad})

    kept, recomputed = gradients
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)


def test_checkpointing_keeps_fewer_activations_with_dropout_off():
    def bytes_kept(gradient_checkpointing):
        encoder, kept = adapted(gradient_checkpointing=gradient_checkpointing), []
        rows = encoder.tokenize(TEXTS, side="passage")
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
            encoder.embed(rows, side="passage")
        return sum(kept)

    assert bytes_kept(True) < 0.5 * bytes_kept(False)


@pytest.mark.parametrize("projection", [8, None])
def test_a_later_stage_goes_on_with_the_projection_and_the_towers_of_the_one_before(tmp_path, projection):
    trained(adapted(projection=8, towers="untied", lora=LORA)).save(tmp_path)

    loaded = DenseEncoder.load(tmp_path, EXACT, device="cpu")
    again = adapted(loaded, projection=projection, towers="untied", lora=LORA, seed=2)

    assert again.dimension == 8
    assert embed(again, "passage") == pytest.approx(
        DenseEncoder.load(tmp_path, EXACT, device="cpu").encode(TEXTS, side="passage"), abs=1e-5
    )


def test_what_cannot_be_adapted_is_named():
    with pytest.raises(ConfigError, match="projects to 8 dimensions already"):
        adapted(adapted(projection=8), projection=4)
    with pytest.raises(ConfigError, match=r"train.towers is tied, but the encoder has untied towers"):
        adapted(adapted(towers="untied"))
    with pytest.raises(ConfigError, match=r"train.lora.targets \('q_proj',\) cannot be adapted in a BertModel"):
        adapted(lora=LoraConfig(targets=("q_proj",)))


def set_config(**changes):
    def change(dense):
        config = json.loads((dense / "config.json").read_text())
        (dense / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def change_weights(change):
    def rewrite(dense):
        weights = load_file(dense / "model.safetensors")
        save_file(change(weights), dense / "model.safetensors")

    return rewrite


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda dense: (dense / "model.safetensors").unlink(), "weights of the projection, .* cannot be read"),
        (lambda dense: (dense / "model.safetensors").write_bytes(b"x" * 40), "cannot be read"),
        (lambda dense: (dense / "config.json").unlink(), "Tanh"),
        (lambda dense: (dense / "config.json").write_text("{"), "is no JSON"),
        (change_weights(lambda weights: {"linear.weight": weights["linear.weight"][:4].clone()}), r"\(4, 32\)"),
        (change_weights(lambda weights: {**weights, "linear.bias": torch.zeros(8)}), "linear.bias"),
        (set_config(in_features=16), "from 16 to 8 features; expected it to start from the backbone's 32"),
        (set_config(out_features="8"), "to 8 features"),
        (set_config(activation_function="torch.nn.modules.activation.Tanh"), "expected a linear projection"),
        (set_config(use_residual=True), "residual"),
        (set_config(module_input_name="token_embeddings"), "projects .*token_embeddings"),
    ],
)
def test_a_projection_that_is_damaged_or_not_linear_is_refused(tmp_path, damage, reason):
    adapted(projection=8).save(tmp_path)
    damage(tmp_path / "2_Dense")

    with pytest.raises(ConfigError, match=reason):
        DenseEncoder.load(tmp_path, device="cpu")


def test_a_projection_with_a_bias_is_read(tmp_path):
    encoder = adapted(projection=8)
    encoder.module.projection = torch.nn.Linear(32, 8)

    ours = DenseEncoder.load(encoder.save(tmp_path), EXACT, device="cpu")

    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode_query(TEXTS)
    assert ours.encode(TEXTS, side="query") == pytest.approx(theirs, abs=1e-5)
    assert ours.fingerprint == encoder.fingerprint


def test_towers_with_tokenizers_of_their_own_are_refused(tmp_path):
    adapted(towers="untied").save(tmp_path)
    path = tmp_path / "document_0_Transformer" / "tokenizer.json"
    rules = json.loads(path.read_text())
    vocabulary = rules["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(rules))

    with pytest.raises(ConfigError, match="two different tokenizers; expected one"):
        DenseEncoder.load(tmp_path, device="cpu")
