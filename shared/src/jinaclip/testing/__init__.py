"""A service that misbehaves on request, for anybody's tests; `pip install "jinaclip[testing]"`.

It speaks Jina's wire over real sockets, fails as you ask, and counts what it was sent, answered and would bill:

    from jinaclip import JinaClip
    from jinaclip.testing import Server

    with Server() as server:
        server.configure(script=["rate_concurrency", "reset_mid_body"])
        clip = JinaClip(api_key="jina_test_1", base_url=server.url)
        vectors = clip.embed_documents(["a red dress"])
        assert server.ledger()["answered"] == {"1": 1}

For pytest, `pytest_plugins = ["jinaclip.testing.fixtures"]` in a conftest.py gives fixtures;
`python -m jinaclip.testing` serves on its own, for clients in any language.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jinaclip.requirements import check_installed

if TYPE_CHECKING:
    from jinaclip.testing.faults import FAULTS, PASSING
    from jinaclip.testing.process import Server
    from jinaclip.testing.settings import Settings
    from jinaclip.testing.vectors import expected_vector

__all__ = ["FAULTS", "PASSING", "Server", "Settings", "expected_vector"]

_HOMES = {
    "FAULTS": "faults",
    "PASSING": "faults",
    "Server": "process",
    "Settings": "settings",
    "expected_vector": "vectors",
}

# Here, once for all modules of the package: the service is a process of its own, and would fail where nobody looks.
check_installed(("starlette", "uvicorn"), "jinaclip.testing", "testing")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
