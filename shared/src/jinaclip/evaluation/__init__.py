"""How well a model retrieves on your own data: `evaluate`, and `jinaclip evaluate`.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinaclip.evaluation.run import Choice, Evaluation, evaluate
    from jinaclip.evaluation.tables import Score, Table

__all__ = ["Choice", "Evaluation", "Score", "Table", "evaluate"]

_HOMES = {"Score": "tables", "Table": "tables"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'run')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
