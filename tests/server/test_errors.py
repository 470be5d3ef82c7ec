"""What each error of the core is for a client of the server, and what its operator hears of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from jinaclip import errors as tree
from jinaclip.call.results import clone
from jinaclip.server.errors import TELL_EVERY, Complaints, refusal_of

API: dict[str, Any] = {"status": 400, "request_id": "r"}
TOO_LONG = "INPUT_TOKEN_LIMIT_EXCEEDED"
CASES = {
    "blank": (tree.InputError("empty", index=3), 422, "INPUT_INVALID"),
    "too long": (tree.TextTooLongError("has 9,000 tokens", index=3), 400, TOO_LONG),
    "too large": (tree.ImageTooLargeError("11 x 11", index=3), 413, "INPUT_TOO_LARGE"),
    "item": (tree.ItemError("refused", index=3, status=422), 422, "INPUT_INVALID"),
    "item too long": (tree.ItemError("refused", index=3, status=400, reason="text too long"), 400, TOO_LONG),
    "item too large": (tree.ItemError("refused", index=3, status=413), 413, "INPUT_TOO_LARGE"),
    "rate": (tree.RateLimitError("wait", status=429, retry_after=7.2), 429, "RATE_REQUEST_LIMIT_EXCEEDED"),
    "balance": (tree.QuotaError("used up", status=402), 403, "AUTHZ_INSUFFICIENT_BALANCE"),
    "budget": (tree.BudgetError("used up"), 403, "AUTHZ_INSUFFICIENT_BALANCE"),
    "outage": (tree.ServerError("down", status=503), 503, "SERVICE_UNAVAILABLE"),
    "no way": (tree.APIConnectionError("no route"), 503, "SERVICE_UNAVAILABLE"),
    "nonsense": (tree.BadResponseError("no JSON", status=200), 503, "SERVICE_UNAVAILABLE"),
    "closed": (tree.ClosedError("closed"), 503, "SERVICE_UNAVAILABLE"),
    "attempt": (tree.APITimeoutError("slow"), 504, "SERVICE_TIMEOUT"),
    "deadline": (tree.DeadlineError("late"), 504, "SERVICE_TIMEOUT"),
    "key": (tree.AuthenticationError("bad key", status=401), 503, "SERVICE_UNAVAILABLE"),
    "rejected": (tree.RequestRejectedError("no", **API), 503, "SERVICE_UNAVAILABLE"),
    "setting": (tree.ConfigError("no such width"), 500, "INTERNAL_ERROR"),
    "weights": (tree.CheckpointError("changed"), 500, "INTERNAL_ERROR"),
    "engine": (tree.JinaClipError("the engine embeds nothing any more"), 500, "INTERNAL_ERROR"),
}


@pytest.mark.parametrize(("error", "status", "code"), CASES.values(), ids=CASES)
def test_every_error_has_a_status_and_one_of_jina_s_codes(error: tree.JinaClipError, status: int, code: str) -> None:
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert refusal.place == (("input", 3) if isinstance(error, tree.InputError) else ())


def test_a_client_is_told_how_long_the_service_behind_wants_it_to_wait() -> None:
    assert refusal_of(CASES["rate"][0]).response().headers["Retry-After"] == "8"
    assert "Retry-After" in refusal_of(CASES["outage"][0]).response().headers


@pytest.mark.parametrize("name", [name for name, (error, *_) in CASES.items() if isinstance(error, tree.APIError)])
def test_no_client_reads_what_the_service_behind_says(name: str) -> None:
    """It may repeat the key of this server, or inputs of another client that went in the same request."""
    error = clone(CASES[name][0])
    error.args = ("SAID BY IT",)
    assert "SAID" not in str(refusal_of(error).body())


def test_the_operator_hears_of_each_kind_of_error_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    complaints = Complaints(lambda: now[0])
    with caplog.at_level(logging.INFO, "jinaclip.server"):
        for _ in range(5):
            complaints.note(tree.AuthenticationError("the key jina_x is refused", status=401))
            complaints.note(tree.ServerError("down", status=503))
            complaints.note(tree.InputError("blank"))
        now[0] = TELL_EVERY
        complaints.note(tree.ServerError("down", status=503))
    told = [record.message.split(": ")[1] for record in caplog.records]
    assert told == ["AuthenticationError (HTTP 401)", "ServerError (HTTP 503)", "ServerError (HTTP 503)"]


def test_what_clients_can_do_about_it_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jinaclip.server"):
        for name in ("blank", "too long", "too large", "item", "item too long"):
            Complaints().note(CASES[name][0])
    assert not caplog.records
