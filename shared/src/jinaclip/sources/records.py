"""From the record of a table to a row: its id, its text and its image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError
from jinaclip.sources.places import Folder, printable
from jinaclip.sources.references import read_reference
from jinaclip.sources.rows import Columns, Kind, SourceRow

SHOWN = 50
"""Names of columns in a message, at most."""
EXACT = 2**53
"""From here on a float stands for more than one whole number, and so for more than one id."""
Record = Mapping[Any, Any]


def choose_columns(columns: Columns, found: Iterable[str], table: str) -> Columns:
    """The columns that rows are made of, by name; None for a text or an image that the table does not have.

    Args:
        columns: as the user named them; "" leaves the texts or the images out.
        found: names that the table has, in its order.
        table: what messages call it.

    Raises:
        ConfigError: one that was named is not there, or is there twice; there is no id, or neither text nor image.
    """
    names = list(found)
    shown = ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
    listed = f"{table} has the columns {shown}" if names else f"{table} has no columns"
    chosen = [_choose(option, getattr(columns, option), names, listed) for option in ("id", "text", "image")]
    if chosen[0] is None:
        raise ConfigError(f"{listed}, and not 'id'; name the one that tells its rows apart: --id NAME", option="id")
    if chosen[1] is None and chosen[2] is None:
        raise ConfigError(f"{listed}, and neither 'text' nor 'image'; name what to embed: --text NAME or --image NAME")
    return Columns(*chosen)


def _choose(option: str, name: str | None, names: list[str], listed: str) -> str | None:
    if name == "" and option != "id":
        return None
    if name is not None and name not in names:
        raise ConfigError(f"there is no column {name!r}, which --{option} names: {listed}", option=option)
    wanted = option if name is None else name
    if names.count(wanted) > 1:
        raise ConfigError(f"the column {wanted!r} is there {names.count(wanted)} times: {listed}", option=option)
    return wanted if wanted in names else None


def check_columns(columns: Columns, first: Iterable[Any], table: str) -> Columns:
    """The columns of records that may lack some, by what the first ones hold.

    Raises:
        ConfigError: as `choose_columns`.
    """
    mappings = [record for record in first if isinstance(record, Mapping)]
    if mappings:
        choose_columns(columns, dict.fromkeys(str(name) for record in mappings for name in record), table)
    named = {"text": columns.text, "image": columns.image}
    return Columns(columns.id or "id", *(None if name == "" else name or option for option, name in named.items()))


def kinds_of(columns: Columns) -> frozenset[Kind]:
    """What rows of these columns hold."""
    kinds: dict[Kind, str | None] = {"text": columns.text, "image": columns.image}
    return frozenset(kind for kind, name in kinds.items() if name is not None)


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes rows of records.

    Attributes:
        columns: names of all that is read.
        folder: that paths of images count from; None for records from Python, whose paths are like those of any call.
        policy: as `read_reference` takes it.
    """

    columns: Columns
    folder: Folder | None
    policy: ImagePolicy

    def make(self, record: Any, where: str) -> SourceRow:
        """The row of a record. What speaks against all of it is its error; a text or image is judged when embedded."""
        if type(record) is not dict and not isinstance(record, Mapping):  # nearly all are; the question takes its time
            return failed_row(where, f"is {type(record).__name__}, and must be an object with names")
        columns = self.columns
        try:
            name = read_id(record.get(columns.id))
        except InputError as error:
            return failed_row(where, str(error))
        text = None if columns.text is None else _present(record.get(columns.text))
        image = None if columns.image is None else _present(record.get(columns.image))
        if image is not None:
            image = read_reference(image, self.folder, self.policy)
        if text is None and image is None:
            return failed_row(where, "has neither a text nor an image", name)
        return SourceRow(name, text, image, where)

    def make_all(self, records: Iterable[tuple[str, Any]]) -> Iterator[SourceRow]:
        """The rows of records with their places; an InputError in place of a record is the error of its row."""
        for where, record in records:
            if isinstance(record, InputError):
                yield failed_row(where, str(record))
            else:
                yield self.make(record, where)

    def fail(self, record: Record, where: str, problem: str) -> SourceRow:
        """A row with an error, under the id of its record if that has one."""
        try:
            name: str | None = read_id(record.get(self.columns.id))
        except InputError:
            name = None
        return failed_row(where, problem, name)


def failed_row(where: str, problem: str, name: str | None = None, image: Any = None) -> SourceRow:
    """A row that cannot be embedded, called by its place if it has no id."""
    error = InputError(f"{where} {problem}")
    return SourceRow(name or where, None, image, where, error, is_named=name is not None)


def _present(value: Any) -> Any:
    """The value of a cell; None if it is empty."""
    if isinstance(value, float) and math.isnan(value):  # as pandas marks an empty cell
        return None
    return None if isinstance(value, str) and not value else value


def read_id(value: Any) -> str:
    """The id of a row.

    Raises:
        InputError: it is missing, or nothing that can be one.
    """
    if type(value) is int or (type(value) is str and value and value.isascii()):  # nearly all
        return str(value)
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or plain == "" or (isinstance(plain, float) and not math.isfinite(plain)):
        raise InputError("has no id; give each row a str or a number of its own")
    if isinstance(plain, bool | bytes | Mapping | list | tuple | set):
        raise InputError(f"has a {type(plain).__name__} for its id, which must be a str or a number")
    if isinstance(plain, float) and abs(plain) >= EXACT:
        raise InputError(f"has the number {plain!r} for its id, which holds only its first digits; write ids as str")
    return printable(str(plain))
