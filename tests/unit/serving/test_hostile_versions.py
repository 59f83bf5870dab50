"""Versions as an attacker would write them: every hash in the manifest is right, and what is in the files is not.

Nothing in them may run, whoever reads it, and each is refused with its reason.
"""

import io
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_versions import write_tiny_version

from winnow.api.config import ApiConfig
from winnow.errors import ConfigError, DataError
from winnow.files import hash_file
from winnow.retrieval.contents import check_contents
from winnow.retrieval.manifest import FileRecord, Manifest, read_manifest, write_manifest
from winnow.serving.loading import load_version


class Bomb:
    """Unpickled, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self):
        return Path.touch, (self._marker,)


class Attack:
    """A version to be spoiled; ``marker`` appears if anything in it is executed."""

    def __init__(self, directory: Path, marker: Path) -> None:
        self.directory = directory
        self.encoder = directory / "encoder"
        self.marker = marker
        self.pickled = pickle.dumps(Bomb(marker))

    def settings(self, name: str, **changes) -> None:
        """Change keys of a JSON file of the encoder."""
        path = self.encoder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def module(self, name: str) -> None:
        """Put a Python file beside the weights that leaves the marker when it is imported."""
        code = f"import pathlib\npathlib.Path({str(self.marker)!r}).touch()\nclass Evil: pass\n"
        (self.encoder / name).write_text(code)

    def sign(self) -> None:
        """Make the manifest right again."""
        names = [path.relative_to(self.directory).as_posix() for path in self.directory.rglob("*") if path.is_file()]
        records = {
            name: FileRecord(size=(self.directory / name).stat().st_size, sha256=hash_file(self.directory / name))
            for name in names
            if name != "manifest.json"
        }
        fields = {**dict(read_manifest(self.directory)), "files": records}
        write_manifest(self.directory, Manifest(**fields))


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return write_tiny_version(tmp_path_factory.mktemp("good") / "v")


@pytest.fixture
def attack(version, tmp_path):
    return Attack(shutil.copytree(version, tmp_path / "v"), tmp_path / "executed")


def weights_as_a_pickle(attack):
    (attack.encoder / "model.safetensors").unlink()
    (attack.encoder / "pytorch_model.bin").write_bytes(attack.pickled)


def a_pickle_beside_the_weights(attack):
    (attack.encoder / "pytorch_model.bin").write_bytes(attack.pickled)


def a_pickle_called_safetensors(attack):
    (attack.encoder / "model.safetensors").write_bytes(attack.pickled)


def code_beside_the_weights(attack):
    attack.module("modeling_evil.py")


def settings_that_name_code(attack):
    attack.settings("config.json", auto_map={"AutoModel": "modeling_evil.Evil"})


def settings_of_an_unknown_model_that_name_code(attack):
    attack.settings("config.json", model_type="evil", auto_map={"AutoConfig": "a/b--modeling_evil.Evil"})


def a_tokenizer_that_names_code(attack):
    attack.settings("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "modeling_evil.Evil"]})


def attention_from_a_hub(attack):
    attack.settings("config.json", attn_implementation="evil/kernels:attention")


def a_quantiser_of_its_choice(attack):
    attack.settings("config.json", quantization_config={"quant_method": "gptq"})


def a_module_of_another_library(attack):
    modules = json.loads((attack.encoder / "modules.json").read_text())
    modules[0]["type"] = "evil.models.Transformer"
    (attack.encoder / "modules.json").write_text(json.dumps(modules))


def a_module_outside_the_version(attack):
    modules = json.loads((attack.encoder / "modules.json").read_text())
    outside = shutil.copytree(attack.encoder, attack.directory.parent / "outside")
    modules[0]["path"] = f"../../{outside.name}"
    (attack.encoder / "modules.json").write_text(json.dumps(modules))


def pickles_in_an_array_of_bm25(attack):
    path = next((attack.directory / "bm25").glob("*.npy"))
    np.save(path, np.array([Bomb(attack.marker)], dtype=object), allow_pickle=True)


def pickles_in_an_array_of_the_index(attack):
    np.save(attack.directory / "index" / "vectors.npy", np.array([Bomb(attack.marker)]), allow_pickle=True)


def an_archive_of_arrays(attack):
    buffer = io.BytesIO()
    np.savez(buffer, arr=np.array([Bomb(attack.marker)]))
    (attack.directory / "index" / "vectors.npz").write_bytes(buffer.getvalue())


def an_array_without_a_header(attack):
    next((attack.directory / "bm25").glob("*.npy")).write_bytes(b"\x93NUMPY\x09\x09")


def weights_with_an_endless_header(attack):
    (attack.encoder / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")


def weights_with_a_header_that_is_no_json(attack):
    (attack.encoder / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"\xff\xfe{]" + b"\0" * 64)


def weights_with_a_deep_header(attack):
    deep = b"[" * 100_000
    (attack.encoder / "model.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)


def weights_that_point_past_the_end(attack):
    header = json.dumps({"embeddings": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 10**12]}}).encode()
    (attack.encoder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def passages_of_a_python_type(attack):
    table = pa.ipc.open_file(attack.directory / "passages.arrow").read_all()
    place = table.schema.get_field_index("text")
    extension = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": attack.pickled}
    binary = table.column("text").cast(pa.binary())
    table = table.set_column(place, pa.field("text", pa.binary(), metadata=extension), binary)
    write_arrow(attack.directory / "passages.arrow", table)


def passages_that_are_numbers(attack):
    table = pa.table({name: list(range(5)) for name in ("passage_id", "title", "text", "document_id", "metadata")})
    write_arrow(attack.directory / "passages.arrow", table)


def passages_without_text(attack):
    table = pa.ipc.open_file(attack.directory / "passages.arrow").read_all()
    write_arrow(attack.directory / "passages.arrow", table.drop_columns(["text"]))


def write_arrow(path, table):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def settings_nested_without_end(attack):
    (attack.encoder / "config.json").write_text("[" * 100_000)


def settings_with_an_enormous_number(attack):
    text = (attack.encoder / "config.json").read_text()
    (attack.encoder / "config.json").write_text(text.replace('"vocab_size": 141', f'"vocab_size": {"9" * 5000}'))


def settings_of_enormous_size(attack):
    attack.settings("config.json", padding="x" * 6_000_000)


def a_billion_layers(attack):
    attack.settings("config.json", num_hidden_layers=10**9)


def a_vocabulary_that_fills_the_memory(attack):
    attack.settings("config.json", vocab_size=10**9)


def positions_that_fill_the_memory(attack):
    attack.settings("config.json", max_position_embeddings=2**31)


def an_index_description_nested_without_end(attack):
    (attack.directory / "index" / "index.json").write_text('{"a":' * 100_000)


def a_tokenizer_nested_without_end(attack):
    (attack.encoder / "tokenizer.json").write_text('{"a":' * 100_000)


ATTACKS = [
    (weights_as_a_pickle, "pytorch_model.bin is no data of a retriever version, and might be code"),
    (a_pickle_beside_the_weights, "pytorch_model.bin is no data"),
    (a_pickle_called_safetensors, "model.safetensors says that its header has"),
    (code_beside_the_weights, "modeling_evil.py is no data"),
    (settings_that_name_code, "config.json has 'auto_map', which names code"),
    (settings_of_an_unknown_model_that_name_code, "config.json has 'auto_map'"),
    (a_tokenizer_that_names_code, "tokenizer_config.json has 'auto_map'"),
    (attention_from_a_hub, "config.json has 'attn_implementation'"),
    (a_quantiser_of_its_choice, "config.json has 'quantization_config'"),
    (a_module_of_another_library, "names 'evil.models.Transformer'; expected modules of sentence_transformers"),
    (a_module_outside_the_version, "lies outside the encoder"),
    (pickles_in_an_array_of_bm25, "npy holds pickled objects, which are never read"),
    (pickles_in_an_array_of_the_index, "vectors.npy holds pickled objects"),
    (an_archive_of_arrays, "vectors.npz is no data"),
    (an_array_without_a_header, "is no array of numpy"),
    (weights_with_an_endless_header, "says that its header has 9,223,372,036,854,775,808 bytes"),
    (weights_with_a_header_that_is_no_json, "has no header of safetensors"),
    (weights_with_a_deep_header, "has no header of safetensors"),
    (weights_that_point_past_the_end, "encoder"),
    (passages_of_a_python_type, "passages.arrow has a column 'text' of an extension type"),
    (passages_that_are_numbers, "passages.arrow"),
    (passages_without_text, "passages.arrow"),
    (settings_nested_without_end, "config.json is nested too deeply"),
    (settings_with_an_enormous_number, "config.json is no JSON"),
    (settings_of_enormous_size, "has 6,0.* bytes, at most 5,000,000 are read"),
    (a_billion_layers, "asks for 1,000,000,000 layers, and the weights are"),
    (a_vocabulary_that_fills_the_memory, "describes 32,.* weights, and its files hold"),
    (positions_that_fill_the_memory, "describes .* weights, and its files hold"),
    (an_index_description_nested_without_end, "index"),
    (a_tokenizer_nested_without_end, r"cannot be used \(RecursionError"),
]


@pytest.mark.parametrize(("spoil", "reason"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_hostile_version_is_refused_with_its_reason_and_nothing_in_it_runs(attack, spoil, reason):
    spoil(attack)
    attack.sign()

    with pytest.raises((DataError, ConfigError), match=reason):
        load_version(attack.directory, ApiConfig(), 1)

    assert not attack.marker.exists()


def test_the_bomb_of_these_tests_goes_off_when_it_is_unpickled(attack):
    pickle.loads(attack.pickled)

    assert attack.marker.exists()


def test_a_yaml_bomb_in_the_model_card_is_never_read(attack):
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))
    (attack.encoder / "README.md").write_text(f"---\na0: &a0 lol\n{levels}\n---\n")
    attack.sign()

    assert load_version(attack.directory, ApiConfig(), 1).version == read_manifest(attack.directory).version


def test_a_good_version_holds_nothing_that_would_be_refused(version):
    check_contents(version, read_manifest(version).files, encoder="encoder")


def test_what_a_step_leaves_beside_a_version_is_no_part_of_it(version, tmp_path):
    published = shutil.copytree(version, tmp_path / "published")
    (published / "journal.jsonl").write_text("{}\n")

    check_contents(published, read_manifest(published).files, encoder="encoder")
