"""Multimodal retrieval with jina-clip-v1 and jina-clip-v2: texts and images in one vector space.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinaclip.batches import Batches
    from jinaclip.call.estimate import Estimate, image_tokens
    from jinaclip.call.usage import Usage
    from jinaclip.clip import JinaClip
    from jinaclip.config import EmbedderConfig, ImagePolicy
    from jinaclip.errors import (
        APIConnectionError,
        APIError,
        APITimeoutError,
        AuthenticationError,
        BadResponseError,
        BudgetError,
        CheckpointError,
        ConfigError,
        ConversionError,
        InputError,
        ItemError,
        JinaClipError,
        MissingDependencyError,
        Partial,
        QuotaError,
        RateLimitError,
        RequestRejectedError,
        ServerError,
    )
    from jinaclip.evaluation import Evaluation, evaluate
    from jinaclip.fusion import fuse
    from jinaclip.images.documents import Page, Pages
    from jinaclip.inputs import Image, without_pictures
    from jinaclip.retrieval.classification import Classification, aclassify, classify
    from jinaclip.retrieval.diversity import diversify
    from jinaclip.retrieval.rerank import Diversifier
    from jinaclip.self_test import CheckReport
    from jinaclip.specs import SPECS, ModelSpec
    from jinaclip.vectors import truncate

__version__ = "0.1.0"

__all__ = [
    "SPECS",
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadResponseError",
    "Batches",
    "BudgetError",
    "CheckReport",
    "CheckpointError",
    "Classification",
    "ConfigError",
    "ConversionError",
    "Diversifier",
    "EmbedderConfig",
    "Estimate",
    "Evaluation",
    "Image",
    "ImagePolicy",
    "InputError",
    "ItemError",
    "JinaClip",
    "JinaClipError",
    "MissingDependencyError",
    "ModelSpec",
    "Page",
    "Pages",
    "Partial",
    "QuotaError",
    "RateLimitError",
    "RequestRejectedError",
    "ServerError",
    "Usage",
    "aclassify",
    "classify",
    "diversify",
    "evaluate",
    "fuse",
    "image_tokens",
    "truncate",
    "without_pictures",
]

_HOMES = {
    "batches": ("Batches",),
    "call.estimate": ("Estimate", "image_tokens"),
    "call.usage": ("Usage",),
    "clip": ("JinaClip",),
    "config": ("EmbedderConfig", "ImagePolicy"),
    "evaluation": ("Evaluation", "evaluate"),
    "fusion": ("fuse",),
    "images.documents": ("Page", "Pages"),
    "inputs": ("Image", "without_pictures"),
    "retrieval.classification": ("Classification", "aclassify", "classify"),
    "retrieval.diversity": ("diversify",),
    "retrieval.rerank": ("Diversifier",),
    "self_test": ("CheckReport",),
    "specs": ("SPECS", "ModelSpec"),
    "vectors": ("truncate",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"jinaclip.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
