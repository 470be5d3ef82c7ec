"""What retrieval does with embeddings: results in an order that shows more, labels without training.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinaclip.retrieval.classification import Classification, Question, aclassify, classify
    from jinaclip.retrieval.diversity import diversify
    from jinaclip.retrieval.rerank import Diversifier

__all__ = ["Classification", "Diversifier", "Question", "aclassify", "classify", "diversify"]

_HOMES = {"diversify": "diversity", "Diversifier": "rerank"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'classification')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
