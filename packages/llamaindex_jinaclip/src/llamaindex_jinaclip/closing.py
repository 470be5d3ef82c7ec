"""Closing: `with`, `close` and `aclose` of whatever embeds through a core object."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from jinaclip import JinaClip


class Closing:
    """Frees the connections or the weights of a core object, which opens again when it is used again."""

    @property
    @abstractmethod
    def clip(self) -> JinaClip:
        """The core object."""

    def close(self) -> None:
        """Frees connections or weights, and ends calls under way. What is closed can be used and closed again."""
        self.clip.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await self.clip.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
