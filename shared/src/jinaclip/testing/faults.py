"""Every way in which the service can fail, by name: `FAULTS`, and those worth asking again after, `PASSING`."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response, StreamingResponse

from jinaclip.backends.api.wires.base import Row, most_bytes
from jinaclip.backends.api.wires.jina import Code, write_vector
from jinaclip.testing.protocol import CloseMidBody, Drip, RawResponse, ResetAtOnce, ResetMidBody
from jinaclip.testing.responses import flat, html_page, json_response, nested, validation

if TYPE_CHECKING:
    import random

    from jinaclip.testing.batch import Batch
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
        return len(self.batch)


@dataclass(slots=True)
class Reply:
    """A response, and which inputs it answers when it arrives; None is all of them."""

    response: Response
    answered: Collection[int] | None = ()


Fault = Callable[[Exchange], Reply]
AnswerFault = Callable[[Exchange, list[dict[str, Any]]], None]
RowFault = Callable[[Exchange, Row], Row | None]

FAULTS: dict[str, Fault] = {}
"""Every fault by its name."""


def fault(function: Fault) -> Fault:
    """Enters a fault in the table under its own name."""
    FAULTS[function.__name__] = function
    return function


def add_refusal(name: str, make: Callable[[], Response]) -> None:
    """Enters a fault that is the same whatever was asked."""
    FAULTS[name] = lambda _: Reply(make())


def answer_fault(function: AnswerFault) -> AnswerFault:
    """Enters a fault that changes the honest list of rows; none of them counts as answered."""

    def reply(exchange: Exchange) -> Reply:
        answer = exchange.batch.answer()
        function(exchange, answer["data"])
        return Reply(json_response(answer))

    FAULTS[function.__name__] = reply
    return function


def row_fault(function: RowFault) -> RowFault:
    """Enters a fault that puts something else in place of the target rows; the others count as answered."""

    def reply(exchange: Exchange) -> Reply:
        batch = exchange.batch
        answer, rows = batch.answer(), batch.rows()
        for index in exchange.targets:
            row = function(exchange, rows[index])
            answer["data"][index]["embedding"] = None if row is None else write_vector(row, batch.request.encoding)
        return Reply(json_response(answer), set(range(exchange.count)) - set(exchange.targets))

    FAULTS[function.__name__] = reply
    return function


# Passing refusals

add_refusal("status_408", lambda: Response(status_code=408))
add_refusal("status_409", lambda: flat(409, "The resource is busy.", Code.BUSY))
add_refusal("status_425", lambda: Response(status_code=425))
add_refusal("status_500", lambda: nested(500, "Internal server error", Code.INTERNAL))
add_refusal("status_502_html", lambda: html_page(502, "Bad Gateway"))
add_refusal("status_503", lambda: flat(503, "The service is unavailable.", Code.UNAVAILABLE))
add_refusal("status_504", lambda: nested(504, "The request took too long.", Code.TIMEOUT))
add_refusal("status_529", lambda: flat(529, "Overloaded"))
add_refusal("poison_500", lambda: nested(500, "Internal server error", Code.INTERNAL))

# Rate limits

add_refusal("rate_request", lambda: flat(429, "Too many requests.", Code.RATE_REQUESTS))
add_refusal("rate_token", lambda: nested(429, "Too many tokens.", Code.RATE_TOKENS))
add_refusal("rate_concurrency", lambda: nested(429, "Too many concurrent requests.", Code.RATE_CONCURRENCY))
add_refusal("rate_ip", lambda: flat(429, "Too many requests from this address.", Code.RATE_IP))
add_refusal("rate_unknown", lambda: Response(status_code=429))
add_refusal("retry_after_huge", lambda: flat(429, "Come back later.", Code.RATE_REQUESTS, {"Retry-After": "3600"}))


@fault
def retry_after_seconds(exchange: Exchange) -> Reply:
    """A rate limit with a Retry-After in seconds, the setting `retry_after`."""
    wait = f"{exchange.settings.retry_after:g}"
    return Reply(flat(429, "Too many requests.", Code.RATE_REQUESTS, {"Retry-After": wait}))


@fault
def retry_after_date(exchange: Exchange) -> Reply:
    """One second, for who reckons with the reply's Date; hours, for who trusts their own clock."""
    now = time.time() + CLOCK_SKEW_S
    times = {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + 1, usegmt=True)}
    return Reply(flat(429, "Too many requests.", Code.RATE_REQUESTS, times))


