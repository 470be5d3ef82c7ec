"""jina-clip-v1 and jina-clip-v2 embedders: texts, images and both at once, in one vector space."""

from haystack_integrations.components.embedders.jinaclip.embedders import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipTextEmbedder,
)

__all__ = [
    "JinaClipDocumentEmbedder",
    "JinaClipDocumentImageEmbedder",
    "JinaClipFusedDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipQueryEmbedder",
    "JinaClipTextEmbedder",
]
