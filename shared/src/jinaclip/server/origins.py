"""A server without keys is for programs of its own machine, and a browser on it shows pages of others.

Such a page can send requests to 127.0.0.1, and read the answers too once a name of its own leads there. Browsers say in
`Origin` whose page asks, and in `Host` by which name: neither can be forged by a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jinaclip.config import is_loopback
from jinaclip.server.refusals import Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

CODE = "FORBIDDEN_ORIGIN"


class OwnMachine:
    """An app that answers neither pages of other sites nor under other names than this machine's.

    Args:
        app: any ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the app, or refuses."""
        refused = find_foreign(dict(scope["headers"])) if scope["type"] == "http" else None
        await (refused.response() if refused else self._app)(scope, receive, send)


def find_foreign(headers: dict[bytes, bytes]) -> Refused | None:
    """The refusal for a request of another site's page; None if it is none."""
    host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
    if not is_loopback(name_of(host)):
        message = "Without keys this server answers as 127.0.0.1 or localhost alone; start it with --keys for others."
        return Refused(403, CODE, message)
    if origin and origin.partition("://")[2] != host:
        return Refused(403, CODE, "Without keys this server does not answer pages of other sites.")
    return None


def name_of(host: str) -> str:
    """The name in a Host header, without its port; "" if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
