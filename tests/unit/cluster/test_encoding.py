"""What comes back from the machines that encode."""

import pyarrow as pa
import pytest

from winnow.cluster.encoding import of_one_precision
from winnow.errors import ConfigError


def part(*precisions):
    return pa.table({"passage_id": [f"p{n}" for n in range(len(precisions))], "precision": list(precisions)})


def test_embeddings_of_one_precision_pass_without_the_column_that_says_so():
    found = list(of_one_precision([part("bfloat16", "bfloat16"), part("bfloat16")]))

    assert [(table.column_names, table.num_rows) for table in found] == [(["passage_id"], 2), (["passage_id"], 1)]


@pytest.mark.parametrize(
    "parts", [[("float32",), ("bfloat16",)], [("float32", "bfloat16")], [("float32",), ("float32",), ("bfloat16",)]]
)
def test_embeddings_of_unlike_machines_are_not_mixed(parts):
    with pytest.raises(ConfigError, match=r"auto is float32 on some .* and bfloat16 on others.*set encoder\.precision"):
        list(of_one_precision(part(*each) for each in parts))