@fault
def retry_after_bad(exchange: Exchange) -> Reply:
    """A rate limit whose Retry-After is no time to wait."""
    wait = exchange.draw.choice(["NaN", "-1", "0"])
    return Reply(flat(429, "Too many concurrent requests.", Code.RATE_CONCURRENCY, {"Retry-After": wait}))


# Refusals for good

add_refusal("balance_402", lambda: flat(402, "Payment required"))
add_refusal("balance_403", lambda: flat(403, "Insufficient balance.", Code.BALANCE))
add_refusal("forbidden_403", lambda: flat(403, "This key may not use this model."))
add_refusal("not_found_404", lambda: flat(404, "Not found", Code.NOT_FOUND))
add_refusal("redirect_302", lambda: Response(status_code=302, headers={"Location": "/redirected"}))
add_refusal("auth_401", lambda: flat(401, "The API key is invalid.", Code.INVALID_KEY))
add_refusal("reject_all_422", lambda: validation(("normalized",), "Extra inputs are not permitted", "extra", True))
add_refusal("too_large_413", lambda: html_page(413, "Request Entity Too Large"))
add_refusal("bad_item_unnamed_400", lambda: nested(400, "An input cannot be processed.", "INPUT_INVALID"))


@fault
def too_many_422(exchange: Exchange) -> Reply:
    """Says that 512 inputs are the most, whatever came."""
    text = f"List should have at most 512 items after validation, not {exchange.count}"
    return Reply(validation(("input",), text, "too_long", exchange.batch.request.raw_inputs))


@fault
def too_many_400(exchange: Exchange) -> Reply:
    """The same for 2048 inputs, as the service said it before."""
    text = f"The input length {exchange.count} is larger than the largest allowed size 2048"
    return Reply(flat(400, text))


@fault
def bad_item_400(exchange: Exchange) -> Reply:
    """Names the first poisoned input; where none is, the fourth or the last."""
    poisoned = any(marker in exchange.batch.texts[exchange.targets[0]] for marker in exchange.settings.poison)
    index = exchange.targets[0] if poisoned else min(3, exchange.count - 1)
    text = "Input should be a text or an image"
    return Reply(validation(("input", index), text, "union_error", exchange.batch.request.raw_inputs[index], 400))


# Answers whose rows cannot be told apart


@answer_fault
def short_reply(exchange: Exchange, data: list[dict[str, Any]]) -> None:
    """One row is missing; in every other case the rest is renumbered, which shifts the vectors."""
    del data[exchange.targets[0]]
    if exchange.draw.random() < 0.5:
        for index, cell in enumerate(data):
            cell["index"] = index


@answer_fault
def long_reply(exchange: Exchange, data: list[dict[str, Any]]) -> None:
    """One row too many."""
    data.append({**data[0], "index": exchange.count})


@answer_fault
def repeated_index(exchange: Exchange, data: list[dict[str, Any]]) -> None:
    """One index appears twice, and with more than one row another is missing."""
    target = exchange.targets[0]
    if exchange.count == 1:
        data.append(data[0])
    data[target]["index"] = data[target - 1]["index"]


@answer_fault
def gap_index(exchange: Exchange, data: list[dict[str, Any]]) -> None:
    """Indices from some place on are one too high."""
    for cell in data[exchange.targets[0] :]:
        cell["index"] += 1


@answer_fault
def bool_index(exchange: Exchange, data: list[dict[str, Any]]) -> None:
    """The first two indices are false and true."""
    for cell in data[:2]:
        cell["index"] = bool(cell["index"])


@answer_fault
def string_index(exchange: Exchange, data: list[dict[str, Any]]) -> None:
    """The indices are strings."""
    for cell in data:
        cell["index"] = str(cell["index"])


@fault
def permuted(exchange: Exchange) -> Reply:
    """Valid, in another order."""
    answer = exchange.batch.answer()
    turn = exchange.draw.randrange(1, max(2, exchange.count))
    answer["data"] = answer["data"][turn:] + answer["data"][:turn]
    return Reply(json_response(answer), None)


# Answers with rows that are no vectors


@row_fault
def nan_row(exchange: Exchange, row: Row) -> Row | None:
    """A row with a NaN."""
    row[exchange.draw.randrange(len(row))] = np.nan
    return row


