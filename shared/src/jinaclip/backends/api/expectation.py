"""The space that the answers of an endpoint are to be in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jinaclip.config import EmbedderConfig
from jinaclip.space import names_pictures
from jinaclip.specs import ModelSpec

LONGEST_NAME = 64
"""Characters of a service's name for a space that are shown."""


@dataclass(slots=True)
class Expectation:
    """What an object knows of the space of its answers. Lives on the hub's thread.

    Attributes:
        named: the space that the caller named; None if it did not, or its name says what a service cannot know.
        first: the space of the first answer that named one.
    """

    named: str | None = None
    first: str | None = None

    def find_problem(self, space: str, clean: Callable[[str], str]) -> str | None:
        """What is wrong with an answer of this space, or None; remembers the first.

        Args:
            space: as the service names it. Names are compared so: those that look like keys are alike once clean.
            clean: makes a name fit to be shown.
        """
        if self.named is not None and space != self.named:
            return (
                f"the service answers vectors of the space {shorten(clean(space))}, and space={self.named!r} was "
                "given: name the space that it serves, or ask the right one"
            )
        self.first = self.first or space
        if space != self.first:
            return (
                f"the service answers vectors of the space {shorten(clean(space))}, and those before were of "
                f"{shorten(clean(self.first))}: it serves other weights now. The two cannot be compared; embed anew "
                "with another JinaClip"
            )
        return None


def other_than_kept(space: str) -> str:
    """What is wrong with an answer of this space where the cache holds vectors of another from the same address."""
    return (
        f"the service answers vectors of the space {shorten(space)}, and those that the cache has from it are "
        "of another: it serves other weights now. The two cannot be compared; embed anew with another cache"
    )


def shorten(name: str) -> str:
    """A name in quotes, of so many characters as are shown."""
    return repr(name[:LONGEST_NAME])


def expect(config: EmbedderConfig, spec: ModelSpec, width: int) -> Expectation:
    """What is known of an object's answers before the first.

    Args:
        config: the options, as the caller gave them.
        spec: of the model.
        width: of the vectors that are asked for. The space at this width has another name than that at the caller's,
            and so have images that are not prepared in the usual way, which a service cannot know.
    """
    is_comparable = width == (config.dimensions or spec.dimensions) and not names_pictures(config)
    return Expectation(config.space if is_comparable else None)
