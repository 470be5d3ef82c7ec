"""The JinaClip that a component holds, and its life: made late, closed and used again."""

from __future__ import annotations

import os
import threading
from typing import Any

from haystack.utils import Secret
from haystack.utils.auth import SecretType

from haystack_integrations.components.embedders.jinaclip._headers import name_headers, resolve_headers
from haystack_integrations.components.embedders.jinaclip._options import API_KEY, ClipOptions
from jinaclip import AuthenticationError, JinaClip
from jinaclip.hosts import Headers, Steps, run_in_thread, wait_for
from jinaclip.hosts import Secret as CoreSecret

_assigning = threading.Lock()


class MissingKeyError(AuthenticationError, ValueError):
    """There is no API key: the error of the core, and a ValueError as Haystack's secrets raise it."""


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
        """The key; None for the local backend, and where an Authorization among the headers replaces it.

        The default names the variables of Jina's keys. For a server of another the core looks for one, or sends none.
        """
        api_key, headers = self._options.api_key, name_headers(self._options.headers)
        if self._options.backend != "api" or "Authorization" in (headers or {}):
            return None
        if api_key == API_KEY and not self._options.to_config(None, headers).is_hosted:
            return None
        return resolve_key(api_key)

    def _headers(self) -> Headers | None:
        """The headers of requests; None for the local backend, which makes none."""
        return resolve_headers(self._options.headers) if self._options.backend == "api" else None


def resolve_key(secret: Secret) -> CoreSecret:
    """The API key. Of variables the first that is not blank, as in the core: one that is set to nothing holds no key.

    Raises:
        MissingKeyError: there is none.
    """
    if secret.type is not SecretType.ENV_VAR:
        return CoreSecret.wrap(secret.resolve_value())
    names = secret.to_dict()["env_vars"]
    key = CoreSecret.wrap(next((os.environ[name] for name in names if os.environ.get(name, "").strip()), None))
    if not key:
        raise MissingKeyError(f"no API key: set {' or '.join(names)} in each process, or use backend='local'")
    return key
