"""jina-clip-v1 and jina-clip-v2 for Haystack: embedders, a retriever, a ranker and a router, by their short names.

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
        JinaClipQueryEmbedder,
        JinaClipTextEmbedder,
    )
    from haystack_integrations.components.rankers.jinaclip import JinaClipDiversityRanker
    from haystack_integrations.components.retrievers.jinaclip import JinaClipRetriever
    from haystack_integrations.components.routers.jinaclip import JinaClipZeroShotRouter

    __version__: str

__all__ = [
    "JinaClipDiversityRanker",
    "JinaClipDocumentEmbedder",
    "JinaClipDocumentImageEmbedder",
    "JinaClipFusedDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipQueryEmbedder",
    "JinaClipRetriever",
    "JinaClipTextEmbedder",
    "JinaClipZeroShotRouter",
]
_KINDS = {"Embedder": "embedders", "Ranker": "rankers", "Retriever": "retrievers", "Router": "routers"}
"""How names end, and the folders of Haystack's where such components are."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("haystack-jinaclip")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind = next(folder for end, folder in _KINDS.items() if name.endswith(end))
    return getattr(importlib.import_module(f"haystack_integrations.components.{kind}.jinaclip"), name)
