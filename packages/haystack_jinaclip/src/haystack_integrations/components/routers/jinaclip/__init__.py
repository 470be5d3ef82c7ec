"""Documents by which of some labels fits them best."""

from haystack_integrations.components.routers.jinaclip.zero_shot_router import JinaClipZeroShotRouter

__all__ = ["JinaClipZeroShotRouter"]
