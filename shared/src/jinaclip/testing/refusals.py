"""Error bodies in the shapes that Jina, and the proxies in front of it, were seen to use."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from starlette.responses import Response

PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"


class RefusalError(Exception):
    """A request that gets no vectors, with the response it gets instead."""

    def __init__(self, response: Response, kind: str) -> None:
        super().__init__(kind)
        self.response = response
        self.kind = kind


def flat(status: int, message: str, code: str | None = None, **headers: str) -> Response:
    """Shape of the authentication layer, and of every error in the specification."""
    body = {"detail": message, "code": code, "request_id": uuid.uuid4().hex}
    return answer_json({name: value for name, value in body.items() if value is not None}, status, **headers)


def nested(status: int, message: str, code: str, **headers: str) -> Response:
    """Shape of errors from the application itself."""
    detail = {"message": message, "code": code, "request_id": uuid.uuid4().hex}
    return answer_json({"detail": detail}, status, **headers)


def invalid(field: str, message: str, kind: str, value: Any, status: int = 422) -> Response:
    """Shape of validation errors: `errors[]` says what is wrong and repeats the value."""
    error = {"field": field, "message": message, "type": kind, "input": value}
    body = {"detail": f"Validation error: '{field}'", "request_id": uuid.uuid4().hex, "errors": [error]}
    return answer_json(body, status)


def page(status: int, title: str) -> Response:
    """What a proxy says."""
    return Response(PAGE.format(f"{status} {title}"), status, media_type="text/html")


def answer_json(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON response; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(orjson.dumps(body), status, named, media_type="application/json")
