"""Where the parts of an encoder lie in its directory, as ``modules.json`` of sentence-transformers says.

::

    modules.json              Transformer (or Router), Pooling, perhaps Dense, perhaps Normalize
    model.safetensors ...     weights and tokenizer of the one tower; or, where queries and passages have their own,
    router_config.json        the routes ``query`` and ``document`` with
    query_0_Transformer/      the queries' weights and tokenizer,
    document_0_Transformer/   the passages' weights and tokenizer
    1_Pooling/config.json
    2_Dense/                  the projection
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.errors import ConfigError
from winnow.files import read_json, write_json

_BEHIND_THE_TOWERS = (
    ["Pooling"],
    ["Pooling", "Normalize"],
    ["Pooling", "Dense"],
    ["Pooling", "Dense", "Normalize"],
)
_ROUTER = "router_config.json"
_TYPES = "sentence_transformers.models."


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of an encoder's parts. A plain Transformers directory says nothing of pooling and normalisation."""

    root: Path
    query: Path
    """Weights and tokenizer of the queries' tower."""
    passage: Path
    """The same folder where queries and passages share one tower."""
    pooling: Path | None = None
    projection: Path | None = None
    is_normalised: bool | None = None

    @property
    def is_untied(self) -> bool:
        """Whether queries and passages have towers of their own."""
        return self.query != self.passage


def read_layout(directory: Path) -> Layout:
    """The layout of the encoder in ``directory``. Raises ``ConfigError``."""
    path = directory / "modules.json"
    modules = optional_json(path)
    if modules is None:
        return Layout(directory, directory, directory)
    try:
        kinds = [_kind(module["type"]) for module in modules]
        folders = {kind: directory / module["path"] for kind, module in zip(kinds, modules, strict=True)}
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is no list of modules with a type and a path each") from None
    if kinds[:1] not in (["Transformer"], ["Router"]) or kinds[1:] not in _BEHIND_THE_TOWERS:
        raise ConfigError(
            f"{path} lists {kinds}; expected a Transformer (or a Router with one per side), a Pooling, "
            f"perhaps a Dense, and perhaps a Normalize module"
        )
    query, passage = _routes(folders["Router"]) if "Router" in folders else (folders["Transformer"],) * 2
    return Layout(directory, query, passage, folders["Pooling"], folders.get("Dense"), "Normalize" in folders)


def write_layout(directory: Path, *, is_untied: bool, has_projection: bool, is_normalised: bool) -> Layout:
    """Write the files that name the parts, and make the folders that they go into."""
    kinds = ["Router" if is_untied else "Transformer", "Pooling"]
    kinds += ["Dense"] * has_projection + ["Normalize"] * is_normalised
    paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index > 0)]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _TYPES + kind}
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write_json(directory / "modules.json", modules)
    if is_untied:
        routes = {route: f"{route}_0_Transformer" for route in ("query", "document")}
        _write_routes(directory / _ROUTER, routes)
    layout = read_layout(directory)
    for folder in (layout.query, layout.passage, layout.pooling, layout.projection):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    return layout


def optional_json(path: Path) -> Any:
    """The JSON value in ``path``, None if there is no such file. Raises ``ConfigError``."""
    try:
        return read_json(path) if path.exists() else None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error


def _routes(directory: Path) -> tuple[Path, Path]:
    path = directory / _ROUTER
    config = optional_json(path) or {}
    structure, types = config.get("structure") or {}, config.get("types") or {}
    if sorted(structure) != ["document", "query"] or (config.get("parameters") or {}).get("route_mappings"):
        raise ConfigError(f"{path} has the routes {sorted(structure)}; expected query and document, and no mapping")
    for route, names in structure.items():
        kinds = [_kind(types.get(name, "unknown")) for name in names]
        if kinds != ["Transformer"]:
            raise ConfigError(f"{path}: the route {route!r} goes through {kinds}; expected one Transformer")
    return directory / structure["query"][0], directory / structure["document"][0]


def _write_routes(path: Path, routes: dict[str, str]) -> None:
    config = {
        "types": dict.fromkeys(routes.values(), _TYPES + "Transformer"),
        "structure": {route: [folder] for route, folder in routes.items()},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    write_json(path, config)


def _kind(type_name: str) -> str:
    return type_name.rsplit(".", 1)[-1]
