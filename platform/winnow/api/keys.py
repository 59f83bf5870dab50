"""API keys: random tokens of which only hashes are kept, in one JSON file that only its owner may read.

A token has 256 random bits. Nobody can go through so many, so a plain SHA-256 keeps it secret; the slow hashes
that protect passwords would cost every request milliseconds and protect nothing more.
"""

import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError

from winnow.errors import ConfigError

Scope = Literal["search", "admin"]
"""What a key is good for. ``admin`` includes ``search``."""

_PREFIX = "wn_"
_LONGEST_TOKEN = 512
_NO_HASH = "0" * 64
_LOCK_TIMEOUT_S = 10.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. Its token is nowhere; its hash is left out of every text made from it."""

    # "forbid" so that a misspelt "revoked" does not leave a key in force.
    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    key_id: Annotated[str, Field(pattern=r"\A[a-z0-9]{1,32}\z")]
    """Names the key in logs and in ``winnow keys revoke``; no secret."""
    name: Annotated[str, Field(pattern=r"\A[^\p{C}]{1,100}\z")]
    """Whose key it is, for people."""
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")] = field(repr=False)
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    created: AwareDatetime
    revoked: AwareDatetime | None = None
    rate_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Requests per minute over all replicas; ``None``: what the configuration says."""

    def allows(self, scope: Scope) -> bool:
        """Whether the key is good for ``scope``."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True)
class KeyRing:
    """The keys in force. With an empty ring nobody gets in."""

    keys: tuple[ApiKey, ...] = ()

    def find(self, token: str) -> ApiKey | None:
        """The key that ``token`` belongs to, unless it was revoked.

        It is looked up by its SHA-256, of which nobody can choose even the beginning without trying: the time of a
        look-up tells nothing about the tokens. The one comparison that is left takes the same time for any token.
        """
        if len(token) > _LONGEST_TOKEN:
            return None
        digest = _hash(token)
        key = self._by_hash.get(digest)
        is_its_token = hmac.compare_digest(digest, _NO_HASH if key is None else key.sha256)
        return key if key is not None and is_its_token and key.revoked is None else None

    @cached_property
    def digest(self) -> str:
        """Changes with anything in the ring."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def _by_hash(self) -> dict[str, ApiKey]:
        return {key.sha256: key for key in self.keys}

    def to_json(self) -> str:
        """The ring as ``from_json`` reads it, hashes included."""
        return _KEYS.dump_json(self.keys, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The ring in ``text``. Raises ``ConfigError``, which repeats nothing of what ``text`` holds."""
        try:
            ring = cls(_KEYS.validate_json(text, strict=True))
        except ValidationError as error:
            # Without its cause, which quotes the hashes.
            raise ConfigError(f"not a list of API keys: {_explain(error)}") from None
        _check_unique(ring.keys)
        return ring


_KEY = TypeAdapter(ApiKey)
_KEYS = TypeAdapter(tuple[ApiKey, ...])


def read_keys(path: Path) -> KeyRing:
    """The keys in ``path``. Raises ``ConfigError``; warns of a file that others may read."""
    try:
        with path.open("rb") as file:
            _warn_if_open_to_others(path, os.fstat(file.fileno()).st_mode)
            return KeyRing.from_json(file.read())
    except FileNotFoundError:
        raise ConfigError(f"no key file at {str(path)!r}; make one with `winnow keys create`") from None
    except OSError as error:
        raise ConfigError(f"the key file {str(path)!r} cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"the key file {str(path)!r} is {error}; restore it, or make a new one") from None


def create_key(path: Path, *, name: str, scopes: Sequence[Scope], rate_per_minute: float | None = None) -> str:
    """The token of a new key in ``path``, which is made if it is missing. Nothing can show the token again."""
    token = _PREFIX + secrets.token_urlsafe(32)

    def added(ring: KeyRing) -> KeyRing:
        fields = {"key_id": _new_id(ring), "sha256": _hash(token), "created": _now()}
        wanted = {"name": name, "scopes": tuple(scopes), "rate_per_minute": rate_per_minute}
        return KeyRing((*ring.keys, _new_key({**fields, **wanted})))

    _change(path, added, may_be_missing=True)
    return token


def revoke_key(path: Path, key_id: str) -> ApiKey:
    """The key, revoked from now on; a key that was revoked before keeps its time."""

    def revoked(ring: KeyRing) -> KeyRing:
        if key_id not in {key.key_id for key in ring.keys}:
            raise ConfigError(f"no key {key_id[:80]!r} in {str(path)!r}; `winnow keys list` shows the ids")
        return KeyRing(tuple(_revoke(key) if key.key_id == key_id else key for key in ring.keys))

    return next(key for key in _change(path, revoked).keys if key.key_id == key_id)


def _change(path: Path, change: Callable[[KeyRing], KeyRing], *, may_be_missing: bool = False) -> KeyRing:
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_TIMEOUT_S, mode=0o600):
            is_new = may_be_missing and not path.exists()
            ring = change(KeyRing() if is_new else read_keys(path))
            _write_private(path, ring.to_json() + "\n")
    except Timeout:
        raise ConfigError(f"another process has held {str(path)!r} for {_LOCK_TIMEOUT_S:g} s; try again") from None
    except OSError as error:
        raise ConfigError(f"the key file {str(path)!r} cannot be written: {error.strerror}") from None
    return ring


def _write_private(path: Path, text: str) -> None:
    """``text`` in ``path``, whole or not at all, for its owner alone from the first byte."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A revoked key must stay revoked after a power cut.
            os.fsync(file.fileno())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _new_key(fields: Mapping[str, Any]) -> ApiKey:
    try:
        return _KEY.validate_python(fields)
    except ValidationError as error:
        raise ConfigError(f"no such key can be made: {_explain(error)}") from None


def _revoke(key: ApiKey) -> ApiKey:
    return key if key.revoked else replace(key, revoked=_now())


def _check_unique(keys: Sequence[ApiKey]) -> None:
    if len({key.key_id for key in keys}) < len(keys):
        raise ConfigError("not a list of API keys: two of them have the same key_id")
    if len({key.sha256 for key in keys}) < len(keys):
        raise ConfigError("not a list of API keys: two of them have the same sha256")


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    # A name that is no field is not repeated: it may be a secret in the wrong place.
    is_known = problem["type"] not in ("extra_forbidden", "unexpected_keyword_argument")
    where = ".".join(map(str, problem["loc"] if is_known else problem["loc"][:-1]))
    return f"{where}: {problem['msg']}" if where else problem["msg"]


def _warn_if_open_to_others(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o077:
        _LOGGER.warning("others may read or write the key file %s; close it with chmod 600", path)


def _hash(token: str) -> str:
    # A header may hold any byte, and a lone surrogate must be refused like any other wrong token.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _new_id(ring: KeyRing) -> str:
    taken = {key.key_id for key in ring.keys}
    return next(key_id for _ in range(100) if (key_id := secrets.token_hex(4)) not in taken)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
