"""However a run ends, all that was answered is there, and the same command goes on: kills, Ctrl-C, outages, budgets."""

from __future__ import annotations

import random
import signal

import numpy as np
import pytest

from jinaclip.testing import expected_vector
from tests.bulk.processes import Embed, at, manifest, numbered, read, write_texts
from tests.needs import long

BATCH, SLOTS = 32, 4
LIMITS = ("--batch-size", str(BATCH), "--max-concurrency", str(SLOTS))
IN_FLIGHT = BATCH * SLOTS
UNWRITTEN = 256
"""Answers that the cache has not written yet: what it writes at once."""


def check(out, texts) -> None:
    """Whether the output has the vector of each text, and nothing else."""
    rows = read(out)
    assert {name for name, _ in rows} == texts.keys()
    for (name, _), row in rows.items():
        assert row["error"] is None
        np.testing.assert_allclose(row["vector"], expected_vector("text", texts[name]), atol=1e-6)


def times_paid(server, number: str = "answered") -> int:
    """Answers that were paid for again."""
    return sum((int(times) - 1) * items for times, items in server.ledger()[number].items())


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "items"), [(10, 3_000), long(100, 20_000)])
def test_a_run_that_is_killed_goes_on_and_pays_again_for_what_was_in_flight(
    server, tmp_path, command, kills, items
) -> None:
    """Killed after a random number of answers since its start, again and again; then it is left alone."""
    server.configure(base_ms=20, text_ms=0.05)
    texts = numbered(items)
    source, out, draw = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out", random.Random(1)
    for _ in range(kills):
        before = server.ledger()["answered_items"]
        after = before + draw.randrange(2 * items // kills)
        embed = Embed(source, out, *at(server), *LIMITS)
        embed.wait_until(lambda after=after: server.ledger()["answered_items"] >= min(after, items - IN_FLIGHT))
        embed.signal(signal.SIGKILL)
        embed.wait()
    code, printed, logged = command(source, out, *LIMITS)
    assert code == 0, (printed, logged)
    check(out, texts)
    assert manifest(out)["finished_at"]
    assert not [*out.glob("_cache*")], "the run's own cache is removed at the end"
    assert times_paid(server, "received") <= kills * (IN_FLIGHT + UNWRITTEN)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_cleanly(server, tmp_path, command, number) -> None:
    """All that was answered is in the output, nothing was sent that was not answered, and the same command goes on."""
    server.configure(base_ms=100)
    texts = numbered(2_000)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    embed = Embed(source, out, *at(server), *LIMITS)
    embed.wait_until(lambda: server.ledger()["answered_items"] >= 200)
    embed.signal(number)
    code, _, logged = embed.wait()
    assert code == 130, logged
    assert "the same command goes on" in logged
    books = server.ledger()
    assert books["received"] == books["answered"]
    assert 0 < len(read(out)) == books["answered_items"] < len(texts)
    assert command(source, out, *LIMITS)[0] == 0
    check(out, texts)
    assert server.ledger()["answered"] == {"1": len(texts)}


def test_the_second_interrupt_waits_for_nothing(server, tmp_path, command) -> None:
    """The service answers nothing for a minute, and the run is over long before; the output is sound."""
    server.configure(base_ms=60_000)
    source, out = write_texts(tmp_path / "t.jsonl", numbered(500)), tmp_path / "out"
    embed = Embed(source, out, *at(server), *LIMITS)
    embed.wait_until(lambda: server.ledger()["in_flight"] > 0)
    embed.signal()
    embed.wait_for_line("again")
    embed.signal()
    code, _, logged = embed.wait()
    assert code == 130, logged
    server.configure(base_ms=0)
    assert command(source, out, *LIMITS)[0] == 0
    check(out, numbered(500))


def test_a_spent_budget_ends_a_run_cleanly(server, tmp_path, command) -> None:
    """It exits with 3, says how to go on, spends no more than the budget, and goes on with another."""
    texts = numbered(1_000)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    code, printed, _ = command(source, out, *LIMITS, "--token-budget", "2000")
    assert code == 3, printed
    assert "token_budget" in printed and "goes on" in printed
    spent = server.ledger()["tokens"]
    assert 1_000 < spent <= 2_000
    rows = read(out)
    assert len(rows) == server.ledger()["answered_items"]
    assert all(row["error"] is None for row in rows.values()), "what was not sent has not failed"
    assert command(source, out, *LIMITS)[0] == 0
    check(out, texts)
    assert server.ledger()["answered"] == {"1": len(texts)}


@pytest.mark.parametrize("cache", [(), ("--cache", "off")], ids=["cache", "no cache"])
def test_items_that_fail_cost_nothing_of_a_budget(server, tmp_path, command, cache) -> None:
    """The first rows are refused, and while they are in flight the budget does not hold more; then all others fit."""
    server.configure(poison={"hopeless": "bad_item_unnamed_400"}, base_ms=30)
    good, bad = numbered(100), {f"bad-{number}": f"hopeless {number} " + 50 * "word " for number in range(300)}
    source, out = write_texts(tmp_path / "t.jsonl", bad | good), tmp_path / "out"
    code, printed, _ = command(source, out, *LIMITS, "--token-budget", "4000", *cache)
    assert (code, "failed 300," in printed) == (3, True), printed
    rows = read(out)
    assert {name for (name, _), row in rows.items() if row["error"] is None} == good.keys()
    assert server.ledger()["tokens"] <= 4000


def test_an_item_that_no_budget_of_that_size_holds_fails_alone(server, tmp_path, command) -> None:
    """It is named, costs nothing, holds up nobody, and a larger budget embeds it."""
    texts = {"long": "word " * 2_000, **numbered(300)}
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    for expected in ("done 300, failed 1,", "done 0, failed 1,"):
        code, printed, _ = command(source, out, *LIMITS, "--token-budget", "2000")
        assert (code, expected in printed) == (3, True), printed
    [long_one] = [row for (name, _), row in read(out).items() if name == "long"]
    assert "token_budget=2,000" in long_one["error"]
    assert server.ledger()["answered"] == {"1": 300}
    assert command(source, out, *LIMITS, "--token-budget", "20000", "--retry-failed")[0] == 0
    check(out, texts)


def test_a_budget_makes_no_small_requests(server, tmp_path, command) -> None:
    """What it holds goes as without one, so that requests a minute are not used up."""
    texts = numbered(2_000)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    assert command(source, out, "--batch-size", "64", "--token-budget", "1000000")[0] == 0
    assert server.ledger()["requests"] <= 4 * len(texts) / 64


@pytest.mark.slow
def test_a_balance_that_runs_out_ends_a_run_cleanly(server, tmp_path, command) -> None:
    """It exits with 1 and says why; topped up, the same command goes on."""
    server.configure(balance=3_000)
    texts = numbered(1_000)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    code, printed, _ = command(source, out, *LIMITS)
    assert code == 1
    assert "stopped: " in printed and "balance" in printed
    assert 0 < len(read(out)) == server.ledger()["answered_items"] < len(texts)
    assert all(row["error"] is None for row in read(out).values())
    server.configure(balance=0)
    assert command(source, out, *LIMITS)[0] == 0
    check(out, texts)
    assert server.ledger()["answered"] == {"1": len(texts)}


def test_an_outage_ends_a_run_cleanly(server, tmp_path, command) -> None:
    """The service refuses everything from the tenth request on; nothing is written as failed, nothing is lost."""
    server.configure(script=[*[None] * 10, *["status_500"] * 200])
    texts = numbered(1_000)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    code, printed, _ = command(source, out, *LIMITS, "--max-retries", "0")
    assert code == 1, printed
    assert "stopped: " in printed
    assert all(row["error"] is None for row in read(out).values())
    server.configure()
    assert command(source, out, *LIMITS)[0] == 0
    check(out, texts)
    assert server.ledger()["answered"] == {"1": len(texts)}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["poison_500", "reset_before_headers", "wrong_dimension_one"])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_items_that_the_service_cannot_embed_are_no_outage_though_nothing_else_is_left(
    command, server, tmp_path, fault, count
) -> None:
    """They have failed by themselves, also by a run of their own: it comes to its end, and the next leaves them."""
    server.configure(poison={"hopeless": fault})
    good, bad = numbered(5), {f"bad-{number}": f"hopeless {number}" for number in range(count)}
    source, out = write_texts(tmp_path / "t.jsonl", good), tmp_path / "out"
    assert command(source, out)[0] == 0
    write_texts(source, good | bad)
    code, printed, _ = command(source, out, "--max-retries", "0")
    assert (code, f"failed {count}," in printed) == (3, True), printed
    assert {name for (name, _), row in read(out).items() if row["error"] is not None} == bad.keys()
    assert manifest(out)["finished_at"]
    before = server.ledger()["requests"]
    assert command(source, out)[0] == 3
    assert server.ledger()["requests"] == before


