"""Search results in an order that shows different images first."""

from haystack_integrations.components.rankers.jinaclip.diversity_ranker import JinaClipDiversityRanker

__all__ = ["JinaClipDiversityRanker"]
