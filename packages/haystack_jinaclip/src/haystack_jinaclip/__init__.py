"""jina-clip-v1 and jina-clip-v2 embedders for Haystack, and a ranker, by their short names.

They are defined under `haystack_integrations.components`, which saved pipelines name and Haystack trusts. Loaded on
first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haystack_integrations.components.embedders.jinaclip import (
        JinaClipDocumentEmbedder,
        JinaClipDocumentImageEmbedder,
        JinaClipFusedDocumentEmbedder,
        JinaClipImageEmbedder,
        JinaClipTextEmbedder,
    )
    from haystack_integrations.components.rankers.jinaclip import JinaClipDiversityRanker

__version__ = "0.1.0"

__all__ = [
    "JinaClipDiversityRanker",
    "JinaClipDocumentEmbedder",
    "JinaClipDocumentImageEmbedder",
    "JinaClipFusedDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipTextEmbedder",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind = "rankers" if name.endswith("Ranker") else "embedders"
    return getattr(importlib.import_module(f"haystack_integrations.components.{kind}.jinaclip"), name)
