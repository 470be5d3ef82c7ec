"""Finds a file under the allowed roots, so that what was found is what is opened.

A path says where a file is only for as long as nobody exchanges a name in it: a link can take the place of a file, or
of one of its folders, between one look and the next. So a path is resolved once, and then walked from its root down,
from open folder to open folder, following no link. Nothing outside can be reached on that way, whatever is exchanged
meanwhile. Where the system cannot open a file relative to a folder (Windows), the opened file must be the one that its
path names still: see `Place.check`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Roots = Sequence[str | Path] | None
"""Folders; None is the working directory of the moment."""

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):  # with O_NONBLOCK, opening a pipe returns at once
    _FLAGS |= getattr(os, _name, 0)
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
WALKS = bool(_NO_LINK) and {os.open, os.stat} <= os.supports_dir_fd
"""Whether files are opened relative to their folder here."""


class OutsideError(Exception):
    """The path leads outside the roots. The message says what they are, for "lies outside ..."."""


class ChangedError(Exception):
    """The path leads elsewhere than when it was looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is.

    Attributes:
        name: its path, or its name in `folder`.
        folder: descriptor of its open folder; None for a path.
        roots: what a path must still lead under once it was opened; () for anywhere.
    """

    name: str
    folder: int | None = None
    roots: Sequence[str | Path] = ()

    def stat(self) -> os.stat_result:
        """The status of the file; of a link that took its place since, the link's own."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=not self._is_confined)

    def open(self) -> int:
        """A descriptor of the file. Does not wait for a pipe."""
        return os.open(self.name, _FLAGS | (_NO_LINK if self._is_confined else 0), dir_fd=self.folder)

    def check(self, opened: os.stat_result) -> None:
        """Raises ChangedError if the opened file is not what the path names now, under the roots and without a link."""
        if not self.roots:
            return
        try:
            root, below = find_root(self.name, self.roots)
        except OutsideError:
            raise ChangedError from None
        if not os.path.samestat(opened, root.joinpath(*below).lstat()):
            raise ChangedError

    @property
    def _is_confined(self) -> bool:
        return self.folder is not None or bool(self.roots)


@contextmanager
def locate(path: Path, roots: Roots) -> Iterator[Place]:
    """The place of a file under the roots, for as long as the context lasts.

    Raises:
        OutsideError: it lies elsewhere.
        OSError: a folder of the path is none any more, or cannot be opened.
    """
    root, below = find_root(path, roots)
    if not below:  # the root itself
        yield Place(str(root))
    elif WALKS:
        with _walk(root, below[:-1]) as folder:
            yield Place(below[-1], folder)
    else:
        yield Place(str(root.joinpath(*below)), roots=(root,))


def find_root(path: str | Path, roots: Roots) -> tuple[Path, tuple[str, ...]]:
    """The root that a path lies under, both with their links resolved, and the names on the way down from it.

    Raises:
        OutsideError: it lies under none of them.
    """
    absolute = Path(path).absolute()
    folders = _folders(roots)
    # on Windows, to look at a path of another machine logs in there
    if any(folder.drive.lower() == absolute.drive.lower() for folder in folders):
        real = Path(os.path.realpath(absolute))
        for root in (Path(os.path.realpath(folder)) for folder in folders):
            if real.is_relative_to(root):
                return root, real.relative_to(root).parts
    raise OutsideError("the current working directory" if roots is None else "image_policy.allowed_roots")


def _folders(roots: Roots) -> list[Path]:
    """The roots as absolute paths. The working directory is one, unless that is "/", which would be every file."""
    if roots is not None:
        return [Path(root).absolute() for root in roots]
    here = Path.cwd()
    if here == here.parent:
        raise OutsideError(
            f"image_policy.allowed_roots, which must be set where the working directory is {str(here)!r}"
        )
    return [here]


@contextmanager
def _walk(root: Path, names: Sequence[str]) -> Iterator[int]:
    """The descriptor of a folder that is reached from the root without a link."""
    folder = os.open(root, _FOLDER)
    try:
        for name in names:
            inner = os.open(name, _FOLDER | _NO_LINK, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
