"""jina-clip-v1 and jina-clip-v2 for LlamaIndex: texts, images and nodes with both, in one vector space.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamaindex_jinaclip.embedding import JinaClipEmbedding
    from llamaindex_jinaclip.labels import label_images
    from llamaindex_jinaclip.postprocessor import JinaClipDiversifier
    from llamaindex_jinaclip.retriever import JinaClipRetriever
    from llamaindex_jinaclip.skipping import SkippedNode

    __version__: str

__all__ = ["JinaClipDiversifier", "JinaClipEmbedding", "JinaClipRetriever", "SkippedNode", "label_images"]

_HOMES = {
    "JinaClipDiversifier": "postprocessor",
    "JinaClipEmbedding": "embedding",
    "JinaClipRetriever": "retriever",
    "SkippedNode": "skipping",
    "label_images": "labels",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("llamaindex-jinaclip")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
