"""What ``winnow keys`` does: make, list and revoke the keys of the HTTP application.

A running server sees a change within seconds.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from winnow.api.keys import ApiKey, Scope, create_key, read_keys, revoke_key

_ROW = "{:<9} {:<13} {:>9}  {:<10}  {:<18}  {}"


def create(path: Path, *, name: str, scopes: Sequence[Scope], rate_per_minute: float | None = None) -> None:
    """A new key in ``path``. Its token alone goes to standard output, so that a script can catch it."""
    token = create_key(path, name=name, scopes=scopes, rate_per_minute=rate_per_minute)
    key = read_keys(path).find(token)
    assert key is not None
    print(f"key {key.key_id} ({', '.join(key.scopes)}) is in {path}; this is shown once:", file=sys.stderr)
    print(token)


def show(path: Path) -> None:
    """A table of all keys in ``path``, revoked ones too; nothing in it is secret."""
    print(_ROW.format("id", "scopes", "per min.", "created", "state", "name"))
    for key in read_keys(path).keys:
        print(_row(key))


def revoke(path: Path, key_id: str) -> None:
    """The key is of no use from now on."""
    key = revoke_key(path, key_id)
    print(f"key {key.key_id} ({key.name}) is revoked; servers that read {path} refuse it within seconds")


def _row(key: ApiKey) -> str:
    rate = "-" if key.rate_per_minute is None else f"{key.rate_per_minute:g}"
    state = "in force" if key.revoked is None else f"revoked {key.revoked:%Y-%m-%d}"
    return _ROW.format(key.key_id, ",".join(key.scopes), rate, f"{key.created:%Y-%m-%d}", state, key.name)
