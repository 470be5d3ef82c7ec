"""What a wire is: how requests are written, and answers and refusals read, that a kind of service takes and gives.

A wire is a module with the functions and the `traits` of `Wire`. Nothing outside this folder knows one by its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from jinaclip.config import MAX_BATCH, EmbedderConfig
from jinaclip.secret import Secret
from jinaclip.specs import ModelSpec

Row = NDArray[Any]
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # base64 of float32 hardly shrinks, and unpacking costs five times the decoding
}
"""Of every request."""
BYTES_PER_NUMBER = 32
"""Room for one number of an answer, in any encoding."""
BYTES_AROUND = 64 * 1024
BYTES_PER_ITEM = 512
"""Room for what an answer says of each item beside its vector."""


class Malformed(ValueError):
    """An answer that is not what the wire promises; the text says in what. `hopeless` ones are not asked for again."""

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class WrongIndices(Malformed):
    """The indices of an answer are not those of the inputs, so nobody can say which row is whose."""


class WrongDimensions(ValueError):
    """Every row of an answer has the same width, and it is not the one asked for."""

    def __init__(self, width: int) -> None:
        super().__init__(f"vectors of {width} numbers")
        self.width = width


class Reason(Enum):
    """Why a service refuses, where the wire has a word of its own for it and the status does not tell."""

    BALANCE = "balance"
    MODEL = "model"
    TEXT_TOO_LONG = "text too long"
    CREDENTIALS = "credentials"
    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer: one row per input, in input order; `bad` rows are not finite or all zero."""

    rows: Row
    squares: NDArray[Any]
    """Squared length of each row."""
    bad: tuple[int, ...]
    tokens: int
    space: str | None = None
    """The vector space, as the service names it; not clean yet."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the service said when it did not answer."""

    code: str
    message: str
    request_id: str | None
    index: int | None
    """Of the input that the service names as the culprit."""
    field: str | None
    """Of the request that the service names as wrong."""
    reason: Reason | None = None
    status: int = 0
    """What the refusal amounts to: the HTTP status, unless a gateway wraps another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a wire can say, and how much of it at once.

    Attributes:
        provider: what traces call the service: the name that OpenTelemetry has for it, or one in its manner.
        says_task: whether texts can be asked for as queries; else the model's instruction goes before them here.
        says_dimensions: whether a width can be asked for; else the whole vector is, and cut here.
        says_normalized: whether vectors as the model makes them can be had.
        says_truncate: whether over-long texts can be asked to be cut.
        most_items: of one request.
        most_bytes: of one request. An item that has more goes alone.
        most_seconds: that the service works on one request.
        key_hint: what to look at where the service refuses who asks.
    """

    provider: str
    says_task: bool
    says_dimensions: bool
    says_normalized: bool
    says_truncate: bool
    most_items: int = MAX_BATCH
    most_bytes: int = 8 * 2**20
    most_seconds: float = math.inf
    key_hint: str = "check api_key, or the variable it comes from: JINA_API_KEY, or JINACLIP_API_KEY for other servers"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a signed request carries.

    Attributes:
        headers: beside those of every request.
        secrets: that the service may repeat when it refuses.
    """

    headers: Mapping[str, str]
    secrets: Sequence[str]


class Signer(Protocol):
    """Signs requests. Blocks: it may look for credentials, in files or on the network."""

    def sign(self, url: str, headers: Mapping[str, str], body: bytes) -> Signature:
        """The signature of one attempt.

        Raises:
            AuthenticationError: there are no credentials.
        """


class Wire(Protocol):
    """What a module of this folder has."""

    traits: Traits

    def url(self, base_url: str) -> str:
        """Where requests go.

        Raises:
            MissingDependencyError: the wire needs an extra that is not installed.
        """

    def authorize(self, config: EmbedderConfig) -> Secret:
        """The value of the header Authorization; an empty Secret where none is sent.

        Raises:
            AuthenticationError: there is no key, and no request without one.
        """

    def open_signer(self, base_url: str) -> Signer | None:
        """What signs each attempt; None where requests are not signed."""

    def settings(self, config: EmbedderConfig, spec: ModelSpec, *, query: bool) -> dict[str, Any]:
        """All of a request but its inputs: what can be hashed, by name."""

    def text_input(self, text: str) -> Any:
        """A text among the inputs of a request."""

    def image_input(self, data: bytes) -> Any:
        """An encoded image among the inputs of a request."""

    def url_input(self, url: str) -> Any:
        """An image that the service downloads itself."""

    def write_request(self, body: dict[str, Any], inputs: list[Any]) -> bytes:
        """A request as it is sent."""

    def read_answer(self, raw: bytes, items: int, dimensions: int) -> Answer:
        """The vectors of an answer, checked: each input's own, width, finite, not zero.

        Raises:
            Malformed: it does not hold.
            WrongDimensions: every row has one other width.
        """

    def read_refusal(self, raw: bytes, status: int, headers: Mapping[str, str]) -> Refusal:
        """What an error body says, whatever it is; neither clean nor cut."""


# What wires have in common


def most_bytes(items: int, dimensions: int) -> int:
    """More than any honest answer takes."""
    return items * (dimensions * BYTES_PER_NUMBER + BYTES_PER_ITEM) + BYTES_AROUND


def cut(answer: Answer, dimensions: int) -> Answer:
    """An answer at a smaller width; that of the width itself as it is."""
    if answer.rows.shape[1] == dimensions:
        return answer
    return replace(check_rows(answer.rows[:, :dimensions], answer.tokens), space=answer.space)


def open_answer(raw: bytes) -> tuple[dict[str, Any], list[Any]]:
    """An answer as it came, and its list `data`.

    Raises:
        Malformed: it has none.
    """
    try:
        body = orjson.loads(raw)
    except ValueError as error:
        hopeless = any(words in str(error) for words in ("after document", "depth limit", "ecursion"))
        raise Malformed("its body is not one JSON document", hopeless=hopeless) from None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise Malformed("it has no list `data`")
    return body, data


def order_by_index(data: list[Any], items: int) -> list[dict[str, Any]]:
    """What an answer says of each input, in input order.

    Raises:
        WrongIndices: their indices are not those of the inputs.
    """
    order: list[Any] = [item.get("index") if isinstance(item, dict) else None for item in data]
    in_order = list(range(items))
    if not all(type(i) is int for i in order) or sorted(order) != in_order:
        raise WrongIndices(f"its indices are not 0 to {items - 1}, each once")
    return data if order == in_order else sorted(data, key=lambda item: item["index"])


def count_tokens(usage: Any) -> int:
    """Tokens of a bill; 0 where there is no sound one."""
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and tokens >= 0 else 0


def read_cell(value: Any) -> bytes:
    """One vector as little-endian float32, from base64 or from numbers; nothing if it is neither."""
    try:
        if isinstance(value, str):
            return pybase64.b64decode(value, validate=True)
        if isinstance(value, list):
            return _numbers(value).tobytes()
    except (ValueError, TypeError, OverflowError):
        return b""
    return b""


def _numbers(values: list[Any]) -> Row:
    numbers = np.array(values)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        raise ValueError("no flat list of numbers")
    with np.errstate(over="ignore"):  # becomes infinity, which is found out later
        return numbers.astype("<f4")


def read_rows(cells: list[bytes], dimensions: int) -> Row:
    """The vectors as one matrix; one that could not be read, or is of another width than the rest, becomes NaN.

    Raises:
        WrongDimensions: every row has one other width.
    """
    widths = {len(cell) // 4 for cell in cells}
    if len(widths) == 1 and (width := widths.pop()) not in (0, dimensions):
        raise WrongDimensions(width)
    size = 4 * dimensions
    if any(len(cell) != size for cell in cells):
        missing = np.full(dimensions, np.nan, "<f4").tobytes()
        cells = [cell if len(cell) == size else missing for cell in cells]
    return np.frombuffer(b"".join(cells), "<f4").reshape(len(cells), dimensions)


def check_rows(rows: Row, tokens: int, space: str | None = None) -> Answer:
    """An answer of these rows, with their lengths and with those that cannot be used."""
    squares = np.einsum("ij,ij->i", rows, rows)
    sound = np.isfinite(squares) & (squares > 0)
    bad = () if sound.all() else tuple(map(int, np.flatnonzero(~sound)))
    return Answer(rows, squares, bad, tokens, space)


def open_refusal(raw: bytes) -> dict[str, Any]:
    """An error body as an object; empty if it is none."""
    try:
        body = orjson.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def read_text(value: Any) -> str:
    """A text of a body, "" for what is none."""
    return value if isinstance(value, str) else ""
