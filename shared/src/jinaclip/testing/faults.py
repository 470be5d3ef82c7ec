"""Every way in which the server can fail, by name; `tests/api/test_server.py` shows that each does."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response, StreamingResponse

from jinaclip.backends.api.wires.jina import most_bytes
from jinaclip.testing.protocol import CloseMidBody, Drip, RawResponse, ResetAtOnce, ResetMidBody
from jinaclip.testing.refusals import answer_json, flat, invalid, nested, page

if TYPE_CHECKING:
    import random

    from jinaclip.testing.request import Batch
    from jinaclip.testing.settings import Settings

CLOCK_SKEW_S = 7200  # how far the server's clock is ahead, where it tells the time
MIB = b" " * 2**20
BOMB_MIB = 200
DEPTH = 10_000


@dataclass(slots=True)
class Exchange:
    """What a fault can look at."""

    batch: Batch
    settings: Settings
    draw: random.Random
    targets: list[int]
    """Poisoned inputs, or one drawn."""

    @property
    def count(self) -> int:
        """Inputs of the request."""
        return len(self.batch.inputs)


@dataclass(slots=True)
class Reply:
    """A response, and which inputs it answers when it arrives; None is all of them."""

    response: Response
    answered: Collection[int] | None = ()


Fault = Callable[[Exchange], Reply]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    """Enters a fault in the table under its own name."""
    FAULTS[function.__name__] = function
    return function


def refuses(name: str, make: Callable[[], Response]) -> None:
    """Enters a fault that is the same whatever was asked."""
    FAULTS[name] = lambda exchange: Reply(make())


def spoils(spoil: Callable[[Exchange, list[Any]], None]) -> Callable[[Exchange, list[Any]], None]:
    """Enters a fault that changes the honest list of rows; none of them counts as answered."""

    def reply(exchange: Exchange) -> Reply:
        answer = exchange.batch.answer()
        spoil(exchange, answer["data"])
        return Reply(answer_json(answer))

    FAULTS[spoil.__name__] = reply
    return spoil


def spoils_rows(spoil: Callable[[Exchange, np.ndarray], Any]) -> Callable[[Exchange, np.ndarray], Any]:
    """Enters a fault that puts something else in place of the target rows; the others count as answered."""

    def reply(exchange: Exchange) -> Reply:
        answer, rows = exchange.batch.answer(), exchange.batch.rows()
        for index in exchange.targets:
            bad = spoil(exchange, rows[index])
            answer["data"][index]["embedding"] = bad if bad is None else exchange.batch.encode(bad)
        return Reply(answer_json(answer), set(range(exchange.count)) - set(exchange.targets))

    FAULTS[spoil.__name__] = reply
    return spoil


# Passing refusals

refuses("status_408", lambda: Response(status_code=408))
refuses("status_409", lambda: flat(409, "The resource is busy.", "CONFLICT_RESOURCE_BUSY"))
refuses("status_425", lambda: Response(status_code=425))
refuses("status_500", lambda: nested(500, "Internal server error", "INTERNAL_ERROR"))
refuses("status_502_html", lambda: page(502, "Bad Gateway"))
refuses("status_503", lambda: flat(503, "The service is unavailable.", "SERVICE_UNAVAILABLE"))
refuses("status_504", lambda: nested(504, "The request took too long.", "SERVICE_TIMEOUT"))
refuses("status_529", lambda: flat(529, "Overloaded"))
refuses("poison_500", lambda: nested(500, "Internal server error", "INTERNAL_ERROR"))

# Rate limits

CONCURRENCY = "RATE_CONCURRENCY_LIMIT_EXCEEDED"
refuses("rate_request", lambda: flat(429, "Too many requests.", "RATE_REQUEST_LIMIT_EXCEEDED"))
refuses("rate_token", lambda: nested(429, "Too many tokens.", "RATE_TOKEN_LIMIT_EXCEEDED"))
refuses("rate_concurrency", lambda: nested(429, "Too many concurrent requests.", CONCURRENCY))
refuses("rate_ip", lambda: flat(429, "Too many requests from this address.", "RATE_IP_LIMIT_EXCEEDED"))
refuses("rate_unknown", lambda: Response(status_code=429))
refuses("retry_after_huge", lambda: flat(429, "Come back later.", "RATE_REQUEST_LIMIT_EXCEEDED", Retry_After="3600"))


@fault
def retry_after_seconds(exchange: Exchange) -> Reply:
    wait = f"{exchange.settings.retry_after:g}"
    return Reply(flat(429, "Too many requests.", "RATE_REQUEST_LIMIT_EXCEEDED", Retry_After=wait))


@fault
def retry_after_date(exchange: Exchange) -> Reply:
    """One second, for who reckons with the reply's Date; hours, for who trusts their own clock."""
    now = time.time() + CLOCK_SKEW_S
    times = {"Date": formatdate(now, usegmt=True), "Retry_After": formatdate(now + 1, usegmt=True)}
    return Reply(flat(429, "Too many requests.", "RATE_REQUEST_LIMIT_EXCEEDED", **times))