@row_fault
def inf_row(exchange: Exchange, row: Row) -> Row | None:
    """A row with an infinity."""
    row[exchange.draw.randrange(len(row))] = exchange.draw.choice([np.inf, -np.inf])
    return row


@row_fault
def null_row(exchange: Exchange, row: Row) -> Row | None:
    """No row at all."""
    return None


@row_fault
def zero_row(exchange: Exchange, row: Row) -> Row | None:
    """A row of zeros."""
    return row * 0


@row_fault
def wrong_dimension_one(exchange: Exchange, row: Row) -> Row | None:
    """A row that is one number short."""
    return row[:-1]


@fault
def wrong_dimension_all(exchange: Exchange) -> Reply:
    """All rows are one number too long."""
    answer = exchange.batch.answer()
    for cell, row in zip(answer["data"], exchange.batch.rows(), strict=True):
        cell["embedding"] = write_vector(np.append(row, row[:1]), exchange.batch.request.encoding)
    return Reply(json_response(answer))


# Bodies that are no answer


@fault
def truncated_json(exchange: Exchange) -> Reply:
    """Half of an honest answer."""
    body = exchange.batch.answer_bytes()
    return Reply(Response(body[: len(body) // 2], media_type="application/json"))


@fault
def trailing_bytes(exchange: Exchange) -> Reply:
    """An honest answer, and then more."""
    return Reply(Response(exchange.batch.answer_bytes() + b"{}", media_type="application/json"))


add_refusal("not_json", lambda: Response(b"upstream connect error", media_type="application/json"))
add_refusal("html_200", lambda: html_page(200, "OK"))
add_refusal("empty_200", lambda: Response(b"", media_type="application/json"))


@fault
def deep_json(exchange: Exchange) -> Reply:
    """An honest answer, but for a field that nests too deep."""
    body = exchange.batch.answer_bytes()
    return Reply(Response(b'{"x":%b%b,%b' % (b"[" * DEPTH, b"]" * DEPTH, body[1:]), media_type="application/json"))


@fault
def oversize_body(exchange: Exchange) -> Reply:
    """An honest answer behind far too many blanks, without a length that would warn of it."""
    most = most_bytes(exchange.count, exchange.batch.request.dimensions)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(4 * most // len(MIB) + 1):
            yield MIB
        yield exchange.batch.answer_bytes()

    return Reply(StreamingResponse(parts(), media_type="application/json"))


@fault
def gzip_bomb(exchange: Exchange) -> Reply:
    """Some hundred kilobytes that unpack to 200 MiB."""
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

add_refusal("reset_before_headers", ResetAtOnce)
add_refusal("hang", RawResponse)
FAULTS["reset_mid_body"] = lambda exchange: Reply(ResetMidBody(exchange.batch.answer_bytes()))
FAULTS["close_mid_body"] = lambda exchange: Reply(CloseMidBody(exchange.batch.answer_bytes()))


@fault
def slow_drip(exchange: Exchange) -> Reply:
    """Honest, and counted as answered if the client has the patience."""
    return Reply(Drip(exchange.batch.answer_bytes(), gap_s=exchange.settings.drip_s, headers_too=False), None)


@fault
def slow_headers(exchange: Exchange) -> Reply:
    """Slow from the first byte on."""
    return Reply(Drip(exchange.batch.answer_bytes(), gap_s=exchange.settings.drip_s, headers_too=True), None)


STATUS: tuple[str, ...] = (
    "status_408",
    "status_409",
    "status_425",
    "status_500",
    "status_502_html",
    "status_503",
    "status_504",
)
STATUS += ("status_529",)
INDEX = ("short_reply", "long_reply", "repeated_index", "gap_index", "bool_index", "string_index")
ROW = ("nan_row", "inf_row", "null_row", "zero_row")
BODY = ("truncated_json", "not_json", "html_200", "empty_200")
SOCKET = ("reset_before_headers", "reset_mid_body", "close_mid_body")
BRIEF_RATE = ("rate_concurrency", "retry_after_seconds", "retry_after_bad")
PASSING = (*STATUS, *BRIEF_RATE, *INDEX, "permuted", *ROW, *BODY, *SOCKET)
"""What a client should survive by asking again, without waiting long."""
