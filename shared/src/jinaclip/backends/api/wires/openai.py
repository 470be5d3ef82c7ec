"""OpenAI's wire: `POST /v1/embeddings` of the many servers that took its shape over. Client only.

It can say neither task nor normalisation, and what it says of widths is not taken everywhere: so the instruction of
queries is written here, and whole vectors are asked for, cut and normalised here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pybase64

from jinaclip.backends.api.wires import jina
from jinaclip.backends.api.wires.base import (
    NO_HEADERS,
    Answer,
    Reason,
    Refusal,
    Traits,
    check_rows,
    count_tokens,
    open_answer,
    open_refusal,
    order_by_index,
    read_cell,
    read_rows,
    read_text,
)
from jinaclip.backends.api.wires.jina import authorize, open_signer, url
from jinaclip.config import EmbedderConfig
from jinaclip.formats import find_look
from jinaclip.specs import ModelSpec

__all__ = [
    "authorize",
    "image_input",
    "open_signer",
    "read_answer",
    "read_refusal",
    "settings",
    "text_input",
    "traits",
    "url",
    "url_input",
    "write_request",
]

traits = Traits(
    provider="openai",
    says_task=False,
    says_dimensions=False,
    says_normalized=False,
    says_truncate=False,
    key_hint="check api_key, or JINACLIP_API_KEY",
)
REASONS: Mapping[str, Reason] = {
    "insufficient_quota": Reason.BALANCE,
    "billing_hard_limit_reached": Reason.BALANCE,
    "model_not_found": Reason.MODEL,
    "context_length_exceeded": Reason.TEXT_TOO_LONG,
    "string_above_max_length": Reason.TEXT_TOO_LONG,
    "invalid_api_key": Reason.CREDENTIALS,
    "tokens": Reason.TOKENS,
    "requests": Reason.REQUESTS,
}
"""By the code of a refusal, else by its type."""
INPUT = re.compile(r"inputs?(?:\W+(\d{1,10})\W*)?")
"""What names an input, such as "input[3]" or "input.3"."""


def settings(config: EmbedderConfig, spec: ModelSpec, *, query: bool) -> dict[str, Any]:
    """All of a request but its inputs. The model is named as the caller does: a server may know it by the hub's id."""
    return {"model": config.model, "encoding_format": "base64"}


def text_input(text: str) -> str:
    """A text among the inputs of a request."""
    return text


def image_input(data: bytes) -> dict[str, str]:
    """An encoded image among the inputs: an object, since a data URI by itself is a text to servers without images."""
    look = find_look(data)
    kind = ((look and look.format) or "PNG").lower()
    return {"image": f"data:image/{kind};base64,{pybase64.b64encode(data).decode()}"}


def url_input(url: str) -> dict[str, str]:
    """An image that the service downloads itself."""
    return {"image": url}


def write_request(body: dict[str, Any], inputs: list[Any]) -> bytes:
    """A request as it is sent."""
    return orjson.dumps({**body, "input": inputs})


def read_answer(raw: bytes, items: int, dimensions: int) -> Answer:
    """The vectors of an answer, checked. Servers that know no base64 answer with numbers; some send no bill.

    Raises:
        Malformed: it does not hold. An answer whose indices are off is never read by position.
        WrongDimensions: every row has one other width.
    """
    body, data = open_answer(raw)
    rows = read_rows([read_cell(item.get("embedding")) for item in order_by_index(data, items)], dimensions)
    return check_rows(rows, count_tokens(body.get("usage")), read_text(body.get("space")) or None)


def read_refusal(raw: bytes, status: int = 0, headers: Mapping[str, str] = NO_HEADERS) -> Refusal:
    """What an error body says, in OpenAI's shape or in one of Jina's; neither clean nor cut."""
    error = open_refusal(raw).get("error")
    if not isinstance(error, dict):
        return jina.read_refusal(raw, status, headers)
    code, kind = read_text(error.get("code")), read_text(error.get("type"))
    found = INPUT.fullmatch(read_text(error.get("param")))
    index = int(found[1]) if found and found[1] else None
    field = None if found else read_text(error.get("param")) or None
    request_id = headers.get("x-request-id")
    reason = REASONS.get(code) or REASONS.get(kind)
    return Refusal(code or kind, read_text(error.get("message")), request_id, index, field, reason, status)
