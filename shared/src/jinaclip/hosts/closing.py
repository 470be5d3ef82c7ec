"""`with`, `close` and `aclose` for a host's class that embeds through a JinaClip."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from jinaclip.clip import JinaClip


class Closing:
    """Closes the `clip` of the class that inherits this; it opens again when it is used again."""

    @property
    @abstractmethod
    def clip(self) -> JinaClip:
        """What embeds."""

    def close(self) -> None:
        """Ends calls under way and gives back connections, or lets go of weights. Again changes nothing."""
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
