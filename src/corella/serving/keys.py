"""API keys: made here, kept as hashes, compared in constant time."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from corella.errors import UserError
from corella.files import read_json, write_json

SCOPES = ("read", "write")
"""`read` may score, recommend and search; `write` may also send events."""


@dataclass(frozen=True)
class Key:
    """What is kept of a key."""

    name: str
    scope: str
    sha256: str


def make_key(path: Path, name: str, scope: str) -> str:
    """Add a key to the file (which is made if need be) and return it: the only time that it can be seen."""
    if scope not in SCOPES:
        raise UserError(f"no scope '{scope}'; valid: {', '.join(SCOPES)}")
    known = read_keys(path) if path.exists() else []
    if any(key.name == name for key in known):
        raise UserError(f"{path} has a key named '{name}' already; choose another name, or remove that line")
    token = secrets.token_urlsafe(32)
    rows = [*known, Key(name, scope, _hash(token))]
    write_json(path, [{"name": k.name, "scope": k.scope, "sha256": k.sha256} for k in rows])
    path.chmod(0o600)
    return token


def read_keys(path: Path) -> list[Key]:
    """The keys of a file. Raises `UserError` where it is none."""
    rows = read_json(path)
    try:
        keys = [Key(str(row["name"]), str(row["scope"]), str(row["sha256"])) for row in rows]
    except (TypeError, KeyError):
        raise UserError(f"{path} is no file of keys; make one with `corella make-key`") from None
    if not keys or any(k.scope not in SCOPES or len(k.sha256) != 64 for k in keys):
        raise UserError(f"{path} holds no keys, or a broken one; make one with `corella make-key`")
    return keys


def find_key(keys: list[Key], token: str) -> Key | None:
    """The key that `token` is; the time it takes tells nothing of any key."""
    given = _hash(token)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, given):
            found = key
    return found


def _hash(token: str) -> str:
    # Keys are 256 random bits: a plain hash cannot be searched.
    return hashlib.sha256(token.encode()).hexdigest()
