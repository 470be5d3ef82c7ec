"""`with`, `close` and `aclose` for every class of this package."""

from __future__ import annotations

from typing import Protocol, Self

from jinaclip import JinaClip


class HasClip(Protocol):
    """An object that embeds through a `JinaClip`."""

    @property
    def clip(self) -> JinaClip:
        """What embeds."""


class Closing:
    """Closes the `clip` of the class that inherits this. Objects that share it may go on: it opens again when used."""

    def close(self: HasClip) -> None:
        """Ends the waiting calls of `clip` and gives back its connections. Again changes nothing."""
        self.clip.close()

    async def aclose(self: HasClip) -> None:
        """`close` without blocking the event loop."""
        await self.clip.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self: HasClip, *_: object) -> None:
        self.clip.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self: HasClip, *_: object) -> None:
        await self.clip.aclose()
