"""The fault table: what each reply, or the lack of one, means for the request that was sent.

`judge` looks; `policy` acts. The verdicts:

Answer    rows that hold
Retry     a passing fault: send again after a while
Limited   a rate limit: wait with everybody else, at no cost in retries
Divide    something about this batch: send it in parts; the service may name the input at fault
Fatal     nothing will help: stop the call
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from jinaclip.backends.api.health import DOUBT, ENOUGH
from jinaclip.backends.api.limits import LONGEST_PAUSE, Scope
from jinaclip.backends.api.route import Route
from jinaclip.backends.api.steps import Failure, Reply
from jinaclip.backends.api.wires.base import (
    Answer,
    Malformed,
    Reason,
    Refusal,
    Wire,
    WrongDimensions,
    WrongIndices,
    cut,
)
from jinaclip.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadResponseError,
    ConfigError,
    ItemError,
    JinaClipError,
    QuotaError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    WrongWidthError,
)

PASSING = frozenset({408, 409, 425, *range(500, 600)})
CONCURRENCY_PAUSE = 0.5
"""About the seconds before a request that was one too many goes again: a place in flight is free in a moment."""
LONGEST_HEADER = 64
"""Characters of a Retry-After that is read."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Send again, no sooner than `after` seconds; an error when retries are used up."""

    error: APIError
    after: float = 0.0
    divide_after: int | None = None
    """So many of these and the batch is divided, however many retries are left."""
    is_unreachable: bool = False
    """Whether the service never got the request."""
    doubt: int = 1
    """How much it raises the doubt whether the service works."""
    is_shared: bool = False
    """Whether it befell items of others too: each caller's are sent by themselves, whatever retries are left."""


@dataclass(frozen=True, slots=True)
class Limited:
    """Wait for as many seconds as the service named, if it did."""

    error: RateLimitError
    scope: Scope
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Divide:
    """Send in parts, until the inputs at fault are alone.

    Attributes:
        error: of an input that fails alone.
        systemic: of the call, if inputs drawn at random fail alone too, so that none is to blame.
        least: how many of them must fail for that.
        place: of the input that the service names as the one at fault.
        too_many: whether it may be the number of inputs.
        again: whether an input that fails alone is sent again, a few times.
        doubt: how much it raises the doubt whether the service works.
        since: when what failed was sent for the first time.
    """

    error: APIError
    systemic: JinaClipError
    least: int = 1
    place: int | None = None
    too_many: bool = False
    again: bool = False
    doubt: int = 1
    since: float = math.inf


@dataclass(frozen=True, slots=True)
class Fatal:
    """Stop the call."""

    error: JinaClipError


Verdict = Answer | Retry | Limited | Divide | Fatal


@dataclass(frozen=True, slots=True)
class Case:
    """A request and what came of it, for the judge."""

    items: int
    dimensions: int
    width: int
    """Of the vectors that were asked for."""
    url: str
    wire: Wire
    refused: str
    """What it means that the service refuses who asks, and what to look at."""
    clean: Callable[[str], str]
    """Text of the service without what is secret, and cut: a 401 may echo the key that was sent."""

    @classmethod
    def of(cls, route: Route, items: int) -> Case:
        """A request of so many items."""
        endpoint = route.endpoint
        return cls(items, route.dimensions, route.width, endpoint.url, route.wire, endpoint.refused, endpoint.clean)


def judge(case: Case, result: Reply | Failure) -> Verdict:
    """What the result of sending a request means."""
    if isinstance(result, Failure):
        return _judge_failure(case, result)
    if result.status == 200:
        return _judge_answer(case, result)
    refusal = case.wire.read_refusal(result.body, result.status, result.headers)
    return _judge_refusal(case, result, _clean(case, refusal))


def _clean(case: Case, refusal: Refusal) -> Refusal:
    """A refusal with all its texts clean: whatever of it gets into an error is then fit to be shown."""
    said = {item.name: getattr(refusal, item.name) for item in fields(refusal)}
    clean: dict[str, Any] = {name: case.clean(text) for name, text in said.items() if isinstance(text, str)}
    return replace(refusal, **clean)


