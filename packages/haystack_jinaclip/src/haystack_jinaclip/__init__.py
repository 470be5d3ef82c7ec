"""jina-clip-v1 and jina-clip-v2 embedders for Haystack, by their short name.

They are defined under `haystack_integrations.components.embedders.jinaclip`, which saved pipelines name and Haystack
trusts. Loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haystack_integrations.components.embedders.jinaclip import (
        ConversionError,
        JinaClipDocumentEmbedder,
        JinaClipDocumentImageEmbedder,
        JinaClipFusedDocumentEmbedder,
        JinaClipImageEmbedder,
        JinaClipTextEmbedder,
    )

__version__ = "0.1.0"

__all__ = [
    "ConversionError",
    "JinaClipDocumentEmbedder",
    "JinaClipDocumentImageEmbedder",
    "JinaClipFusedDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipTextEmbedder",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("haystack_integrations.components.embedders.jinaclip"), name)