@pytest.mark.parametrize("fault", ["status_500", "too_large_413", "reset_before_headers"])
@pytest.mark.parametrize("count", [1, 3])
def test_few_items_in_an_outage_have_not_failed(command, server, tmp_path, fault, count) -> None:
    """Beside them nothing is answered either, so that nothing of what they are told alone is about them."""
    server.configure(script=[fault] * 100)
    source, out = write_texts(tmp_path / "t.jsonl", numbered(count)), tmp_path / "out"
    code, printed, _ = command(source, out, "--max-retries", "0")
    left = f"{count} items that were read are left" in printed
    assert (code, "failed 0," in printed, left) == (1, True, True), printed
    assert server.ledger()["requests"] < 20
    server.configure()
    assert command(source, out)[0] == 0


@pytest.mark.parametrize("count", [1, 40])
def test_where_every_answer_has_another_width_no_item_has_failed(command, server, tmp_path, count) -> None:
    """It is the wrong service, or one that cannot give these dimensions."""
    server.configure(faults=["wrong_dimension_all"], fault_rate=1)
    source, out = write_texts(tmp_path / "t.jsonl", numbered(count)), tmp_path / "out"
    code, printed, _ = command(source, out)
    assert (code, "failed 0," in printed, "is base_url the right service" in printed) == (1, True, True), printed
    assert not read(out)


def test_a_bad_key_is_told_before_anything_is_written(server, tmp_path, command) -> None:
    """And nothing to embed needs no key."""
    source, out = write_texts(tmp_path / "t.jsonl", numbered(100)), tmp_path / "out"
    code, printed, _ = command(source, out, key="wrong")
    assert code == 1
    assert "key" in printed
    assert "wrong" not in printed
    assert command(source, out)[0] == 0
    assert command(source, out, key=None)[0] == 0


def test_rows_of_a_part_that_turns_out_damaged_at_the_end_are_left_for_the_next_run(server, tmp_path, command) -> None:
    texts = numbered(20)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    assert command(source, out)[0] == 0
    [part] = out.glob("part-*")
    data = bytearray(part.read_bytes())
    data[data.index(np.float32(expected_vector("text", texts["item-3"])).tobytes())] ^= 0xFF
    part.write_bytes(data)
    del texts["item-0"]  # so that the part is written anew
    code, printed, _ = command(write_texts(source, texts), out)
    assert code == 3 and "rows lost 19," in printed
    assert manifest(out)["finished_at"] is None
    assert command(source, out)[0] == 0
    check(out, texts)
