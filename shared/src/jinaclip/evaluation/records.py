"""The table and the queries of an evaluation, from JSONL, Parquet or Python."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import outside_of
from jinaclip.inputs import Image, as_text
from jinaclip.sources.jsonl import read_values
from jinaclip.sources.parquet import open_parquet
from jinaclip.sources.places import LocalFolder
from jinaclip.sources.references import ADDRESS, unwrap
from jinaclip.sources.streams import read_lines

LEVELS = ("broad", "fine")
"""Names of categories that are given as a list."""
Row = Mapping[str, Any]
Source = str | os.PathLike[str] | Iterable[Row]
"""A `.jsonl` or `.parquet` file, or rows."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the table."""

    id: str
    text: str
    image: Any
    """As `JinaClip.embed_images` takes it."""
    categories: Mapping[str, str]
    """By level, broadest first."""
    attributes: Mapping[str, str]
    """What its image shows, by name; may be empty."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query: what categories an item must have to be right, by level."""

    id: str
    text: str
    categories: Mapping[str, str]


def read_items(source: Source) -> list[Item]:
    """The table: rows with `id`, `text`, `image`, `categories` and perhaps `attributes`.

    Raises:
        InputError: a row is unusable (`.index` says which), two have the same id, or there are no rows.
        MissingDependencyError: a Parquet file without the extra `evaluate`.
    """
    folder = Path(source).parent if isinstance(source, str | os.PathLike) else None
    items = []
    for index, row in enumerate(read_rows(source)):
        image = read_image(row.get("image"), folder)
        if image is None:
            raise InputError(f"row {index} has no image; every item needs a text and an image", index=index)
        values = (read_labels(row, name, index) for name in ("categories", "attributes"))
        items.append(Item(read_id(row, index), read_text(row, index), image, *values))
    return check_ids(items, "items")


def read_queries(source: Source) -> list[Query]:
    """The queries: rows with `text`, `categories` and perhaps `id`.

    Raises:
        InputError: as `read_items`, or a query names no category.
        MissingDependencyError: a Parquet file without the extra `evaluate`.
    """
    queries, unnamed = [], set()
    for index, row in enumerate(read_rows(source)):
        wanted = read_labels(row, "categories", index)
        if not wanted:
            raise InputError(f"query {index} names no categories, so nothing it finds can be right", index=index)
        unnamed |= set() if "id" in row else {index}
        queries.append(Query(read_id({"id": index, **row}, index), read_text(row, index), wanted))
    return check_ids(queries, "queries", unnamed)


def read_rows(source: Source) -> list[Row]:
    """The rows of a file, or those given.

    Raises:
        InputError: the file is not there, of another kind, or a row is no object.
    """
    if not isinstance(source, str | os.PathLike):
        rows = list(source)
    else:
        path = Path(source)
        readers = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".parquet": read_parquet}
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise InputError(f"{path} must end in one of {', '.join(readers)}")
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        rows = reader(path)
    wrong = next((index for index, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise InputError(f"row {wrong} must be an object, not {type(rows[wrong]).__name__}", index=wrong)
    return rows


def read_jsonl(path: Path) -> list[Row]:
    """An object on each line; blank lines are skipped."""
    rows: list[Row] = []
    with path.open("rb") as lines:
        for number, value in read_values(read_lines(lines)):
            if isinstance(value, InputError):
                raise InputError(f"line {number} of {path} {value}")
            rows.append(value)
    return rows


def read_parquet(path: Path) -> list[Row]:
    """The rows of a Parquet file.

    Raises:
        InputError: it cannot be read.
        MissingDependencyError: pyarrow is not installed.
    """
    with open_parquet(LocalFolder(str(path.parent)), path.name, extra="evaluate") as file:
        rows: list[Row] = file.read().to_pylist()
    return rows


def read_id(row: Row, index: int) -> str:
    """The id of a row."""
    found = row.get("id")
    if found is None or isinstance(found, bool | dict | list) or not str(found):
        raise InputError(f"row {index} has no id; give each one a str or a number of its own", index=index)
    return str(found)


def read_text(row: Row, index: int) -> str:
    """The text of a row."""
    if row.get("text") is None:
        raise InputError(f"row {index} has no text; every row needs one", index=index)
    try:
        return as_text(row["text"]).value
    except InputError as error:
        raise InputError(f"text of row {index}: {error}", index=index) from None


def read_labels(row: Row, column: str, index: int) -> dict[str, str]:
    """Categories or attributes by name; a list stands for broad and fine, a str for broad."""
    value = row.get(column)
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):  # Parquet's maps come as lists of pairs
        pairs = value if all(isinstance(pair, tuple) for pair in value) else list(zip(LEVELS, value, strict=False))
        if len(pairs) < len(value):
            raise InputError(f"row {index}: {column} with more than {len(LEVELS)} levels must be named", index=index)
        value = dict(pairs)
    if not isinstance(value, Mapping):
        raise InputError(f"row {index}: {column} must be an object like {{'broad': 'dress'}}", index=index)
    named = {str(name): read_label(word, f"row {index}: {column}, {name}", index) for name, word in value.items()}
    return {name: word for name, word in named.items() if word}


def read_label(word: Any, where: str, index: int) -> str:
    """A category or attribute as text; "" where the row has no such.

    Raises:
        InputError: it is no str, bool or finite number.
    """
    plain = word.item() if isinstance(word, np.generic) else word
    if plain is None:
        return ""
    if not isinstance(plain, str | int | bool | float) or (isinstance(plain, float) and not math.isfinite(plain)):
        raise InputError(
            f"{where}: {plain!r:.64} must be a str, a bool or a finite number; leave it out, or null", index=index
        )
    return str(plain)


def read_image(value: Any, folder: Path | None) -> Any:
    """The image of a row. File names count from the folder of the table."""
    value = unwrap(value)
    if not isinstance(value, str) or folder is None or ADDRESS.match(value):
        return value
    path = folder / value
    # whoever names the table means the images beside it; what points elsewhere has to pass the image policy
    beside = ImagePolicy(allowed_roots=(folder.absolute(),))
    return path if outside_of(Image("path", path, confined=True), beside) is None else str(path)


def check_ids(rows: list[Any], what: str, unnamed: Collection[int] = ()) -> list[Any]:
    """The rows, if each has an id of its own.

    Raises:
        InputError: two share one, or there are no rows.
    """
    if not rows:
        raise InputError(f"there are no {what}")
    seen: dict[str, int] = {}
    for index, row in enumerate(rows):
        if seen.setdefault(row.id, index) != index:
            nameless = [str(i) for i in (seen[row.id], index) if i in unnamed]
            why = f"; row {nameless[0]} has no id of its own and is called by its number" if nameless else ""
            raise InputError(f"rows {seen[row.id]} and {index} of the {what} share the id {row.id!r}{why}", index=index)
    return rows
