"""Multimodal retrieval with jina-clip-v1 and jina-clip-v2: texts and images in one vector space.

What most programs need stands here; all errors in `jinaclip.errors`, ordering and classifying in `jinaclip.retrieval`,
what adapters need in `jinaclip.hosts`, a service that misbehaves on request in `jinaclip.testing`. Names are loaded on
first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinaclip.cache import Cache
    from jinaclip.call.pool import configure
    from jinaclip.call.results import ItemFailure, Results
    from jinaclip.call.usage import Usage
    from jinaclip.clip import JinaClip
    from jinaclip.config import ImagePolicy
    from jinaclip.errors import (
        APIError,
        AuthenticationError,
        BudgetError,
        ConfigError,
        InputError,
        JinaClipError,
        MissingDependencyError,
    )
    from jinaclip.images.documents import Pdf
    from jinaclip.inputs import Image, Pair
    from jinaclip.vectors import fuse, truncate

__version__ = "0.1.0"  # of all five distributions: their pyproject.toml files read it here

__all__ = [
    "APIError",
    "AuthenticationError",
    "BudgetError",
    "Cache",
    "ConfigError",
    "Image",
    "ImagePolicy",
    "InputError",
    "ItemFailure",
    "JinaClip",
    "JinaClipError",
    "MissingDependencyError",
    "Pair",
    "Pdf",
    "Results",
    "Usage",
    "configure",
    "fuse",
    "truncate",
]

_HOMES = {
    "cache": ("Cache",),
    "call.pool": ("configure",),
    "call.results": ("ItemFailure", "Results"),
    "call.usage": ("Usage",),
    "clip": ("JinaClip",),
    "config": ("ImagePolicy",),
    "images.documents": ("Pdf",),
    "inputs": ("Image", "Pair"),
    "vectors": ("fuse", "truncate"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"jinaclip.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
