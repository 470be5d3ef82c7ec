"""The JinaClip that a component holds, and its life: made late, closed and used again."""

from __future__ import annotations

import threading
from typing import Any

from haystack_integrations.components.embedders.jinaclip._headers import name_headers, resolve_headers
from haystack_integrations.components.embedders.jinaclip._options import ClipOptions
from jinaclip import ConfigError, JinaClip
from jinaclip.hosts import Headers, Steps, run_in_thread, wait_for
from jinaclip.hosts import Secret as CoreSecret

_assigning = threading.Lock()


class ClipHandle:
    """Holds the JinaClip of a component, which its first use makes: a pipeline is loaded without key and weights.

    A pickle or a deep copy holds the options alone: it opens its own connections, and has its own budget.

    Args:
        options: of the component.
    """

    def __init__(self, options: ClipOptions) -> None:
        self._options = options
        self._clip: JinaClip | None = None

    def get(self) -> JinaClip:
        """The JinaClip; made by the first call, and the same ever after.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: there are no such weights.
        """
        if self._clip is not None:
            return self._clip
        clip = JinaClip(**self._options.to_config(self._key(), self._headers()).options())
        with _assigning:  # of threads that start together, all use the first one's
            first = self._clip or clip
            self._clip = first
        return first

    async def get_async(self) -> JinaClip:
        """`get` without blocking the event loop."""
        return self._clip if self._clip is not None else await run_in_thread(self.get)

    def wait(self) -> Steps[JinaClip]:
        """The steps to the JinaClip."""
        return (yield from wait_for(self.get, self.get_async))

    def warm_up(self) -> None:
        """Reads the key, or loads the weights. Once warm it does nothing. Raises as `get`, and if loading fails."""
        self.get().load()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await run_in_thread(self.warm_up)

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next use opens and loads them again."""
        if self._clip is not None:
            self._clip.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        if self._clip is not None:
            await self._clip.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_clip": None}

    def _key(self) -> CoreSecret | None:
        """The key; None for the local backend, and where an Authorization among the headers replaces it."""
        api_key, headers = self._options.api_key, name_headers(self._options.headers)
        if self._options.backend != "api" or "Authorization" in (headers or {}):
            return None
        key = CoreSecret.wrap(api_key.resolve_value())
        if not key:
            raise ConfigError(f"{api_key!r} gives no API key; set the variable, or use backend='local'")
        return key

    def _headers(self) -> Headers | None:
        """The headers of requests; None for the local backend, which makes none."""
        return resolve_headers(self._options.headers) if self._options.backend == "api" else None
