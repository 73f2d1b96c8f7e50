"""API keys: made here, kept as hashes, compared in constant time."""

import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from corella.errors import UserError, suggest
from corella.files import atomic_path, read_json

_LOOK_SECONDS = 1.0
SCOPES = ("read", "write", "admin")
"""`read` may score, recommend and search; `write` may also send events, items and people; `admin` may also choose which
version of the model serves."""


@dataclass(frozen=True)
class Key:
    """What is kept of a key."""

    name: str
    scope: str
    sha256: str
    weight: float = 1.0
    """How much the events that it sends count for others than their user, from 0 to 1."""


def make_key(path: Path, name: str, scope: str, weight: float = 1.0) -> str:
    """Add a key to the file (which is made if need be) and return it: the only time that it can be seen. A service that
    runs takes it at once."""
    if scope not in SCOPES:
        raise UserError(f"no scope '{scope}'; valid: {', '.join(SCOPES)}")
    if not 0 <= weight <= 1:
        raise UserError(f"a key's weight is from 0 to 1, not {weight:g}")
    known = read_keys(path) if path.exists() else []
    if any(key.name == name for key in known):
        raise UserError(f"{path} has a key named '{name}' already; choose another name, or revoke that one")
    token = secrets.token_urlsafe(32)
    _write(path, [*known, Key(name, scope, _hash(token), weight)])
    return token


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file; a service that runs lets it in no more. Raises `UserError` where there is none, or
    where it is the last one: without keys the service would let in nobody."""
    keys = read_keys(path)
    left = [key for key in keys if key.name != name]
    if len(left) == len(keys):
        raise UserError(f"{path} has no key named '{name}'; {suggest(name, [key.name for key in keys])}")
    if not left:
        raise UserError(f"'{name}' is the last key of {path}; make another one first")
    _write(path, left)


def _write(path: Path, keys: list[Key]) -> None:
    text = json.dumps([asdict(key) for key in keys], indent=1)
    with atomic_path(path) as temporary:
        temporary.touch(0o600)  # before anything is in it
        temporary.write_text(f"{text}\n", encoding="utf-8")


def read_keys(path: Path) -> list[Key]:
    """The keys of a file. Raises `UserError` where it is none, or where others than its owner may read it."""
    if path.exists() and path.stat().st_mode & 0o077:
        raise UserError(f"{path} may be read by others; a file of keys is private: chmod 600 {path}")
    rows = read_json(path)
    try:
        keys = [
            Key(str(row["name"]), str(row["scope"]), str(row["sha256"]), float(row.get("weight", 1.0))) for row in rows
        ]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise UserError(f"{path} is no file of keys; make one with `corella make-key`") from None
    if not keys or any(k.scope not in SCOPES or len(k.sha256) != 64 for k in keys):
        raise UserError(f"{path} holds no keys, or a broken one; make one with `corella make-key`")
    return keys


class KeyRing:
    """The keys of a file as they are now: it is looked at once in a second. A file that is broken meanwhile changes
    nothing, and is told of."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: no keys are asked for. Raises `UserError` where it holds none."""
        self._path = path
        self.on_problem: Callable[[str], None] = lambda why: None
        """Called with what is wrong with the file, or that nothing is any more."""
        self._keys = [] if path is None else read_keys(path)
        self._stamp, self._looked = self._stamp_now(), time.monotonic()

    @property
    def asked(self) -> bool:
        """Whether callers need one."""
        return self._path is not None

    def find(self, token: str) -> Key | None:
        """The key that `token` is; None where it is none, or no more."""
        if self._path is not None and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read(self._path)
        return find_key(self._keys, token)

    def _read(self, path: Path) -> None:
        try:
            self._keys = read_keys(path)
            self.on_problem("")
        except UserError as error:
            self.on_problem(f"the keys are as they were: {error}")

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            found = None
        return (0, 0, 0) if found is None else (found.st_mtime_ns, found.st_ino, found.st_mode)


def access(host: str, keys: Path | None) -> KeyRing:
    """The keys that callers of a server must have; none only where nobody else can reach it. Raises `UserError`."""
    if keys is not None:
        return KeyRing(keys)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UserError(
            f"without keys the service listens on loopback addresses only, not on {host}; make a key with "
            "`corella make-key` and give the file as keys=FILE"
        )
    return KeyRing(None)


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
