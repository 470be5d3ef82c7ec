"""What two sources are compared on: the user's own texts and images, or a few that come with the package."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.compare.built_in import TEXTS, draw_images
from jinaclip.errors import ConfigError, InputError
from jinaclip.evaluation.records import Row, read_image, read_rows, read_text
from jinaclip.numeric import is_whole
from jinaclip.sources.image_files import IMAGES
from jinaclip.sources.lines import read_texts
from jinaclip.sources.places import LocalFolder
from jinaclip.sources.streams import read_lines as stream_lines

LIMIT = 100
"""Texts, and images, unless others are asked for. An image costs 4,000 tokens at the hosted API on v2."""
MOST = 5000
"""Every item is compared with every other."""
TABLES = (".jsonl", ".ndjson", ".parquet")
FilePath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Inputs of one kind.

    Attributes:
        inputs: texts, or images as `JinaClip.embed_images` takes them.
        names: what the report calls each, such as "line 7 of wishes.txt".
        found: how many there were to choose from.
    """

    inputs: Sequence[Any]
    names: Sequence[str]
    found: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts and images; `built_in` if they are those of the package."""

    texts: Chosen
    images: Chosen
    built_in: bool = False


def read_sample(files: Iterable[FilePath] = (), *, limit: int = LIMIT) -> Sample:
    """The texts and images of some files; those of the package if there are no files.

    Args:
        files: image files, and folders of them; `.jsonl` and `.parquet` with a `text`, an `image` or both in each row,
            as `jinaclip evaluate` reads them; any other file is a text on each line, in UTF-8.
        limit: most texts, and most images. Of more, so many are taken at equal distances, always the same. A text that
            comes twice is taken once.

    Raises:
        InputError: a file is not there or is none of these, or there is nothing in them.
        ConfigError: the limit is out of range.
        MissingDependencyError: a Parquet file without the extra `parquet`.
    """
    if not is_whole(limit) or not 1 <= limit <= MOST:
        raise ConfigError(f"limit={limit!r} must be a whole number from 1 to {MOST}", option="limit")
    paths = [Path(file) for file in files]
    if not paths:
        return built_in_sample()
    texts: dict[str, str] = {}
    images: list[tuple[Any, str]] = []
    for text, image, name in (one for path in paths for one in read_file(path)):
        if text is not None:
            texts.setdefault(text, name)
        if image is not None:
            images.append((image, name))
    if not texts and not images:
        raise InputError(f"there is no text and no image in {', '.join(map(str, paths))}")
    return Sample(spread([*texts.items()], limit), spread(images, limit))


def built_in_sample() -> Sample:
    """The texts and images of the package."""
    texts = [(text, f"built-in text {i}") for i, text in enumerate(TEXTS)]
    images = [(image, f"built-in image {i}") for i, image in enumerate(draw_images())]
    return Sample(spread(texts, MOST), spread(images, MOST), built_in=True)


def spread(found: Sequence[tuple[Any, str]], limit: int) -> Chosen:
    """At most so many of them, at equal distances from the first to the last."""
    places: NDArray[np.intp] = np.linspace(0, len(found) - 1, min(limit, len(found))).round().astype(np.intp)
    chosen = [found[place] for place in places]
    return Chosen([item for item, _ in chosen], [name for _, name in chosen], len(found))


def read_file(path: Path) -> Iterator[tuple[str | None, Any, str]]:
    """Text, image and name of whatever is in a file or a folder; None for what is not there.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return iter([(None, path, str(path))])
    return read_table(path) if suffix in TABLES else read_lines(path)


def read_folder(folder: Path) -> Iterator[tuple[None, Path, str]]:
    """The images under a folder.

    Raises:
        InputError: there are none.
    """
    paths = [folder / path for path in LocalFolder(str(folder)).list() if path.lower().endswith(IMAGES)]
    if not paths:
        raise InputError(f"no file under {folder} ends in one of {', '.join(IMAGES)}")
    for path in paths:
        yield None, path, str(path)


def read_table(path: Path) -> Iterator[tuple[str | None, Any, str]]:
    """Text and image of each row.

    Raises:
        InputError: a row has neither, or cannot be read.
    """
    for index, row in enumerate(read_rows(path)):
        text = None if row.get("text") is None else read_text(row, index)
        image = read_cell(row, path.parent)
        if text is None and image is None:
            raise InputError(f"row {index} of {path} has no text and no image", index=index)
        yield text, image, f"row {index} of {path.name}"


def read_cell(row: Row, folder: Path) -> Any:
    """The image of a row, or None."""
    value = row.get("image")
    return None if value is None else read_image(value, folder)


def read_lines(path: Path) -> Iterator[tuple[str, None, str]]:
    """A text for each line; blank ones are skipped.

    Raises:
        InputError: a line is no text in UTF-8.
    """
    with path.open("rb") as lines:
        for number, text in read_texts(stream_lines(lines)):
            if isinstance(text, InputError):
                kinds = f"images end in {', '.join(IMAGES)}, tables in {', '.join(TABLES)}"
                raise InputError(f"line {number} of {path} {text}; {kinds}")
            yield text, None, f"line {number} of {path.name}"
