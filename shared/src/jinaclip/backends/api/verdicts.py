"""The fault table: what each reply, or the lack of one, means for the request that was sent.

`judge` looks; `flow` acts. The verdicts:

Answer    rows that hold
Retry     a passing fault: send again after a while
Limited   a rate limit: wait with everybody else, at no cost in retries
Divide    something about this batch: send it in two halves
Drop      the service names the input at fault: send the others
Fatal     nothing will help: stop the call
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from email.utils import parsedate_to_datetime
from typing import Any

from jinaclip.backends.api.limits import WINDOW, Scope
from jinaclip.backends.api.steps import Failure, Reply
from jinaclip.backends.api.wires.jina import (
    Answer,
    Malformed,
    Refusal,
    WrongDimensions,
    WrongIndices,
    read_answer,
    read_refusal,
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
)

PASSING = frozenset({408, 409, 425, 500, 502, 503, 504, 529})
BALANCE = "AUTHZ_INSUFFICIENT_BALANCE"
CONCURRENCY_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Retry:
    """Send again, no sooner than `after` seconds; an error when retries are used up."""

    error: APIError
    after: float = 0.0
    maybe_billed: bool = False
    divide_after: int | None = None
    """So many of these and the batch is divided: one of its inputs may be what breaks the service."""


@dataclass(frozen=True, slots=True)
class Limited:
    """Wait `seconds`; None is for the flow to choose."""

    error: RateLimitError
    scope: Scope
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Divide:
    """Send in two halves. `systemic` is raised when halves of halves fail alike, so that no input is to blame."""

    error: APIError
    systemic: JinaClipError | None = None
    too_many: bool = False
    maybe_billed: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Leave out the input at `place`, send the others."""

    error: APIError
    place: int


@dataclass(frozen=True, slots=True)
class Fatal:
    """Stop the call."""

    error: JinaClipError


Verdict = Answer | Retry | Limited | Divide | Drop | Fatal


@dataclass(frozen=True, slots=True)
class Case:
    """A request and what came of it, for the judge."""

    items: int
    dimensions: int
    url: str
    clean: Callable[[str], str]
    """Text of the service without what is secret, and cut: a 401 may echo the key that was sent."""


def judge(case: Case, result: Reply | Failure) -> Verdict:
    """What the result of sending a request means."""
    if isinstance(result, Failure):
        return _judge_failure(case, result)
    if result.status == 200:
        return _judge_answer(case, result)
    return _judge_refusal(case, result, _clean(case, read_refusal(result.body)))


def _clean(case: Case, refusal: Refusal) -> Refusal:
    """A refusal with all its texts clean: whatever of it gets into an error is then fit to be shown."""
    said = {item.name: getattr(refusal, item.name) for item in fields(refusal)}
    clean: dict[str, Any] = {name: case.clean(text) for name, text in said.items() if isinstance(text, str)}
    return replace(refusal, **clean)


def _judge_failure(case: Case, failure: Failure) -> Verdict:
    detail = case.clean(failure.detail)
    if failure.kind == "setup":
        return Fatal(ConfigError(f"cannot reach {case.url}: {detail}"))
    if failure.kind == "oversize":
        return Fatal(BadResponseError(f"the answer of {case.url} is larger than {case.items} vectors can be; stopped"))
    if failure.kind == "timeout":
        return Retry(APITimeoutError(f"no answer in time from {case.url}: {detail}"), maybe_billed=True, divide_after=2)
    return Retry(APIConnectionError(f"{case.url}: {detail}"), maybe_billed=failure.kind == "broken")


def _judge_answer(case: Case, reply: Reply) -> Verdict:
    try:
        return read_answer(reply.body, case.items, case.dimensions)
    except WrongDimensions as wrong:
        return Fatal(
            ConfigError(
                f"the service answered vectors of {wrong.width} numbers where {case.dimensions} were asked for; "
                "is base_url the right service, and does the model support these dimensions?"
            )
        )
    except Malformed as malformed:
        error = BadResponseError(f"the answer does not hold: {malformed}", status=reply.status)
        if malformed.hopeless:
            return Fatal(error)
        if case.items > 1 and isinstance(malformed, WrongIndices):
            return Divide(error, error, maybe_billed=True)
        return Retry(error, maybe_billed=True)


