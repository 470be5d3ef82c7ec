"""What the server says when it does not answer, in a shape that clients of Jina and of OpenAI both read."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from jinaclip.backends.api.wires.jina import ARROW, Code

KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
"""What OpenAI calls errors of these statuses; others are errors of the request, or from 500 on of the server."""
PAUSE = 1.0
"""Seconds after which to come back where nobody knows better."""


class Refused(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        code: what Jina calls the reason, one of `wires.jina.Code`, or a word of ours.
        message: a sentence for whoever sent the request; holds no key and nothing that the request held.
        place: where in the request, such as ("input", 3); empty for the whole of it.
        retry_after: seconds after which another attempt makes sense; None where nobody knows.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        place: Sequence[str | int] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, str(code), message
        self.place, self.retry_after = tuple(place), retry_after

    def body(self) -> dict[str, Any]:
        """What the response says: `detail`, `code`, `request_id` and `errors` as Jina does, `error` as OpenAI does."""
        body: dict[str, Any] = {"detail": self.message, "code": self.code, "request_id": uuid.uuid4().hex}
        if self.place:
            field = f" {ARROW} ".join(["body", *map(str, self.place)])
            body["errors"] = [{"field": field, "message": self.message, "type": self.code.lower()}]
        param = ".".join(map(str, self.place)) or None
        body["error"] = {"message": self.message, "type": self._kind, "param": param, "code": self.code}
        return body

    @property
    def _kind(self) -> str:
        is_ours = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return KINDS.get(HTTPStatus(self.status), "server_error" if is_ours else "invalid_request_error")

    def response(self) -> Response:
        """The response. Whole seconds in Retry-After: clients read nothing else."""
        headers = {} if self.retry_after is None else {"Retry-After": str(math.ceil(self.retry_after))}
        return json_response(self.body(), self.status, headers)


def unavailable(message: str) -> Refused:
    """The refusal of a server that takes no work for the moment."""
    return Refused(503, Code.UNAVAILABLE, message, retry_after=PAUSE)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as a JSON response."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
