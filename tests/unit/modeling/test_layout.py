"""Where the parts of an encoder lie: read as written; what we do not compute is refused by name."""

import json

import pytest

from winnow.errors import ConfigError
from winnow.modeling.layout import Layout, read_layout, write_layout


def change_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_plain_transformers_directory_says_nothing_of_pooling(tmp_path):
    assert read_layout(tmp_path) == Layout(tmp_path, tmp_path, tmp_path, None, None, None)


def test_one_tower_lies_at_the_top_and_two_lie_in_folders(tmp_path):
    tied = write_layout(tmp_path / "tied", is_untied=False, has_projection=True, is_normalised=True)
    untied = write_layout(tmp_path / "untied", is_untied=True, has_projection=False, is_normalised=False)

    top, two = tmp_path / "tied", tmp_path / "untied"
    assert tied == Layout(top, top, top, top / "1_Pooling", top / "2_Dense", True)
    assert untied == Layout(
        two, two / "query_0_Transformer", two / "document_0_Transformer", two / "1_Pooling", None, False
    )
    assert [tied.is_untied, untied.is_untied] == [False, True]


@pytest.mark.parametrize("kind", ["Dense", "WeightedLayerPooling", "Pooling"])
def test_a_module_that_we_do_not_compute_is_refused(tmp_path, kind):
    write_layout(tmp_path, is_untied=False, has_projection=True, is_normalised=False)
    module = {"idx": 3, "name": "3", "path": "3", "type": f"sentence_transformers.models.{kind}"}
    change_json(tmp_path / "modules.json", lambda modules: modules.append(module))

    with pytest.raises(ConfigError, match=f"lists .*'{kind}'.; expected a Transformer"):
        read_layout(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '["Transformer"]', "[{}]", "7"])
def test_a_damaged_list_of_modules_is_named(tmp_path, text):
    (tmp_path / "modules.json").write_text(text)

    with pytest.raises(ConfigError, match=r"modules.json is no"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda router: router["structure"].update(image=["query_0_Transformer"]), "has the routes .*'image'"),
        (lambda router: router["structure"].pop("query"), r"has the routes \['document'\]"),
        (lambda router: router["parameters"].update(route_mappings={"(None, 'text')": "query"}), "and no mapping"),
        (lambda router: router["structure"].update(query=[]), r"the route 'query' goes through \[\]"),
        (lambda router: router["types"].clear(), r"goes through \['unknown'\]"),
        (lambda router: router.clear(), r"has the routes \[\]"),
    ],
)
def test_routes_that_are_not_one_tower_per_side_are_refused(tmp_path, change, reason):
    write_layout(tmp_path, is_untied=True, has_projection=False, is_normalised=False)
    change_json(tmp_path / "router_config.json", change)

    with pytest.raises(ConfigError, match=reason):
        read_layout(tmp_path)
