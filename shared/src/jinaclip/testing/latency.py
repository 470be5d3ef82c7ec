"""How long answers take."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from jinaclip.testing.batch import Batch
    from jinaclip.testing.settings import Settings


class Latency:
    """The service's speed under some settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slots: AbstractAsyncContextManager[None] = (
            asyncio.Semaphore(settings.slots) if settings.slots else nullcontext()
        )

    async def wait(self, batch: Batch, *, new_connection: bool) -> None:
        """Takes as long as the service would."""
        settings = self.settings
        texts = len(batch) - batch.images
        delay = settings.base_ms + texts * settings.text_ms + batch.tiles * settings.tile_ms
        if new_connection and settings.connect_ms:
            await asyncio.sleep(settings.connect_ms / 1000)
        if delay:
            async with self.slots:
                await asyncio.sleep(delay / 1000)
