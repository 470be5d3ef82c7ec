"""Imports the libraries of the extra `bulk` on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jinaclip.errors import MissingDependencyError


def need(module: str, who: str, extra: str = "bulk") -> Any:
    """A module of pyarrow or fsspec.

    Args:
        module: its name.
        who: what needs it, for the message.
        extra: of jinaclip that has it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(
            f"{who} needs {missing.name}, which is not installed: pip install 'jinaclip[{extra}]'"
        ) from None