def _judge_refusal(case: Case, reply: Reply, refusal: Refusal) -> Verdict:
    status, code = reply.status, refusal.code
    facts: dict[str, Any] = {"status": status, "request_id": refusal.request_id}
    said = _said(status, refusal)
    if status == 402 or (status == 403 and (code == BALANCE or "balance" in refusal.message.lower())):
        return Fatal(QuotaError(f"the balance of this key is used up; top it up and run again ({said})", **facts))
    if status in (401, 403):
        return Fatal(AuthenticationError(f"the service refuses this key; check JINA_API_KEY ({said})", **facts))
    if 300 <= status < 400 or status in (404, 405):
        return Fatal(ConfigError(f"{case.url} is not the embeddings endpoint ({said}); check base_url"))
    if status == 429:
        error = RateLimitError(f"rate limit ({said})", **facts)
        return Limited(error, _scope(refusal), retry_after(reply.headers))
    if status in PASSING:
        return _judge_passing(reply, ServerError(f"the service failed ({said})", **facts))
    if status in (400, 413, 422):
        return _judge_rejection(refusal, status, said, facts)
    return Fatal(APIError(f"unexpected answer ({said})", **facts))


def _judge_passing(reply: Reply, error: ServerError) -> Verdict:
    divide_after = {504: 1, 500: 3}.get(reply.status)
    return Retry(error, retry_after(reply.headers) or 0.0, divide_after=divide_after)


def _judge_rejection(refusal: Refusal, status: int, said: str, facts: dict[str, Any]) -> Verdict:
    if refusal.code == "INPUT_MODEL_NOT_FOUND" or (refusal.field and refusal.field not in ("input", "detail")):
        return Fatal(ConfigError(f"the service refuses the settings of the request ({said})"))
    if status == 413 or _about_length(refusal.message):
        return Divide(ItemError(f"too large for the service ({said})", **facts), too_many=True)
    hint = "; truncate=True cuts it" if refusal.code == "INPUT_TOKEN_LIMIT_EXCEEDED" else ""
    error = ItemError(f"the service refuses this input ({said}){hint}", **facts)
    if refusal.index is not None:
        return Drop(error, refusal.index)
    return Divide(
        error, RequestRejectedError(f"the service refuses the request, whatever its inputs ({said})", **facts)
    )


def _about_length(message: str) -> bool:
    """Whether a refusal is about how many inputs there are."""
    return bool(
        re.search(r"largest allowed size|at most \d+ items|list should have|too many (inputs|items)", message, re.I)
    )


def _said(status: int, refusal: Refusal) -> str:
    parts = [f"HTTP {status}", refusal.code, refusal.message[:200]]
    return ": ".join(part for part in parts if part)


def _scope(refusal: Refusal) -> Scope:
    """Which limit a 429 is about, by its code, else by its words."""
    words = (refusal.code or refusal.message).lower()
    if "concurren" in words:
        return "concurrency"
    if "rate_token" in words or "tokens" in words:
        return "tokens"
    return "requests" if "request_limit" in words or "ip_limit" in words or "requests" in words else "unknown"


def limit_pause(limited: Limited, tries: int) -> float | None:
    """Seconds to wait for a rate limit; None leaves it to the usual backoff.

    Jina documents no Retry-After. Its windows are a minute, and a place in flight is free again in a moment.
    """
    if limited.seconds is not None:
        return limited.seconds
    return {"concurrency": CONCURRENCY_PAUSE, "unknown": None}.get(limited.scope, WINDOW)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a reply asks to wait: a number, or a date against the reply's own; None if absent or unusable."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, headers.get("date", ""))
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _seconds_until(date: str, now: str) -> float:
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (ValueError, TypeError):
        return math.nan
