"""Finds out what a source is: by its name, and of a folder by what is in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError
from jinaclip.sources.csv_files import CsvReader, read_header
from jinaclip.sources.here import RowsSource, StdinSource
from jinaclip.sources.image_files import DOCUMENTS, IMAGES, ImageFileReader, ImageFileSource, is_image_file
from jinaclip.sources.jsonl import JsonlReader, read_values
from jinaclip.sources.lines import LineReader
from jinaclip.sources.parquet import ParquetReader, ParquetSource, read_names
from jinaclip.sources.places import FOLDER_END, SCHEME, Folder, LocalFolder, What, printable
from jinaclip.sources.records import RowMaker, check_columns, choose_columns, kinds_of
from jinaclip.sources.rows import Columns, FileSource, Source
from jinaclip.sources.streams import COMPRESSIONS, PEEKED, open_stream, read_lines
from jinaclip.uris import path_of

SourceLike = str | os.PathLike[str] | Iterable[Mapping[str, Any]]
WILD = frozenset("*?[")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".txt": "lines"}
"""By the ending of a name; a file that was named itself and ends otherwise has lines."""
REFUSED = (".json", ".tsv", ".xlsx", ".xls", ".zip", ".tar", ".tgz", ".arrow", ".feather", ".orc", ".avro", ".npy")
"""Endings of files that people have and that are no lines."""
HEAD = 4096
"""Bytes in which a file that is no text gives itself away."""
ANY_COLUMNS, ANY_POLICY = Columns(), ImagePolicy()


@dataclass(frozen=True, slots=True)
class Listing:
    """The paths in a folder that a pattern matches, listed anew by each loop.

    Attributes:
        folder: where they are.
        pattern: as in ("2024", "*.jpg"); "**" stands for any folders. None for all.
    """

    folder: Folder
    pattern: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[str]:
        if self.pattern is None:
            yield from self.folder.list()
            return
        for path in self.folder.list(None if "**" in self.pattern else len(self.pattern)):
            if matches(tuple(path.removesuffix(FOLDER_END).split("/")), self.pattern):
                yield path


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the names of a path fit those of a pattern."""
    if not pattern or not parts:
        return not parts and all(name == "**" for name in pattern)
    if pattern[0] == "**":
        return matches(parts, pattern[1:]) or matches(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def open_source(source: SourceLike, columns: Columns = ANY_COLUMNS, *, policy: ImagePolicy = ANY_POLICY) -> Source:
    """Opens a source of rows. What the package's docstring says of each kind holds.

    Args:
        source: a file, a folder or a glob, on this machine or at an address such as `s3://bucket/folder`; "-" for
            stdin; or rows from Python, mappings by name.
        columns: of tables.
        policy: which images are accepted; of it `allowed_roots` and `max_bytes` count here.

    Raises:
        ConfigError: there is no such source, it is of no known kind, or lacks a column.
        InputError: it cannot be read.
        MissingDependencyError: a library for it is not installed.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        return StdinSource(columns, policy) if name == "-" else open_named(name, columns, policy)
    if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
        raise ConfigError(f"a source is a path, an address, - or rows; not {type(source).__name__}", option="source")
    return RowsSource(source, columns, policy)


def open_named(source: str, columns: Columns, policy: ImagePolicy) -> Source:
    """Opens a file, a folder or a glob. Raises as `open_source`."""
    folder, path = find_folder(source)
    what = folder.what(path)
    if what == "file":
        return open_file(folder, path, columns, policy)
    if what == "other":
        raise ConfigError(f"{printable(source)!r} is a pipe or a device; give its content to stdin and name - instead")
    listing = find_listing(folder, path, what)
    if listing is None:
        raise ConfigError(f"there is no file or folder {printable(source)!r}", option="source")
    return open_folder(listing, columns, policy)


def find_listing(folder: Folder, path: str, what: What) -> Listing | None:
    """What a path from a folder lists, a folder or a glob; None if it is neither.

    Args:
        folder: where it begins.
        path: from there.
        what: it names, as the folder says.
    """
    if what == "folder":
        return Listing(folder.enter(path) if path else folder)
    if what or not WILD & set(path):
        return None
    parts = PurePosixPath(path).parts
    fixed = next(i for i, part in enumerate(parts) if WILD & set(part))
    return Listing(folder.enter("/".join(parts[:fixed])) if fixed else folder, parts[fixed:])


def find_folder(source: str) -> tuple[Folder, str]:
    """A folder that a source lies in, and its path from there.

    Raises:
        ConfigError: it names nothing that there can be.
        MissingDependencyError: a library for its place is not installed.
    """
    if not source.strip() or "\0" in source:
        raise ConfigError("a source is a file, a folder, a glob, an address such as s3://bucket/folder, or -")
    scheme = SCHEME.match(source)
    if scheme is not None and scheme[1].lower() != "file":
        from jinaclip.sources.remote import find_remote

        return find_remote(source)
    path = (Path(source) if scheme is None else path_of(source)).absolute()
    return LocalFolder(path.anchor), "/".join(path.parts[1:])


def open_file(folder: Folder, path: str, columns: Columns, policy: ImagePolicy) -> Source:
    """Opens one file. Raises as `open_source`."""
    parent, _, name = path.rpartition("/")
    inner = folder.enter(parent) if parent else folder
    if is_image_file(name):
        direct = LocalFolder(inner.root, confined=False) if isinstance(inner, LocalFolder) else inner
        return ImageFileSource(printable(name), ImageFileReader(direct, policy), [name])
    end = ending(name)
    if end in REFUSED:
        raise ConfigError(f"{printable(name)!r} ends in {end}, which is not read; write it as .jsonl, .csv or .parquet")
    return open_table(inner, [name], FORMATS.get(end, "lines"), columns, policy)


def open_folder(listing: Listing, columns: Columns, policy: ImagePolicy) -> Source:
    """Opens a folder or a glob: of pictures if there is one, else of tables of one kind. Raises as `open_source`."""
    folder, tables, others = listing.folder, dict[str, list[str]](), list[str]()
    for path in listing:
        kind = FORMATS.get(ending(path))
        if is_image_file(path):
            name = "/".join([folder.name, *(listing.pattern or ())])
            return ImageFileSource(name, ImageFileReader(folder, policy), listing)
        if kind is not None and not any(part.startswith("_") for part in path.split("/")):
            tables.setdefault(kind, []).append(path)
        else:
            others.append(path)
    return open_tables(listing, tables, others, columns, policy)


def open_tables(
    listing: Listing, tables: dict[str, list[str]], others: Sequence[str], columns: Columns, policy: ImagePolicy
) -> Source:
    """Opens files of a folder, by their kinds, as one table. Raises as `open_source`."""
    name = listing.folder.name
    if not tables and listing.pattern is not None and others:
        tables = {"lines": [*others]}  # whoever names them by a pattern knows what they are
    if not tables:
        endings = ", ".join((*IMAGES, *DOCUMENTS, *FORMATS))
        what = name if listing.pattern is None else f"{'/'.join(listing.pattern)} in {name}"
        raise ConfigError(f"nothing to embed: no file of {what} ends in one of {endings}", option="source")
    if len(tables) > 1:
        firsts = ", ".join(repr(printable(paths[0])) for paths in tables.values())
        raise ConfigError(f"{name} holds tables of several kinds, {firsts}; name one of them, or a glob")
    [(kind, paths)] = tables.items()
    links = [path for path in others if path.endswith(FOLDER_END)]
    outside = next((path for path in [*paths, *links] if not listing.folder.holds(path)), None)
    if outside is not None:
        raise InputError(f"{printable(outside)!r} is a link out of {name}; name what it leads to as a source")
    return open_table(listing.folder, paths, kind, columns, policy)


def open_table(folder: Folder, paths: Sequence[str], kind: str, columns: Columns, policy: ImagePolicy) -> Source:
    """Opens files of one kind as one table, whose columns are those of the first file. Raises as `open_source`."""
    first = printable(paths[0])
    name = first if len(paths) == 1 else folder.name
    if kind == "lines":
        refuse_columns(columns, name)
        refuse_binary(folder, paths[0])
        return FileSource(name, LineReader(folder, several=len(paths) > 1), frozenset(["text"]), paths)
    if kind == "jsonl":
        chosen = check_columns(columns, first_values(folder, paths[0]), first)
        return FileSource(name, JsonlReader(folder, RowMaker(chosen, folder, policy)), None, paths)
    if kind == "csv":
        chosen = choose_columns(columns, read_header(folder, paths[0]), first)
        return FileSource(name, CsvReader(folder, RowMaker(chosen, folder, policy)), kinds_of(chosen), paths)
    chosen = choose_columns(columns, read_names(folder, paths[0]), first)
    return ParquetSource(name, ParquetReader(folder, RowMaker(chosen, folder, policy)), paths)


def refuse_columns(columns: Columns, name: str) -> None:
    """Raises ConfigError if columns are named of what has none."""
    if columns != ANY_COLUMNS:
        raise ConfigError(f"{name} has lines and no columns to name; tables end in .jsonl, .csv or .parquet")


def refuse_binary(folder: Folder, path: str) -> None:
    """Raises ConfigError if a file cannot be lines of text, whose every line would fail."""
    with open_stream(folder, path) as stream:
        if b"\0" in stream.read(HEAD):
            raise ConfigError(f"{printable(path)!r} is no text in UTF-8; tables end in .jsonl, .csv or .parquet")


def first_values(folder: Folder, path: str) -> list[Any]:
    """The first values of a file of JSON lines."""
    with open_stream(folder, path) as stream:
        return [value for _, value in islice(read_values(read_lines(stream)), PEEKED)]


def ending(path: str) -> str:
    """The ending of the name of a file, without that of its compression."""
    name = PurePosixPath(path.lower())
    return PurePosixPath(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix
