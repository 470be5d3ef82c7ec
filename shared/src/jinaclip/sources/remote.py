"""Folders of other places: S3 and Google Cloud by pyarrow, what else fsspec knows by fsspec."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, cast

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError, MissingDependencyError, UnreadableError
from jinaclip.images.files import check_size
from jinaclip.requirements import need
from jinaclip.sources.places import SCHEME, Folder, What

NATIVE = ("s3", "gs")
"""Places that pyarrow reads itself."""
WEB = ("http", "https", "ftp")
_NAMES = "region|scheme|endpoint_override|allow_[a-z_]+|force_virtual_addressing|tls_ca_file_path|retry_limit_seconds"
QUERY = re.compile(rf"\?(?:{_NAMES}|project_id|background_writes)=.*\Z", re.DOTALL)
"""Settings of pyarrow behind an address; any other ? belongs to a name."""
SETTINGS = "?region=eu-central-1 or ?endpoint_override=host:9000&scheme=http"


@dataclass(frozen=True, slots=True)
class RemoteFolder(Folder):
    """A folder of another place.

    Args:
        base: the address of its bucket, with settings and without its path. It may hold a key that the user wrote
            there; keys of the environment are in none of this.
        root: the path of the folder as the file system has it, bucket included.
    """

    base: str
    root: str

    @property
    def name(self) -> str:
        """Its address, without settings and keys."""
        return f"{self.base.partition('://')[0]}://{self.root.lstrip('/')}"

    def list(self, depth: int | None = None) -> Iterator[str]:
        """See `Folder.list`. All paths are held in memory: such places are asked once for all, a thousand at a time."""
        fs = need("pyarrow.fs", self.name)
        with self._errors(""):
            found = file_system(self.base).get_file_info(fs.FileSelector(self.root, recursive=depth != 1))
            files = [info.path[len(self.root) :].lstrip("/") for info in found if info.type == fs.FileType.File]
        for path in sorted(files, key=lambda path: path.split("/")):
            parts = path.split("/")
            if not any(part.startswith(".") for part in parts) and (depth is None or len(parts) <= depth):
                yield path

    def open(self, path: str) -> BinaryIO:
        """See `Folder.open`."""
        with self._errors(path):
            return cast(BinaryIO, file_system(self.base).open_input_file(self._join(path)))

    def read(self, path: str, policy: ImagePolicy) -> bytes:
        """See `Folder.read`."""
        if not self.holds(path):
            raise InputError(f"image {path!r:.200} lies outside {self.name}; keep images in the folder of their table")
        with self.open(path) as file, self._errors(path):
            data = file.read(policy.max_bytes + 1)
        check_size(len(data), policy)
        return data

    def what(self, path: str) -> What:
        """See `Folder.what`."""
        fs = need("pyarrow.fs", self.name)
        with self._errors(path):
            found = file_system(self.base).get_file_info(self._join(path)).type
        names: dict[Any, What] = {fs.FileType.File: "file", fs.FileType.Directory: "folder", fs.FileType.NotFound: ""}
        return names.get(found, "other")

    def enter(self, path: str) -> Folder:
        """See `Folder.enter`."""
        return RemoteFolder(self.base, self._join(path))

    def holds(self, path: str) -> bool:
        """See `Folder.holds`. There are no links."""
        inside = self._join(path)
        return not path.startswith("/") and (not self.root or inside.startswith(self.root.rstrip("/") + "/"))

    def _join(self, path: str) -> str:
        """The path of a file as the file system has it. Names such as ".." are no folders there, but mean them."""
        parts = path.split("/")
        joined = posixpath.join(self.root, path) if path else self.root
        return posixpath.normpath(joined) if ".." in parts or "." in parts else joined

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        shown = f"{self.name}/{path}" if path else self.name
        try:
            yield
        except (InputError, MissingDependencyError):
            raise
        except FileNotFoundError:
            raise UnreadableError(f"there is no {shown}") from None
        except Exception as error:  # noqa: BLE001  of any file system's library
            raise UnreadableError(f"{shown} cannot be read ({type(error).__name__}: {str(error)[:300]})") from None


def find_remote(address: str) -> tuple[RemoteFolder, str]:
    """The folder that an address leads into, and the path from there: the bucket, and all behind it.

    The path is taken as it is written, as AWS's own tools take it: with spaces, "#" and "%".

    Raises:
        ConfigError: there is no such place, or its settings are wrong.
        MissingDependencyError: a library for it is not installed.
    """
    scheme = SCHEME.match(address)
    assert scheme is not None  # noqa: S101  whoever calls this has looked
    kind = {"gcs": "gs", "s3a": "s3"}.get(scheme[1].lower(), scheme[1].lower())
    if kind in WEB:
        raise ConfigError(f"{kind}:// addresses are no source: download the file, and name that")
    settings = QUERY.search(address) if kind in NATIVE else None
    bucket, _, path = address[scheme.end() : settings.start() if settings else None].partition("/")
    if kind in NATIVE and not bucket.rpartition("@")[2]:
        raise ConfigError(f"{kind}:// cannot be read as a whole; name a bucket, as in {kind}://bucket/folder")
    base = f"{kind}://{bucket}{settings[0] if settings else ''}"
    file_system(base)
    root = bucket.rpartition("@")[2] if kind in NATIVE else _root_of(base)
    return RemoteFolder(base, root), path.rstrip("/")


@lru_cache(maxsize=16)
def file_system(base: str) -> Any:
    """The file system of a place, as pyarrow has it."""
    kind, _, rest = base.partition("://")
    shown = f"{kind}://{rest.partition('?')[0].rpartition('@')[2]}"
    fs = need("pyarrow.fs", shown)
    try:
        if kind in NATIVE:
            return fs.FileSystem.from_uri(base)[0]
        found, _ = need("fsspec.core", shown).url_to_fs(base)
        return fs.PyFileSystem(fs.FSSpecHandler(found))
    except ImportError as missing:
        raise MissingDependencyError(f"{shown} cannot be read: {missing}") from None
    except Exception as error:  # noqa: BLE001  of any file system's library
        why = str(error).replace(base, shown)[:300]
        raise ConfigError(f"{shown} cannot be opened: {why}; settings stand at its end, as in {SETTINGS}") from None


def _root_of(base: str) -> str:
    """The path of a place's root as fsspec has it."""
    _, path = need("fsspec.core", base).url_to_fs(base)
    return str(path)
