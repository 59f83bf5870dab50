"""The model card: README.md of an encoder directory, as model hubs show it. Says what it was given, and no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from winnow.files import replacing
from winnow.modeling.contract import Contract, read_contract

_POOLING = {"cls": "the first token's vector", "mean": "the mean of the tokens' vectors", "last": "the last token's"}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a trained encoder apart from its files."""

    name: str
    base_model: str
    """As configured: a hub id, ``package:...`` or a path, of which the card shows the last part alone."""
    run_id: str
    dimension: int
    recipe: Mapping[str, Any]
    """Objective, sampling, epochs and so on, by setting; sections may be nested."""
    data: Mapping[str, int | str] = field(default_factory=dict)
    """Counts of what it was trained on."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """By name, such as ``dev nDCG@10``."""


def write_card(directory: Path, card: ModelCard) -> Path:
    """``README.md`` in the encoder directory ``directory``, whose contract it repeats."""
    path = directory / "README.md"
    with replacing(path) as temporary:
        temporary.write_text(render_card(card, read_contract(directory)), encoding="utf-8")
    return path


def render_card(card: ModelCard, contract: Contract) -> str:
    """The text of the card."""
    sections = [
        f"---\n{yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True)}---",
        f"# {card.name}",
        f"A dense retriever: it maps queries and passages to vectors of {card.dimension} dimensions, and the "
        f"{'cosine' if contract.normalise else 'dot product'} of two says how well a passage fits a query. "
        f"Trained with Winnow from `{_shown(card.base_model)}` in run `{card.run_id}`.",
        _usage(contract),
        _table("Recipe", "setting", _flat(card.recipe)),
        _table("Data", "count of", card.data),
        _table("Measures", "measure", {name: f"{value:.4f}" for name, value in card.measures.items()}),
        _table("Contract", "part", _contract_rows(contract)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(card: ModelCard) -> dict[str, Any]:
    is_hub_id = card.base_model == _shown(card.base_model) and card.base_model.count("/") == 1
    return {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "dense-retrieval", "winnow"],
        **({"base_model": card.base_model} if is_hub_id and ":" not in card.base_model else {}),
    }


def _usage(contract: Contract) -> str:
    prompts = {"queries": contract.query_prefix, "passages": contract.passage_prefix}
    said = [f"{side} with `{prefix}` in front" for side, prefix in prompts.items() if prefix]
    note = f" Both put {' and '.join(said)}, as it was trained; do not add it yourself." if said else ""
    return f"""## Use

```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer("path/to/this/directory")
queries = encoder.encode_query(["how do I copy a file?"])
passages = encoder.encode_document(["shutil.copy copies the file src to the file or directory dst."])
scores = encoder.similarity(queries, passages)
```

```python
from pathlib import Path
from winnow.modeling.encoder import DenseEncoder

encoder = DenseEncoder.load(Path("path/to/this/directory"))
queries = encoder.encode(["how do I copy a file?"], side="query")
passages = encoder.encode(["shutil.copy copies the file src to the file or directory dst."], side="passage")
scores = queries @ passages.T
```

Use `encode_query` and `encode_document`, not `encode`, so that prefix and length are those of the side.{note}"""


def _contract_rows(contract: Contract) -> dict[str, Any]:
    return {
        "pooling": _POOLING[contract.pooling],
        "normalised": "yes" if contract.normalise else "no",
        "query prefix": repr(contract.query_prefix),
        "passage prefix": repr(contract.passage_prefix),
        "query tokens, at most": contract.query_max_tokens,
        "passage tokens, at most": contract.passage_max_tokens,
    }


def _table(title: str, column: str, rows: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", f"| {column} | |", "|---|---|", *lines])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def _shown(reference: str) -> str:
    """The name of a model without the folders of one machine."""
    return Path(reference).name if reference.startswith((".", "/", "~")) else reference
