"""What retrieval does with embeddings: results in an order that shows more, labels without training, small vectors.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinaclip.retrieval.classification import Classification, Question, aclassify, classify
    from jinaclip.retrieval.diversity import diversify
    from jinaclip.retrieval.quantization import calibration_ranges, dequantize, quantize
    from jinaclip.retrieval.rerank import Diversifier
    from jinaclip.retrieval.search import Hits, semantic_search

__all__ = [
    "Classification",
    "Diversifier",
    "Hits",
    "Question",
    "aclassify",
    "calibration_ranges",
    "classify",
    "dequantize",
    "diversify",
    "quantize",
    "semantic_search",
]

_HOMES = {
    "Diversifier": "rerank",
    "Hits": "search",
    "calibration_ranges": "quantization",
    "dequantize": "quantization",
    "diversify": "diversity",
    "quantize": "quantization",
    "semantic_search": "search",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'classification')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
