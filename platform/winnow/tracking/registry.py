"""Retriever versions in MLflow's model registry, and the rule by which ``champion`` moves.

A version is a directory (encoder, index, manifest) logged as plain files: MLflow's model flavours would
pickle it. The rule looks at dev questions alone, and compares only values measured on the same ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.tracking.store import EntryRefused

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
ARTIFACTS = "retriever"
_CONTENT_TAG = "content_hash"
_ROUNDING = 1e-9


def register(
    client: "MlflowClient", run_id: str, entry: Mapping[str, Any], *, model: str, min_gain: float
) -> tuple[str, str]:
    """The number of the version in ``entry``, and what became of ``champion``, in words.

    Safe to repeat: equal content is one version, and a value is compared with the champion's once.
    """
    version = _find(client, model, entry[_CONTENT_TAG]) or _create(client, run_id, entry, model)
    number = str(version.version)
    if entry["dev_value"] is None:
        return number, "there are no dev questions, so champion stays where it is"
    tag = f"dev.{entry['measure'].replace('@', '_at_')}.{entry['dev_digest']}"
    if tag in version.tags:
        return number, "known already"
    decision = _decide(client, model, number, entry, tag, min_gain)
    # Last, because it says that the decision was carried out.
    client.set_model_version_tag(model, number, tag, repr(entry["dev_value"]))
    return number, decision


def _decide(
    client: "MlflowClient", model: str, number: str, entry: Mapping[str, Any], tag: str, min_gain: float
) -> str:
    champion = _champion(client, model)
    measured = f"dev {entry['measure']} {entry['dev_value']:.4f}"
    if champion is None:
        client.set_registered_model_alias(model, CHAMPION, number)
        return f"first champion, {measured}"
    if str(champion.version) == number:
        return f"is the champion, {measured}"
    if tag not in champion.tags:
        return (
            f"champion stays version {champion.version}: it was not measured on these dev questions; "
            f"evaluate it on them, or move the alias in the MLflow UI"
        )
    gain = entry["dev_value"] - float(champion.tags[tag])
    if gain <= 0 or gain < min_gain - _ROUNDING:
        return f"champion stays version {champion.version}: {measured} is {gain:+.4f}, asked for +{min_gain:g}"
    client.set_registered_model_alias(model, CHAMPION, number)
    return f"new champion in place of version {champion.version}: {measured}, {gain:+.4f}"


def _champion(client: "MlflowClient", model: str) -> "ModelVersion | None":
    number = client.get_registered_model(model).aliases.get(CHAMPION)
    return None if number is None else client.get_model_version(model, str(number))


def _find(client: "MlflowClient", model: str, content_hash: str) -> "ModelVersion | None":
    found = client.search_model_versions(f"name = '{model}' and tags.{_CONTENT_TAG} = '{content_hash}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _create(client: "MlflowClient", run_id: str, entry: Mapping[str, Any], model: str) -> "ModelVersion":
    directory = Path(entry["path"])
    if not directory.is_dir():
        raise EntryRefused(
            f"retriever version {str(directory)!r} is gone; run `winnow index` and `winnow evaluate` again"
        )
    _ensure_model(client, model)
    client.log_artifacts(run_id, str(directory), ARTIFACTS)
    source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACTS}"
    return client.create_model_version(
        model,
        source,
        run_id,
        tags={_CONTENT_TAG: entry[_CONTENT_TAG]},
        description=_card(directory),
        await_creation_for=0,
    )


def _card(directory: Path) -> str | None:
    """What the registry's page shows of a version: the card of its encoder, without the lines for model hubs."""
    path = directory / "encoder" / "README.md"
    return path.read_text(encoding="utf-8").rpartition("\n---\n")[2].strip() if path.exists() else None


def _ensure_model(client: "MlflowClient", model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
