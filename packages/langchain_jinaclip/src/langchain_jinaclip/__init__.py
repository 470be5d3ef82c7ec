"""jina-clip embeddings for LangChain: texts and images in one vector space.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_jinaclip.compressor import JinaClipDiversifier
    from langchain_jinaclip.documents import aadd_documents, add_documents
    from langchain_jinaclip.embeddings import JinaClipEmbeddings
    from langchain_jinaclip.retriever import JinaClipRetriever
    from langchain_jinaclip.tool import JinaClipTool

    __version__: str

__all__ = [
    "JinaClipDiversifier",
    "JinaClipEmbeddings",
    "JinaClipRetriever",
    "JinaClipTool",
    "aadd_documents",
    "add_documents",
]

_HOMES = {
    "JinaClipDiversifier": "compressor",
    "JinaClipEmbeddings": "embeddings",
    "JinaClipRetriever": "retriever",
    "JinaClipTool": "tool",
    "aadd_documents": "documents",
    "add_documents": "documents",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("langchain-jinaclip")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"langchain_jinaclip.{_HOMES[name]}")
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
