"""Numbers as callers pass them: Python's own, NumPy's, fractions."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral, Real
from typing import Any, TypeGuard

NUMPY_BOOLS = ("bool", "bool_")
"""Names of the type of NumPy, which this module does not load: it is read by all that reads options."""


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, of Python's or of NumPy's types; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number of any type; True and False are none. NaN and infinity are."""
    return isinstance(value, Real) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """The value as Python's own int, float, bool or str, so that any dump can hold it; what is none of them stays.

    Of a tuple, a list or a dict, its values as well.
    """
    if type(value) is dict:
        return {name: plain(item) for name, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if isinstance(value, str):
        return str.__str__(value)  # the text itself, whatever a subclass, an enum say, prints
    if isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in NUMPY_BOOLS):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    with suppress(OverflowError):  # a fraction beyond any float, which the check of its option refuses
        return float(value) if isinstance(value, Real) else value
    return value
