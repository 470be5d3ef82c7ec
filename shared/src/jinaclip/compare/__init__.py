"""Are two sources of vectors one space: `compare`, and `jinaclip compare`.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinaclip.compare.measures import Agreement
    from jinaclip.compare.report import Comparison
    from jinaclip.compare.run import compare
    from jinaclip.compare.sample import Sample, read_sample
    from jinaclip.compare.verdict import Verdict

__all__ = ["Agreement", "Comparison", "Sample", "Verdict", "compare", "read_sample"]

_HOMES = {
    "Agreement": "measures",
    "Comparison": "report",
    "Sample": "sample",
    "Verdict": "verdict",
    "compare": "run",
    "read_sample": "sample",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
