"""The output's folder: local, on s3:// or gs://, or wherever fsspec reaches. A file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
import shutil
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinaclip.errors import ConfigError
from jinaclip.requirements import need
from jinaclip.sources.opening import find_folder, find_listing, matches
from jinaclip.sources.places import SCHEME, LocalFolder
from jinaclip.sources.remote import file_system, find_remote
from jinaclip.uris import path_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs

TEMPORARY = "_tmp-"
"""How the name of a file begins that is being written. Readers of folders skip what begins with "_" ..."""
HIDDEN = ".hidden"
"""... and those of `*.parquet` what ends otherwise."""

PART = "part-00000-0123456789ab.parquet"
"""Such a name as parts have."""


def check_extra() -> None:
    """Refuses to start without what reads and writes Parquet.

    Raises:
        MissingDependencyError: the extra `bulk` is not installed.
    """
    for module in ("filelock", "pyarrow.parquet"):
        need(module, "a bulk run")


def check_apart(source: object, out: str | os.PathLike[str]) -> None:
    """Refuses an output whose parts the next run would read as tables: within a folder of them, or matched by a glob.

    Args:
        source: of tables, as the user named it.
        out: the folder of the output.

    Raises:
        ConfigError: it lies there, or names nothing.
        MissingDependencyError: a library for its place is not installed.
    """
    if not isinstance(source, str | os.PathLike):
        return
    system, place, _ = find_place(os.fspath(out))
    if system.type_name == "local" and _lists_parts(os.fspath(source), Path(place)):
        raise ConfigError(
            f"{os.fspath(out)!r} lies in the source {os.fspath(source)!r}, whose tables the next run would read with "
            "those of the output: choose another --out",
            option="out",
        )


def _lists_parts(source: str, out: Path) -> bool:
    """Whether a folder or a glob of tables, both on this machine, lists what is written into a folder."""
    folder, path = find_folder(source)
    listing = find_listing(folder, path, folder.what(path))
    if listing is None or not isinstance(listing.folder, LocalFolder):
        return False
    root, place = Path(listing.folder.root).resolve(), out.resolve()
    if not place.is_relative_to(root):
        return False
    names = place.relative_to(root).parts
    if listing.pattern is None:
        return True
    is_left_out = any(name.startswith((".", "_")) for name in names)
    return not is_left_out and matches((*names, PART), listing.pattern)


class OutputFolder:
    """A folder, and the files directly in it.

    Args:
        place: a path, or an address such as s3://bucket/folder. It is made when the first file is written.

    Raises:
        ConfigError: the address cannot be used.
        MissingDependencyError: the extra `bulk` is not installed.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        check_extra()
        self.filesystem, self.path, self.name = find_place(os.fspath(place))
        self.local = Path(self.path) if self.filesystem.type_name == "local" else None
        """The folder as a path; None where it is on no disk of this machine."""

    def __str__(self) -> str:
        return self.name

    def enter(self, name: str) -> OutputFolder:
        """The folder of this name under it, which need not be there."""
        below = copy(self)
        below.path, below.name = self.address(name), f"{self.name.rstrip('/')}/{name}"
        below.local = None if self.local is None else self.local / name
        return below

    def remove(self) -> None:
        """Removes it with all that is in it, if it is there."""
        from pyarrow.fs import FileType

        if self.filesystem.get_file_info(self.path).type == FileType.Directory:
            self.filesystem.delete_dir(self.path)

    def names(self) -> list[str]:
        """Names of the files in it, sorted; not one if there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        found = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.File)

    def holds(self, name: str) -> bool:
        """Whether a file is in it."""
        from pyarrow.fs import FileType

        return bool(self.filesystem.get_file_info(self.address(name)).type == FileType.File)

    def open(self, name: str) -> pa.NativeFile:
        """A file for reading."""
        return self.filesystem.open_input_file(self.address(name))

    def read(self, name: str) -> bytes:
        """What a file holds."""
        with self.open(name) as file:
            return bytes(file.read())

    def write(self, name: str, data: Any) -> None:
        """Writes a file, or replaces it, so that at any moment it is there whole or not at all.

        Args:
            name: of the file.
            data: bytes, a buffer of pyarrow, or a function that writes into the file that it is given.

        Raises:
            OSError: it could not be written.
        """
        if self.local is not None:
            return self._write_locally(self.local, name, data)
        content = _in_memory(data)
        if not self._has(name):
            return self._upload(name, content)
        unfinished = f"{TEMPORARY}{name}{HIDDEN}"
        self._upload(unfinished, content)
        try:
            return self.move(unfinished, name)  # an upload that fails half-way would leave neither the old nor the new
        except BaseException:
            self._discard(unfinished)
            raise

    def _has(self, name: str) -> bool:
        from pyarrow.fs import FileType

        return bool(self.filesystem.get_file_info(self.address(name)).type == FileType.File)

    def _upload(self, name: str, content: Any) -> None:
        """Writes a file that is not there yet."""
        try:
            with self.filesystem.open_output_stream(self.address(name)) as file:
                file.write(content)
        except BaseException:
            self._discard(name)  # closing the stream may have completed half an upload
            raise

    def _write_locally(self, folder: Path, name: str, data: Any) -> None:
        import pyarrow as pa

        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{TEMPORARY}{name}{HIDDEN}"
        try:
            with pa.OSFile(str(unfinished), "wb") as file:  # one of Python's would take the interpreter's lock
                _fill(file, data)
            sync(unfinished, os.O_RDWR)
            unfinished.replace(folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self.sync()

    def check_room(self, size: int) -> None:
        """Refuses to begin what could not be written afterwards.

        Elsewhere than on a disk there is always room, and so there is where a file system does not tell its size, as
        some mounts of buckets.

        Args:
            size: bytes that will be written.

        Raises:
            OSError: the disk has not so much left.
        """
        if self.local is None:
            return
        disk = shutil.disk_usage(self.local)
        if disk.total and disk.free < size:
            left, need = (f"{number / 2**20:,.0f} MiB" for number in (disk.free, size))
            raise OSError(
                errno.ENOSPC,
                f"{self} has {left} left, and {need} are needed for what is embedded next; make room and run again",
            )

    def _discard(self, name: str) -> None:
        with suppress(OSError):  # the error that led here says more
            self.delete(name)

    def move(self, name: str, other: str) -> None:
        """Gives a file another name."""
        self.filesystem.move(self.address(name), self.address(other))

    def set_aside(self, name: str) -> None:
        """Renames a damaged file, so that readers skip it."""
        self.move(name, f"_damaged-{name}{HIDDEN}")

    def delete(self, name: str) -> None:
        """Deletes a file."""
        self.filesystem.delete_file(self.address(name))

    def sync(self) -> None:
        """Waits until the disk knows which files there are."""
        if self.local is not None and os.name != "nt":
            sync(self.local, os.O_RDONLY)

    def address(self, name: str) -> str:
        """The path of a file, within `filesystem`."""
        return f"{self.path.rstrip('/')}/{name}"


def sync(path: Path, flags: int) -> None:
    """Waits until the disk has what was written to a file, or to the list of a folder.

    Args:
        path: of it.
        flags: to open it with.
    """
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(file: Any, data: Any) -> None:
    if callable(data):
        data(file)
    else:
        file.write(data)


def _in_memory(data: Any) -> Any:
    """All of it, so that no upload is begun that cannot be ended."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    _fill(sink, data)
    return sink.getvalue()


def find_place(place: str) -> tuple[pyarrow.fs.FileSystem, str, str]:
    """The file system of a path or an address, the path within it, and how messages call it, without keys.

    Raises:
        ConfigError: it names nothing, or nothing here reaches it.
        MissingDependencyError: a library for it is not installed.
    """
    from pyarrow.fs import LocalFileSystem

    if not place.strip() or "\0" in place:
        raise ConfigError(f"an output is a folder or an address such as s3://bucket/folder, not {place!r}")
    scheme = SCHEME.match(place)
    if scheme is None or scheme[0].lower() == "file://":
        path = Path(place) if scheme is None else path_of(place)
        return LocalFileSystem(), str(path.absolute()), place
    found, path_there = find_remote(place)
    return file_system(found.base), posixpath.join(found.root, path_there), f"{found.name}/{path_there}"


def random_name() -> str:
    """Twelve hexadecimal digits, so that no two parts get the same name, whoever writes them."""
    return secrets.token_hex(6)
