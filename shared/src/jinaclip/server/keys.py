"""Who may use a server, and how much of it: a file with one key a line, hashed.

    # hash of the key, the name that logs and metrics show, and what the key may
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 search slots=4 requests_per_minute=600

A key is 256 random bits. Nobody can guess one, however fast hashes are, so a plain SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinaclip.backends.api.wires.jina import SCHEME, Code
from jinaclip.config import is_loopback
from jinaclip.errors import ConfigError
from jinaclip.server.refusals import Refused

logger = logging.getLogger("jinaclip.server")
PREFIX = "jina_own_"
"""Of the keys that are made here. It tells them from keys of the hosted service, and lets redactors find them."""
KEY_BYTES = 32
LONGEST_KEY = 512
"""Characters of a key that are looked at."""
LONGEST_FILE = 16 * 2**20
"""Bytes: some 150,000 keys."""
LOOK_EVERY = 1.0
"""Seconds between two looks whether the file has changed."""
HASH = re.compile(r"[0-9a-fA-F]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LIMIT = re.compile(r"(slots|requests_per_minute)=([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Key:
    """Who is asking.

    Attributes:
        name: the operator's word for it; all of a key that logs and metrics may show.
        slots: most requests in flight; None if any number.
        requests_per_minute: None if any number.
    """

    name: str
    slots: int | None = None
    requests_per_minute: int | None = None


ANONYMOUS = Key("anonymous")
"""Whoever asks a server without keys."""
Version = tuple[int, ...]
"""What of a file changes with its content."""


class KeyRing:
    """The keys of a file, which is read again when it has changed: keys come and go without a restart.

    A file that cannot be read, or is wrong, changes nothing, and is logged once. Replace the file as a whole (write
    another and rename it), as an editor does: a file that is half written may be valid.

    Args:
        path: of the file.
        clock: seconds.

    Raises:
        ConfigError: the file cannot be read or is wrong. It names the file and the line, never what stands there.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._looked_at = clock()
        self._version: Version | None
        self._keys, self._version = read_keys(self._path)

    @classmethod
    def read(cls, path: str | Path) -> KeyRing:
        """The keys of this file."""
        return cls(path)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, authorization: str) -> Key:
        """The key in an Authorization header, "" where there is no such header.

        Raises:
            Refused: it holds no key of this ring; a 401.
        """
        self._look()
        # Neither hashing nor the table take the same time for all keys. What that tells is about the hash of a guess,
        # and no guess that shares a part of a hash is nearer to the key.
        found = self._keys.get(digest(read_key(authorization)))
        if found is None:
            raise Refused(401, Code.INVALID_KEY, "This server does not know the key that was given.")
        return found

    def _look(self) -> None:
        """Reads the file again if it has changed since the last look."""
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        version = version_of(self._path)
        if version != self._version:
            self._version = version  # a wrong file is logged once
            self._read_again()

    def _read_again(self) -> None:
        try:
            keys, self._version = read_keys(self._path)
        except ConfigError as error:
            logger.error("the keys stay as they were: %s", error)  # noqa: TRY400  what is wrong, and not where
            return
        before, self._keys = self._keys, keys
        gone = len(before.keys() - keys.keys())
        logger.info("read %s again: %d keys, %d new, %d gone", self._path, len(keys), len(keys - before.keys()), gone)


class OpenRing:
    """The ring of a server without keys: whoever asks is anonymous."""

    def find(self, authorization: str) -> Key:
        """The one key there is, whatever the header says."""
        return ANONYMOUS


Ring = KeyRing | OpenRing
"""Whoever knows the keys of a server."""


def find_ring(path: str | Path | None, host: str) -> Ring:
    """The keys of a file, or none at all on a server that only this machine can reach.

    Args:
        path: of the file; None for a server without keys.
        host: on which the server listens.

    Raises:
        ConfigError: the file is wrong, or there is none and other machines can reach the server.
    """
    if path is not None:
        return KeyRing.read(path)
    if not is_loopback(host):
        remedy = "jinaclip serve --make-key NAME makes a key, --keys FILE reads the file of them"
        requirement = f"127.0.0.1, ::1 or localhost on a server without keys; {remedy}"
        message = f"host={host!r} lets other machines in; it must be {requirement}"
        raise ConfigError(message, option="host", requirement=requirement)
    return OpenRing()


