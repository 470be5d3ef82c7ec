"""The page to try the server: files without a build step, served with headers that allow nothing else.

The page asks this server alone, by relative addresses, so that it also works behind a prefix. What somebody types,
pictures and a key stay in its memory.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Paths, the file of each, and its media type."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""What the page may load and ask: this server; `blob:` are the pictures that somebody chose."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """The routes of the page; its files are read once."""
    return [route_file(path, name, media) for path, (name, media) in FILES.items()]


def route_file(path: str, name: str, media: str) -> Route:
    """The route of one file."""
    content = files(__name__).joinpath(name).read_bytes()

    async def send_file(_: Request) -> Response:
        return Response(content, headers=HEADERS, media_type=media)

    return Route(path, send_file, methods=["GET"])
