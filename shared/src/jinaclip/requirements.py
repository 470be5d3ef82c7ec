"""Libraries of the extras: imported on first use, and where one is missing, the sentence that names its extra."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from jinaclip.errors import MissingDependencyError


def missing_dependency(who: str, module: str | None, extra: str, *, hint: str = "") -> MissingDependencyError:
    """The error of a library that is not installed.

    Args:
        who: what needs it.
        module: its name.
        extra: of jinaclip that has it.
        hint: what else there is to do, as the sentence goes on.
    """
    return MissingDependencyError(
        f"{who} needs {module}, which is not installed: pip install 'jinaclip[{extra}]'{hint}"
    )


def need(module: str, who: str, extra: str = "bulk") -> Any:
    """A module of a library.

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
        raise missing_dependency(who, missing.name, extra) from None


def check_installed(modules: Iterable[str], who: str, extra: str, *, hint: str = "") -> None:
    """Refuses to begin without libraries, none of which is imported; arguments as of `missing_dependency`.

    Raises:
        MissingDependencyError: names the first that is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing_dependency(who, module, extra, hint=hint)