def make_key(name: str, **limits: int) -> tuple[str, str]:
    """A new key, and the line of it for the file.

    Args:
        name: letters, digits, dots, dashes, underscores; 64 at most.
        limits: `slots` and `requests_per_minute`, where it has such.

    Raises:
        ConfigError: the name or a limit is none.
    """
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    line = " ".join([digest(key).hex(), name, *(f"{limit}={value}" for limit, value in limits.items())])
    try:
        _read_line(line)
    except ValueError as error:
        raise ConfigError(f"no key for {name[:64]!r}: {error}") from None
    return key, line


def digest(key: str) -> bytes:
    """What the file has of a key."""
    return hashlib.sha256(key.encode()).digest()


def read_key(authorization: str) -> str:
    """The key in an Authorization header.

    Raises:
        Refused: it holds none; a 401.
    """
    if not authorization:
        message = f"No API key was given; this server wants the header 'Authorization: {SCHEME} <key>'."
        raise Refused(401, Code.MISSING_KEY, message)
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != SCHEME.lower() or not 0 < len(key.strip()) <= LONGEST_KEY:
        raise Refused(401, Code.INVALID_SCHEME, f"The header must be 'Authorization: {SCHEME} <key>'.")
    return key.strip()


def version_of(path: Path) -> Version | None:
    """What of a file changes with its content; None if it is not there."""
    try:
        return _version(path.stat())
    except OSError:
        return None


def _version(facts: os.stat_result) -> Version:
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino, facts.st_dev


def read_keys(path: Path) -> tuple[dict[bytes, Key], Version]:
    """The keys of a file by their hashes, and its version.

    Raises:
        ConfigError: the file cannot be read or is wrong.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            raw = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"the keys cannot be read: {path}: {error.strerror}", option="keys") from None
    if os.name == "posix" and facts.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: anybody may write into it and add a key; chmod o-w it", option="keys")
    if len(raw) > LONGEST_FILE:
        raise ConfigError(f"{path}: larger than {LONGEST_FILE} bytes; is it a file of keys?", option="keys")
    return _read_lines(path, raw.decode("utf-8", "replace").splitlines()), _version(facts)


def _read_lines(path: Path, lines: Iterable[str]) -> dict[bytes, Key]:
    keys: dict[bytes, Key] = {}
    names: set[str] = set()
    for number, line in _filled(lines):
        try:
            known, key = _read_line(line)
            if known in keys or key.name in names:
                raise ValueError("its hash or name stands on a line before; both must be unique")
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}", option="keys") from None
        keys[known] = key
        names.add(key.name)
    if not keys:
        raise ConfigError(f"{path}: not one key; jinaclip serve --make-key NAME makes one", option="keys")
    return keys


def _filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that are neither blank nor a comment, with their numbers."""
    for number, line in enumerate(lines, 1):
        content = line.split("#", 1)[0].lstrip("\ufeff").strip()
        if content:
            yield number, content


def _read_line(line: str) -> tuple[bytes, Key]:
    """The hash of a key, and the key. Errors hold nothing of the line: it may be the key itself."""
    words = line.split()
    if not HASH.fullmatch(words[0]):
        raise ValueError("it must begin with the SHA-256 of a key, 64 hex digits (--make-key gives the whole line)")
    if len(words) < 2 or not NAME.fullmatch(words[1]):
        raise ValueError("the second word must be a name of letters, digits, '.', '-', '_', at most 64")
    if words[1].startswith(PREFIX) or HASH.fullmatch(words[1]):
        raise ValueError("a key or a hash stands where its name should; logs and metrics would show it")
    limits = [LIMIT.fullmatch(word) for word in words[2:]]
    named = {limit[1]: int(limit[2]) for limit in limits if limit}
    if len(named) < len(limits):
        raise ValueError("behind the name only slots=N and requests_per_minute=N may stand, each once, N from 1")
    return bytes.fromhex(words[0]), Key(words[1], **named)
