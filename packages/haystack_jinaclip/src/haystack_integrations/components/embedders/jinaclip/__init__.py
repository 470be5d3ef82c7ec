"""jina-clip-v1 and jina-clip-v2 embedders: texts, pictures and both at once, in one vector space."""

from haystack_integrations.components.embedders.jinaclip._pages import ConversionError
from haystack_integrations.components.embedders.jinaclip.document_embedders import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
)
from haystack_integrations.components.embedders.jinaclip.query_embedders import (
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
)

__all__ = [
    "ConversionError",
    "JinaClipDocumentEmbedder",
    "JinaClipDocumentImageEmbedder",
    "JinaClipFusedDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipTextEmbedder",
]
