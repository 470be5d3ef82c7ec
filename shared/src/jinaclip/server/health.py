"""Whether the server is alive, ready, or going away."""

from __future__ import annotations

import asyncio
import logging

from jinaclip.errors import AuthenticationError, ConfigError, JinaClipError
from jinaclip.process import run_in_thread
from jinaclip.server.engines import Engines

logger = logging.getLogger("jinaclip.server")
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds before a gateway looks again whether its service answers."""


class Health:
    """What `/ready` tells.

    Attributes:
        is_warm: whether every engine has embedded a text and an image.
        is_draining: whether the server is about to stop, and takes no more work.
        failed: set when the weights cannot be used; the server then has no reason to go on.
        failure: why.
    """

    def __init__(self) -> None:
        self.is_warm = self.is_draining = False
        self.failed = asyncio.Event()
        self.failure: JinaClipError | None = None

    @property
    def problem(self) -> str | None:
        """Why the server takes no work now; None if it does."""
        if self.is_draining:
            return "this server is stopping; ask another, or come back"
        return (
            None
            if self.is_warm
            else "this server is not ready yet: its model is not loaded, or the service behind it does not answer"
        )

    def drain(self) -> None:
        """Takes no more work from now on."""
        self.is_draining = True

    async def warm_up(self, engines: Engines) -> None:
        """Makes the engines ready. A gateway tries until its service answers.

        Weights that fail are not tried again, nor is a gateway whose key is refused, or whose options are wrong: they
        stay as they are.
        """
        pause = FIRST_PAUSE
        while not self.is_warm:
            try:
                await run_in_thread(engines.warm)
                self.is_warm = True
                logger.info("ready: %s", engines)
            except Exception as error:  # noqa: BLE001  whatever a library raises, the server must not wait for ever
                logger.error("not ready: %s", error)  # noqa: TRY400  what is wrong, and not where
                if engines.config.backend != "api" or isinstance(error, AuthenticationError | ConfigError):
                    self.fail(error)
                    return
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)

    def fail(self, error: Exception) -> None:
        """Notes that the model cannot be used."""
        if not isinstance(error, JinaClipError):
            error = JinaClipError(f"the model cannot be used: {type(error).__name__}: {error}")
        self.failure = error
        self.failed.set()
