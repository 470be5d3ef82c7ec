"""Refusals as HTTP responses, in the shapes that Jina, and the proxies in front of it, were seen to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from jinaclip.backends.api.wires import jina as wire

PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"


class RefusalError(Exception):
    """A request that is beyond a limit, with the response it gets; `kind` is what the ledger counts it as."""

    def __init__(self, response: Response, kind: str) -> None:
        super().__init__(kind)
        self.response = response
        self.kind = str(kind)


def flat(status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal in the shape of the authentication layer."""
    return json_response(wire.write_refusal(message, code), status, headers)


def nested(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal in the shape of the application."""
    return json_response(wire.write_nested_refusal(message, code), status, headers)


def validation(place: wire.Place, message: str, kind: str, value: Any, status: int = 422) -> Response:
    """A refusal in the shape of validation."""
    return json_response(wire.write_field_refusal(place, message, kind, value), status)


def html_page(status: int, title: str) -> Response:
    """What a proxy says."""
    return Response(PAGE.format(f"{status} {title}"), status, media_type="text/html")


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as a JSON response."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