def _judge_failure(case: Case, failure: Failure) -> Verdict:
    detail = case.clean(failure.detail)
    if failure.kind == "unsigned":
        return Fatal(AuthenticationError(detail))
    if failure.kind == "setup":
        return Fatal(ConfigError(f"cannot reach {case.url}: {detail}"))
    if failure.kind == "oversize":
        error = BadResponseError(f"the answer of {case.url} is larger than {case.items} vectors can be; stopped")
        return Divide(error, error, doubt=DOUBT // 2)
    if failure.kind == "timeout":
        return Retry(APITimeoutError(f"no answer in time from {case.url}: {detail}"), divide_after=2)
    if failure.kind == "broken":
        return Retry(APIConnectionError(f"the connection to {case.url} broke: {detail}"))
    return Retry(APIConnectionError(f"no connection to {case.url}: {detail}"), is_unreachable=True)


def _judge_answer(case: Case, reply: Reply) -> Verdict:
    try:
        return cut(case.wire.read_answer(reply.body, case.items, case.width), case.dimensions)
    except WrongDimensions as wrong:
        said = f"the service answered vectors of {wrong.width} numbers where {case.width} were asked for"
        hint = (
            "is base_url the right service, and does the model support these dimensions? "
            "A cache asks for the published width, whatever `dimensions` are"
        )
        error = BadResponseError(said, status=reply.status)
        return Divide(error, WrongWidthError(f"{said}; {hint}"), doubt=DOUBT // 2)
    except Malformed as malformed:
        error = BadResponseError(f"the answer cannot be used: {malformed}", status=reply.status)
        if malformed.hopeless or (case.items > 1 and isinstance(malformed, WrongIndices)):
            return Divide(error, error, again=True, doubt=DOUBT // 2)
        return Retry(error, divide_after=3, doubt=DOUBT // 2)


def _judge_refusal(case: Case, reply: Reply, refusal: Refusal) -> Verdict:
    status, reason = refusal.status, refusal.reason
    facts: dict[str, Any] = {"status": status, "request_id": refusal.request_id}
    said = _said(status, refusal)
    if status == 402 or reason is Reason.BALANCE or (status == 403 and "balance" in refusal.message.lower()):
        return Fatal(QuotaError(f"the balance of this key is used up; top it up and run again ({said})", **facts))
    if status in (401, 403) or reason is Reason.CREDENTIALS:
        return _judge_forbidden(case, refusal, said, facts)
    if reason is Reason.MODEL:
        return Fatal(ConfigError(f"the service refuses the model of the request ({said})"))
    if 300 <= status < 400 or status in (404, 405):
        return Fatal(ConfigError(f"{case.url} is not the embeddings endpoint ({said}); check base_url"))
    if status == 429:
        seconds = retry_after(reply.headers)
        error = RateLimitError(f"the rate limit of this key is reached ({said}{_wait_asked(seconds)})", **facts)
        return Limited(error, _scope(refusal), seconds)
    if status in PASSING:
        return _judge_passing(status, retry_after(reply.headers) or 0.0, said, facts)
    if status in (400, 413, 422):
        return _judge_rejection(case, refusal, said, facts)
    unexpected = APIError(f"unexpected answer ({said})", **facts)
    return Divide(unexpected, unexpected, doubt=DOUBT // 2)


def _judge_forbidden(case: Case, refusal: Refusal, said: str, facts: dict[str, Any]) -> Verdict:
    if refusal.status == 401 or refusal.code or refusal.message:
        return Fatal(AuthenticationError(f"{case.refused} ({said})", **facts))
    own = ItemError(f"something before the service refuses this input ({said})", **facts)
    checks = f"check proxies and base_url, then {case.wire.traits.key_hint.removeprefix('check ')}"
    return Divide(own, AuthenticationError(f"whatever is sent is refused; {checks} ({said})", **facts))


def _judge_passing(status: int, asked: float, said: str, facts: dict[str, Any]) -> Verdict:
    divide_after = {504: 1, 500: 3}.get(status)
    error = ServerError(f"the service failed ({said}{_wait_asked(asked)})", **facts)
    return Retry(error, asked if asked <= LONGEST_PAUSE else 0.0, divide_after=divide_after)


def _judge_rejection(case: Case, refusal: Refusal, said: str, facts: dict[str, Any]) -> Verdict:
    if refusal.field and refusal.field not in ("input", "detail"):
        return Fatal(ConfigError(f"the service refuses the setting {refusal.field[:64]!r} of the request ({said})"))
    systemic = RequestRejectedError(f"the service refuses the request, whatever its inputs ({said})", **facts)
    if refusal.status == 413 or _about_length(refusal.message):
        error = ItemError(f"too large for the service ({said})", **facts)
        return Divide(error, systemic, least=ENOUGH, too_many=True)
    is_long = refusal.reason is Reason.TEXT_TOO_LONG and case.wire.traits.says_truncate
    hint = "; truncate=True cuts it" if is_long else ""
    reason = "" if refusal.reason is None else refusal.reason.value
    error = ItemError(f"the service refuses this input ({said}){hint}", reason=reason, **facts)
    return Divide(error, systemic, least=ENOUGH, place=refusal.index)


def _about_length(message: str) -> bool:
    """Whether a refusal is about how many inputs there are."""
    return bool(
        re.search(r"largest allowed size|at most \d+ items|list should have|too many (inputs|items)", message, re.I)
    )


def _said(status: int, refusal: Refusal) -> str:
    parts = [f"HTTP {status}", refusal.code, refusal.message[:200]]
    return ": ".join(part for part in parts if part)


def _wait_asked(seconds: float | None) -> str:
    """What a message adds about a Retry-After, if there was one."""
    return f"; it asks to wait {seconds:g} s" if seconds else ""


def _scope(refusal: Refusal) -> Scope:
    """Which limit a 429 is about, by its code, else by its words."""
    if refusal.reason in (Reason.REQUESTS, Reason.TOKENS):
        return "requests" if refusal.reason is Reason.REQUESTS else "tokens"
    words = (refusal.code or refusal.message).lower()
    if "concurren" in words:
        return "concurrency"
    if "rate_token" in words or "tokens" in words:
        return "tokens"
    return "requests" if "request_limit" in words or "ip_limit" in words or "requests" in words else "unknown"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait, a finite number above 0: as such, or as a date against the reply's own.

    None if it asks for none, or in another way than RFC 9110 allows; of others, only decimal fractions are read.
    """
    value = headers.get("retry-after", "").strip()
    if len(value) > LONGEST_HEADER:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value) or None
    seconds = _seconds_until(value, headers.get("date", ""))
    return seconds if seconds > 0 else None


def _seconds_until(date: str, now: str) -> float:
    try:
        return (_moment(date) - _moment(now)).total_seconds()
    except (ArithmeticError, LookupError, TypeError, ValueError):  # what Python makes of bad dates differs
        return 0.0


def _moment(date: str) -> datetime:
    found = parsedate_to_datetime(date)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
