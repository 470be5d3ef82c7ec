"""What the package tells those who watch it: events, and hooks that take them; by default they become log records.

    from jinaclip.telemetry import log_event, set_hooks

    set_hooks(log_event, lambda event: print(event))

An event is a small frozen object of numbers and names. It never holds a text, an image, a key, the value of a header
or anything that a service wrote. Its fields may grow; they are given by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from jinaclip.errors import ConfigError

logger = logging.getLogger("jinaclip")
LONG_WAIT = 1.0
"""Seconds above which a wait is worth a line at level INFO."""

WaitReason = Literal["rate limit of the service", "requests_per_minute", "tokens_per_minute", "retry", "slots"]


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call begins: its inputs have been taken, and nothing of it was looked up or sent yet.

    It is told in the context of the caller (`contextvars`), in a thread of the package that the caller waits for.

    Attributes:
        call: number of the call; all events of the call have the same.
        provider: who embeds: "jina", "openai" for servers of that shape, "aws.sagemaker", "jinaclip" on this machine.
        host: of the service, as in other events; None on this machine.
        port: of the service, also where its address leaves it out; None on this machine.
        model: its name.
        dimensions: width of the vectors.
        kind: what the items are; an "item" may be any of the others.
        task: what texts are embedded as.
        items: how many there are; None of an iterator, which nobody has counted.
    """

    call: int
    provider: str
    host: str | None
    port: int | None
    model: str
    dimensions: int
    kind: str
    task: Literal["document", "query"]
    items: int | None


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call has ended, however; it is told as its `CallStarted`.

    Attributes:
        call: number of the call.
        items: that were asked for; 0 if nothing is known of them.
        failed: those of them that have no vector.
        tokens: as billed, or as counted on this machine: `Usage.tokens` of the call.
        hits: vectors that the cache had.
        seconds: since its `CallStarted`.
        error: name of the class of what the call raised, or of what stopped it; else None, also where some items have
            an error and the caller gets the others as `Results`.
    """

    call: int
    items: int
    failed: int
    tokens: int
    hits: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class RequestSent:
    """A request has a slot and goes out.

    Attributes:
        number: of the request; its answer has the same.
        host: of the service, with the port if the address names one.
        model: as the service is told it.
        items: texts and images in it.
        callers: how many calls they are from.
        tokens: what it is expected to be billed.
        attempt: 1, or more for a batch that is sent again. Batches that were divided count anew.
    """

    number: int
    host: str
    model: str
    items: int
    callers: int
    tokens: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request has come to its end, unless all its callers have gone: then it is broken off, and nothing is told.

    Attributes:
        number, host, model, items: of the `RequestSent`.
        status: of HTTP; None if no answer came.
        tokens: what it was billed, as far as the answer says so; else 0.
        seconds: from sending.
        error: name of the class of the error that it ended with; None for an answer that holds.
    """

    number: int
    host: str
    model: str
    items: int
    status: int | None
    tokens: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class RequestRetried:
    """A request failed and its items are sent again. Rate limits are no failures: see `Waiting`.

    Attributes:
        host: of the service.
        items: that are sent again.
        reason: what happened, in words of ours: "HTTP 503", "no answer in time".
        seconds: the pause before it.
        calls: numbers of the calls that the items are of.
    """

    host: str
    items: int
    reason: str
    seconds: float
    calls: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Items wait before they may be sent. One event for each wait, however many calls and items share it.

    Calls that come to wait while it lasts have an event of their own, which is not logged.

    Attributes:
        host: of the service.
        reason: whose limit it is. "retry" is the pause before a failed request is sent again, "slots" that as many
            requests are in flight as may be.
        seconds: how long; None for slots, as nobody knows.
        until: the moment of `time.monotonic` at which it ends; None for slots.
        calls: numbers of the calls that wait; none for "slots", and for "retry", where `RequestRetried` has them.
        is_joined: whether others have been waiting, who were told of; `seconds` are what is left then.
    """

    host: str
    reason: WaitReason
    seconds: float | None = None
    until: float | None = None
    calls: tuple[int, ...] = ()
    is_joined: bool = False


@dataclass(frozen=True, slots=True)
class BatchMerged:
    """Items of several calls go in one request."""

    items: int
    callers: int


@dataclass(frozen=True, slots=True)
class EnginePass:
    """The local model has embedded a batch.

    Attributes:
        kind: what was in it.
        rows: vectors that came of it.
        longest: tokens to which each text was filled up; 0 for images.
        callers: how many calls they are for.
        device: where it was computed.
        seconds: how long it took.
    """

    kind: Literal["text", "image"]
    rows: int
    longest: int
    callers: int
    device: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ImagesPrepared:
    """Images were opened and fitted to the model.

    Attributes:
        images: how many.
        pixels: that they took of the budget: decoded and fitted. 0 for a URL that is handed on.
        seconds: since a thread took it up, waiting for pixels included.
    """

    images: int
    pixels: int
    seconds: float


@dataclass(frozen=True, slots=True)
class HostRefused:
    """An image was not fetched: its host, or one that it redirects to, has no address, or one that must not be dialled.

    The error that the caller gets, and perhaps a model, does not say which.

    Attributes:
        host: name or address, of the URL of the image or of a redirect.
        reason: what is wrong with it.
    """

    host: str
    reason: str


Event = (
    CallStarted
    | CallEnded
    | RequestSent
    | RequestAnswered
    | RequestRetried
    | Waiting
    | BatchMerged
    | EnginePass
    | ImagesPrepared
    | HostRefused
)
Hook = Callable[[Event], object]
"""Takes each event, in a thread of the package, which waits meanwhile: it must be quick, and call nothing of this
package. What it raises is logged, once, and hurts no call."""
KINDS = frozenset[type[Event]](get_args(Event))


class EventFilter:
    """A hook that takes some events only, so that the others need not be made for it.

    Those of calls cost most, a thread each for a moment: `CallStarted` and `CallEnded`.

    Args:
        hook: takes the events.
        kinds: their classes.
    """

    def __init__(self, hook: Hook, *kinds: type[Event]) -> None:
        self.hook, self.kinds = hook, frozenset(kinds)

    def __call__(self, event: Event) -> object:
        """Hands an event on, if it is one of these."""
        return self.hook(event) if type(event) in self.kinds else None


def set_hooks(*hooks: Hook | None) -> None:
    """Replaces the hooks of the process, from the next event on.

    Args:
        hooks: called in this order. Not one: nobody is told anything. A single None: the default, `log_event`.

    Raises:
        ConfigError: one of them cannot be called.
    """
    global _hooks, _wanted
    chosen = (log_event,) if hooks == (None,) else hooks
    for place, hook in enumerate(chosen):
        if not callable(hook):
            raise ConfigError(f"hook {place} is of type {type(hook).__name__}; give functions that take an event")
    _faulty.clear()
    _hooks = tuple(hook for hook in chosen if hook is not None)
    others = (hook for hook in _hooks if hook is not log_event)
    _wanted = frozenset().union(*(hook.kinds if isinstance(hook, EventFilter) else KINDS for hook in others))


def get_hooks() -> tuple[Hook, ...]:
    """The hooks of the process. `set_hooks(*get_hooks(), mine)` adds one."""
    return _hooks


def wants(kind: type[Event]) -> bool:
    """Whether anybody listens to events of this class, so that they are worth making. It costs less than a microsecond.

    Where only the default hook would, that is up to the level of the logger.
    """
    if kind in _wanted:
        return True
    return log_event in _hooks and logger.isEnabledFor(logging.INFO if kind is Waiting else logging.DEBUG)


def emit(event: Event) -> None:
    """Gives an event to all hooks. It raises nothing; call it in threads of the package, and ask `wants` before.

    In a caller's thread a signal handler's exception could strike inside a hook, and would be taken for the hook's.
    """
    for hook in _hooks:
        try:
            hook(event)
        except BaseException as error:  # noqa: BLE001  a cancelled error of the hook's own must not end our loop
            _note_fault(hook, error)


def log_event(event: Event) -> None:
    """The default hook: a line of the logger `jinaclip`, at INFO for a wait of over a second, else at DEBUG."""
    if isinstance(event, Waiting) and event.is_joined:
        return  # one line for each wait
    level = logging.INFO if isinstance(event, Waiting) and (event.seconds or 0) > LONG_WAIT else logging.DEBUG
    if logger.isEnabledFor(level):
        logger.log(level, "%s", describe(event))


def describe(event: Event) -> str:
    """An event as a sentence."""
    match event:
        case CallStarted():
            items = "items" if event.items is None else number_of(event.items, event.kind)
            return f"call {event.call}: {items} for {event.model}, {event.host or 'on this machine'}"
        case CallEnded():
            failed = f", {event.failed} failed" if event.failed else ""
            end = f"{failed}, {event.tokens} tokens" + (f", {event.error}" if event.error else "")
            return f"call {event.call}: {number_of(event.items, 'item')} after {event.seconds:.3f} s{end}"
        case RequestSent():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            items = number_of(event.items, "item")
            return f"request {event.number} to {event.host}: {items}, about {event.tokens} tokens{again}"
        case RequestAnswered():
            came = "no answer" if event.status is None else f"HTTP {event.status}"
            error = f", {event.error}" if event.error else ""
            return f"request {event.number}: {came} after {event.seconds:.3f} s, {event.tokens} tokens billed{error}"
        case RequestRetried():
            items = number_of(event.items, "item")
            return f"sending {items} to {event.host} again in {event.seconds:.1f} s: {event.reason}"
        case Waiting(seconds=None):
            return f"items for {event.host} wait: as many requests are in flight as may be"
        case Waiting():
            return f"waiting {event.seconds:.1f} s before the next request to {event.host}: {event.reason}"
        case BatchMerged():
            return f"{event.items} items of {event.callers} calls share a request"
        case EnginePass():
            tokens = f" of up to {event.longest} tokens" if event.kind == "text" else ""
            return f"{event.device} embedded {number_of(event.rows, event.kind)}{tokens} in {event.seconds:.3f} s"
        case ImagesPrepared():
            images = number_of(event.images, "image")
            return f"prepared {images} of {event.pixels / 1e6:.1f} megapixels in {event.seconds:.3f} s"
        case HostRefused():
            return f"no image is fetched from {event.host}: {event.reason}"


def number_of(count: int, noun: str) -> str:
    """A count with its noun: 1 item, 2 items."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _note_fault(hook: Hook, error: BaseException) -> None:
    if any(hook is other for other in _faulty):
        return
    _faulty.append(hook)
    function = hook.hook if isinstance(hook, EventFilter) else hook
    name = getattr(function, "__qualname__", type(function).__qualname__)
    logger.warning("the telemetry hook %s failed with %s; it is not reported again", name, type(error).__name__)


_hooks: tuple[Hook, ...] = (log_event,)
_wanted = frozenset[type[Event]]()  # classes of events that hooks beside the default take
_faulty: list[Hook] = []  # whose failure was logged
