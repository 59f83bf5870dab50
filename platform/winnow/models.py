"""Where model files come from: a folder, an installed package, or a model hub.

``./folder``, ``../folder``, ``/folder`` and ``~/folder`` are directories on disk (relative ones are
taken from the YAML file), ``package:name/path`` is a file or folder inside an installed Python
package (found without importing it), anything else is a hub id such as ``Qwen/Qwen2.5-7B-Instruct``.
"""

import importlib.util
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from winnow.config import refuse_url
from winnow.errors import ConfigError

_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


def _resolve(reference: str, info: ValidationInfo) -> str:
    refuse_url(reference)
    base = (info.context or {}).get("base")
    return str(Path(base) / reference) if base is not None and reference.startswith(".") else reference


ModelReference = Annotated[str, AfterValidator(_resolve)]
"""The name of a model in a configuration; see the module's docstring for its three forms."""


def locate_model(reference: str) -> Path:
    """The directory (or file, for a GGUF model) that ``reference`` names. Raises ``ConfigError``."""
    if reference.startswith("package:"):
        return _existing(_in_package(reference.removeprefix("package:")), reference)
    if reference.startswith((".", "/", "~")):
        return _existing(Path(reference).expanduser(), reference)
    return _from_hub(reference)


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


def _from_hub(reference: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"model {reference!r} was not found on the model hub or in its cache ({type(error).__name__}); "
            f"a directory is written with a leading './' or '/', an installed package as 'package:name/path'"
        ) from error
