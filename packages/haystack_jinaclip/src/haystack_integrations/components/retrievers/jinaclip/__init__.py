"""Search by a text, an image or both."""

from haystack_integrations.components.retrievers.jinaclip.retriever import JinaClipRetriever

__all__ = ["JinaClipRetriever"]
