"""HTTP headers whose values are secrets: Haystack's, resolved when they are needed, or the core's, given as str."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from haystack.utils import Secret

from jinaclip.hosts import Headers
from jinaclip.hosts import Secret as CoreSecret


def wrap_headers(headers: Any) -> Any:
    """Headers as a component keeps them: a dict of Haystack's Secrets and, for values given as str, the core's.

    None stays, and what cannot be headers becomes `Headers` that say so.
    """
    if not isinstance(headers, Mapping):
        return Headers.wrap(headers)
    given = {name: Secret.from_dict(value) if is_saved(value) else value for name, value in headers.items()}
    secrets = {name: value for name, value in given.items() if isinstance(value, Secret)}
    wrapped = Headers({**given, **dict.fromkeys(secrets, CoreSecret(None))})
    return wrapped if wrapped.problem else {**wrapped, **secrets}


def is_saved(value: Any) -> bool:
    """Whether it is a Secret as `to_dict` gives it."""
    return isinstance(value, dict) and value.get("type") == "env_var"


def save_headers(headers: Any) -> dict[str, Any] | None:
    """Headers as a saved pipeline holds them.

    Raises:
        ValueError: a value is no reference to a variable; others are never saved.
    """
    return {name: save_header(name, value) for name, value in headers.items()} if headers is not None else None


def save_header(name: str, value: Any) -> dict[str, Any]:
    """The value of a header as a saved pipeline holds it. Raises ValueError if it is no reference to a variable."""
    if isinstance(value, Secret):
        return value.to_dict()
    raise ValueError(f"Cannot serialize the value of the header {name!r}; give it as Secret.from_env_var")


def resolve_headers(headers: Any) -> Headers | None:
    """The headers in the words of the core, with the values that Haystack's Secrets stand for now.

    Raises:
        ValueError: a variable is not set.
    """
    return convert_headers(headers, lambda secret: secret.resolve_value())


def name_headers(headers: Any) -> Headers | None:
    """The headers in the words of the core, without the values that are yet to be resolved."""
    return convert_headers(headers, lambda _: CoreSecret(None))


def convert_headers(headers: Any, resolve: Callable[[Secret], Any]) -> Headers | None:
    """The headers in the words of the core; `resolve` gives the values of Haystack's Secrets."""
    if not isinstance(headers, dict):
        return Headers.wrap(headers)
    return Headers({name: resolve(value) if isinstance(value, Secret) else value for name, value in headers.items()})