@fault
def retry_after_bad(exchange: Exchange) -> Reply:
    wait = exchange.draw.choice(["NaN", "-1", "0"])
    return Reply(flat(429, "Too many concurrent requests.", CONCURRENCY, Retry_After=wait))


# Refusals for good

refuses("balance_402", lambda: flat(402, "Payment required"))
refuses("balance_403", lambda: flat(403, "Insufficient balance.", "AUTHZ_INSUFFICIENT_BALANCE"))
refuses("forbidden_403", lambda: flat(403, "This key may not use this model."))
refuses("not_found_404", lambda: flat(404, "Not found", "RESOURCE_NOT_FOUND"))
refuses("redirect_302", lambda: Response(status_code=302, headers={"Location": "/redirected"}))
refuses("auth_401", lambda: flat(401, "The API key is invalid.", "AUTH_INVALID_API_KEY"))
refuses("reject_all_422", lambda: invalid("body -> normalized", "Extra inputs are not permitted", "extra", True))
refuses("too_large_413", lambda: page(413, "Request Entity Too Large"))
refuses("bad_item_unnamed_400", lambda: nested(400, "An input cannot be processed.", "INPUT_INVALID"))


@fault
def too_many_422(exchange: Exchange) -> Reply:
    text = f"List should have at most 512 items after validation, not {exchange.count}"
    return Reply(invalid("body -> input", text, "too_long", exchange.batch.inputs))


@fault
def too_many_400(exchange: Exchange) -> Reply:
    text = f"The input length {exchange.count} is larger than the largest allowed size 2048"
    return Reply(flat(400, text))


@fault
def bad_item_400(exchange: Exchange) -> Reply:
    """Names the first poisoned input; where none is, the fourth or the last."""
    poisoned = any(marker in exchange.batch.texts[exchange.targets[0]] for marker in exchange.settings.poison)
    index = exchange.targets[0] if poisoned else min(3, exchange.count - 1)
    text = "Input should be a text or an image"
    return Reply(invalid(f"body -> input -> {index}", text, "union_error", exchange.batch.inputs[index], 400))


# Answers whose rows cannot be told apart


@spoils
def short_reply(exchange: Exchange, data: list[Any]) -> None:
    """One row is missing; in every other case the rest is renumbered, which shifts the vectors."""
    del data[exchange.targets[0]]
    if exchange.draw.random() < 0.5:
        for index, cell in enumerate(data):
            cell["index"] = index


@spoils
def long_reply(exchange: Exchange, data: list[Any]) -> None:
    data.append({**data[0], "index": exchange.count})


@spoils
def repeated_index(exchange: Exchange, data: list[Any]) -> None:
    """One index appears twice, and with more than one row another is missing."""
    target = exchange.targets[0]
    if exchange.count == 1:
        data.append(data[0])
    data[target]["index"] = data[target - 1]["index"]


@spoils
def gap_index(exchange: Exchange, data: list[Any]) -> None:
    for cell in data[exchange.targets[0] :]:
        cell["index"] += 1


@spoils
def bool_index(exchange: Exchange, data: list[Any]) -> None:
    for cell in data[:2]:
        cell["index"] = bool(cell["index"])


@spoils
def string_index(exchange: Exchange, data: list[Any]) -> None:
    for cell in data:
        cell["index"] = str(cell["index"])


@fault
def permuted(exchange: Exchange) -> Reply:
    """Valid, in another order."""
    answer = exchange.batch.answer()
    turn = exchange.draw.randrange(1, max(2, exchange.count))
    answer["data"] = answer["data"][turn:] + answer["data"][:turn]
    return Reply(answer_json(answer), None)


# Answers with rows that are no vectors


@spoils_rows
def nan_row(exchange: Exchange, row: np.ndarray) -> Any:
    row[exchange.draw.randrange(len(row))] = np.nan
    return row


