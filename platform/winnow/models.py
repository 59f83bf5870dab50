"""Where model files come from: a folder, an installed package, or a model hub.

``./folder``, ``../folder``, ``/folder`` and ``~/folder`` are directories on disk (relative ones are
taken from the YAML file), ``package:name/path`` is a file or folder inside an installed Python
package (found without importing it), anything else is a hub id such as ``Qwen/Qwen2.5-7B-Instruct``.
"""

import importlib.util
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from winnow.config import fingerprint, refuse_url
from winnow.digests import file_digest
from winnow.errors import ConfigError

_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_MODEL_FILES = [*_HUB_FILES, "*.gguf", "*.tiktoken"]
_SAYING_FILES = ["readme*", "license*", "licence*", "notice*", "use_policy*", "changelog*", "requirements*.txt"]
_TRAINING_FILES = ["training_args*", "trainer_state*", "*results.json", "train_log*"]


def _resolve(reference: str, info: ValidationInfo) -> str:
    refuse_url(reference)
    base = (info.context or {}).get("base")
    return str(Path(base) / reference) if base is not None and reference.startswith(".") else reference


ModelReference = Annotated[str, AfterValidator(_resolve)]
"""The name of a model in a configuration; see the module's docstring for its three forms."""


def is_on_hub(reference: str) -> bool:
    """Whether ``reference`` is a hub id."""
    return not reference.startswith(("package:", ".", "/", "~"))


def check_revision(reference: str, revision: str | None) -> None:
    """Raises ``ValueError`` for a ``revision`` of what is not on a hub."""
    if revision is not None and not is_on_hub(reference):
        raise ValueError(
            f"revision={revision!r} has no effect on {reference!r}, which is not on a model hub; remove it"
        )


def locate_model(reference: str, *, revision: str | None = None) -> Path:
    """The directory (or file, for a GGUF model) that ``reference`` names. Raises ``ConfigError``.

    ``revision`` is a branch, a tag or a commit of a hub model. A process that asks again gets the same files.
    """
    if reference.startswith("package:"):
        return _existing(_in_package(reference.removeprefix("package:")), reference)
    if reference.startswith((".", "/", "~")):
        return _existing(Path(reference).expanduser(), reference)
    return _from_hub(reference, revision)


def model_name(reference: str) -> str:
    """What a model is called: the last part of ``reference``, whatever revision of it lies wherever.

    >>> model_name("Qwen/Qwen2.5-7B"), model_name("package:llm/small.gguf"), model_name("/models/judge/")
    ('Qwen2.5-7B', 'small', 'judge')
    """
    path = Path(reference.removeprefix("package:")).expanduser()
    path = path if path.name and path.name != ".." else path.resolve()
    return path.stem if path.suffix == ".gguf" else path.name


def content_hash(source: Path) -> str:
    """Hash of all that a model's output depends on: weights, tokenizer, chat template, configuration.

    Not what is written about it, nor how it was trained.
    """
    if source.is_file():
        return file_digest(source)
    return fingerprint({name: file_digest(source / name) for name in model_files(source)})


def model_files(directory: Path) -> list[str]:
    """The files in ``directory`` that ``content_hash`` covers, by relative path."""
    names = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    return sorted(name for name in names if _matters(name))


def _matters(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    is_beside = any(fnmatch(last, pattern) for pattern in (*_SAYING_FILES, *_TRAINING_FILES))
    return not is_hidden and not is_beside and any(fnmatch(last, pattern) for pattern in _MODEL_FILES)


def _in_package(name: str) -> Path:
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"model 'package:{name}': the package {package!r} is not installed; the extra 'example' has it"
        )
    return Path(spec.origin).parent / inside


def _existing(path: Path, reference: str) -> Path:
    if not path.exists():
        raise ConfigError(
            f"model {reference!r}: there is nothing at {str(path)!r}; expected a model directory "
            f"(config.json, *.safetensors), or a hub id such as 'org/name' without a leading dot or slash"
        )
    return path


@cache
def _from_hub(reference: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ImportError, ValueError) as error:
        # The last two are of a proxy that cannot be used.
        raise ConfigError(
            f"model {reference!r} (revision {revision or 'main'!r}) was not found on the model hub or in its cache "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0][:160]}); "
            f"a directory is written with a leading './' or '/', an installed package as 'package:name/path'"
        ) from error
