"""`jinaclip serve`: a server of the same engine, over Jina's wire and OpenAI's.

Names are loaded on first use, so that importing the package costs next to nothing. It needs the extra `serve`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jinaclip.requirements import missing_dependency

if TYPE_CHECKING:
    from jinaclip.server.app import make_app
    from jinaclip.server.engines import Engines
    from jinaclip.server.keys import make_key
    from jinaclip.server.running import serve
    from jinaclip.server.settings import Settings

__all__ = ["Engines", "Settings", "make_app", "make_key", "serve"]

_HOMES = {"Engines": "engines", "Settings": "settings", "make_key": "keys", "serve": "running"}
OWN = ("starlette", "uvicorn", "prometheus_client")
"""What the extra `serve` installs."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(load(_HOMES.get(name, "app")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def load(module: str) -> Any:
    """A module of this package.

    Raises:
        MissingDependencyError: the extra `serve` is not installed.
    """
    try:
        return importlib.import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in OWN:
            raise
        raise missing_dependency("jinaclip serve", missing.name, "serve") from None