@spoils_rows
def inf_row(exchange: Exchange, row: np.ndarray) -> Any:
    row[exchange.draw.randrange(len(row))] = exchange.draw.choice([np.inf, -np.inf])
    return row


@spoils_rows
def null_row(exchange: Exchange, row: np.ndarray) -> Any:
    return None


@spoils_rows
def zero_row(exchange: Exchange, row: np.ndarray) -> Any:
    return row * 0


@spoils_rows
def wrong_dimension_one(exchange: Exchange, row: np.ndarray) -> Any:
    return row[:-1]


@fault
def wrong_dimension_all(exchange: Exchange) -> Reply:
    answer = exchange.batch.answer()
    for cell, row in zip(answer["data"], exchange.batch.rows(), strict=True):
        cell["embedding"] = exchange.batch.encode(np.append(row, row[:1]))
    return Reply(answer_json(answer))


# Bodies that are no answer


@fault
def truncated_json(exchange: Exchange) -> Reply:
    body = exchange.batch.written()
    return Reply(Response(body[: len(body) // 2], media_type="application/json"))


@fault
def trailing_bytes(exchange: Exchange) -> Reply:
    return Reply(Response(exchange.batch.written() + b"{}", media_type="application/json"))


refuses("not_json", lambda: Response(b"upstream connect error", media_type="application/json"))
refuses("html_200", lambda: page(200, "OK"))
refuses("empty_200", lambda: Response(b"", media_type="application/json"))


@fault
def deep_json(exchange: Exchange) -> Reply:
    """An honest answer, but for a field that nests too deep."""
    body = exchange.batch.written()
    return Reply(Response(b'{"x":%b%b,%b' % (b"[" * DEPTH, b"]" * DEPTH, body[1:]), media_type="application/json"))


@fault
def oversize_body(exchange: Exchange) -> Reply:
    """An honest answer behind far too many blanks, without a length that would warn of it."""
    most = most_bytes(exchange.count, exchange.batch.dimensions)

    async def parts():
        for _ in range(4 * most // len(MIB) + 1):
            yield MIB
        yield exchange.batch.written()

    return Reply(StreamingResponse(parts(), media_type="application/json"))


@fault
def gzip_bomb(exchange: Exchange) -> Reply:
    headers = {"Content-Encoding": "gzip"}
    return Reply(Response(_bomb(), headers=headers, media_type="application/json"))


@functools.cache
def _bomb() -> bytes:
    """BOMB_MIB of blanks in one gzip stream; after a full flush the same compressed bytes can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = functools.reduce(lambda crc, _: zlib.crc32(MIB, crc), range(BOMB_MIB), 0)
    length = BOMB_MIB * len(MIB) % 2**32
    header = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return header + block * BOMB_MIB + b"\x03\0" + checksum.to_bytes(4, "little") + length.to_bytes(4, "little")


# Connections that break or stall

refuses("reset_before_headers", ResetAtOnce)
refuses("hang", RawResponse)
FAULTS["reset_mid_body"] = lambda exchange: Reply(ResetMidBody(exchange.batch.written()))
FAULTS["close_mid_body"] = lambda exchange: Reply(CloseMidBody(exchange.batch.written()))


@fault
def slow_drip(exchange: Exchange) -> Reply:
    """Honest, and counted as answered if the client has the patience."""
    return Reply(Drip(exchange.batch.written(), gap_s=exchange.settings.drip_s, headers_too=False), None)


@fault
def slow_headers(exchange: Exchange) -> Reply:
    return Reply(Drip(exchange.batch.written(), gap_s=exchange.settings.drip_s, headers_too=True), None)


STATUS = ("status_408", "status_409", "status_425", "status_500", "status_502_html", "status_503", "status_504")
STATUS += ("status_529",)
INDEX = ("short_reply", "long_reply", "repeated_index", "gap_index", "bool_index", "string_index")
ROW = ("nan_row", "inf_row", "null_row", "zero_row")
BODY = ("truncated_json", "not_json", "html_200", "empty_200")
SOCKET = ("reset_before_headers", "reset_mid_body", "close_mid_body")
BRIEF_RATE = ("rate_concurrency", "retry_after_seconds", "retry_after_bad")
PASSING = (*STATUS, *BRIEF_RATE, *INDEX, "permuted", *ROW, *BODY, *SOCKET)
"""What a client should survive by asking again, without waiting long."""
