"""Runs on a real Ray of this machine: one for all tests here, but for those that are killed, which start their own."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from jinaclip.bulk import embed
from jinaclip.errors import AuthenticationError, ConfigError, DeadlineError, QuotaError
from jinaclip.testing import Server
from tests.bulk.processes import Embed
from tests.needs import long, skip_without
from tests.sources.conftest import Bucket, s3_server  # noqa: F401
from tests.tiny import make_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves sockets and logs to the garbage collector
]
STORE_BYTES = 100 * 2**20
KEY = "jina_test_ray"
S3_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
LOOK_S = 0.05


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A Ray with four CPUs, however many there are; tests use it as the caller's own. One at a time in all workers."""
    skip_without("ray")
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield from start_ray()


def start_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    with pytest.MonkeyPatch.context() as environment:
        for name, value in S3_KEYS.items():
            environment.setenv(name, value)
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, object_store_memory=STORE_BYTES, log_to_driver=False,
            logging_level="ERROR",
        )  # fmt: skip
        yield ray
        ray.shutdown()


@pytest.fixture
def run(ray, server):
    """Runs on that Ray, against the test service."""

    def run(source, out, **options):
        return embed(source, out, **{"executor": "ray", "api_key": KEY, "base_url": server.url, **options})

    return run


@pytest.fixture
def run_here(server):
    """Runs in this process, against the test service."""

    def run(source, out, **options):
        return embed(source, out, **{"api_key": KEY, "base_url": server.url, **options})

    return run


def write_texts(path: Path, texts: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()))
    return path


def write_images(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(7)
    for i in range(count):
        pixels = rng.integers(0, 256, (30 + i, 41, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")


def write_mixed(folder: Path) -> Path:
    """Texts, images, rows with both; a blank text and three bad images; an id that comes three times, with two
    contents.
    """
    write_images(folder / "images", 6)
    (folder / "images" / "cut.png").write_bytes((folder / "images" / "1.png").read_bytes()[:300])
    rows = [{"id": f"t{i}", "text": f"a text, number {i}"} for i in range(40)]
    rows += [{"id": f"p{i}", "text": f"both {i}", "image": f"images/{i}.{'png' if i % 2 else 'jpg'}"} for i in range(6)]
    rows += [{"id": "blank", "text": " "}, {"id": "cut", "image": "images/cut.png"}]
    rows += [{"id": "none", "image": "images/none.png"}, {"id": "data", "image": "data:image/png;base64,AAAA"}]
    rows += [{"id": "twice", "text": text} for text in ("first", "second", "first")]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(out: Path):
    import pyarrow.parquet as pq

    table = pq.read_table(out)
    assert table.column_names == ["id", "kind", "vector", "digest", "space", "tokens", "error"]
    return {(row["id"], row["kind"]): row for row in table.to_pylist()}


def ids_of(out: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(out, columns=["id"])["id"].to_pylist()


def leftovers(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if not path.name.startswith("part-")} - {"_lock", "_manifest.json"}


def test_rows_are_those_of_the_local_executor(run, run_here, tmp_path):
    source = write_mixed(tmp_path)
    here = run_here(source, tmp_path / "here", pair="both")
    report = run(source, tmp_path / "there", pair="both", actors=2)
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    assert (report.done, report.failed, report.left) == (here.done, here.failed, 0) == (53, 4, 0)
    assert report.repeated == here.repeated == 2
    assert report.whole and report.stopped is None and len(report.failures) == 4
    assert leftovers(tmp_path / "there") == set()


def test_texts_of_a_table_that_may_hold_images_go_in_large_requests(run, server, tmp_path):
    source = write_texts(tmp_path / "rows.jsonl", {str(i): f"a text, number {i}" for i in range(3000)})
    report = run(source, tmp_path / "out", max_concurrency=4)
    assert report.done == 3000
    assert server.ledger()["requests"] <= 40, "at most 128 in one request; with blocks for images it would be 47"


def test_a_source_that_moves_ends_with_what_it_holds_now_and_pays_for_what_is_new(run, run_here, server, tmp_path):
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text {i}" for i in range(300)})
    out = tmp_path / "out"
    assert run_here(source, out).done == 300
    texts = {"new": "a new one"} | {str(i): f"text {i}" for i in range(10, 300)} | {"20": "edited"}
    write_texts(source, texts)
    report = run(source, out)
    assert (report.done, report.skipped, report.dropped) == (2, 289, 11)
    assert server.ledger()["texts"] == 302
    rows = rows_of(out)
    assert sorted(rows) == sorted((name, "text") for name in texts)
    assert run_here(source, tmp_path / "here").complete and rows == rows_of(tmp_path / "here")


def test_a_limit_counts_rows_of_the_source_and_a_run_without_ray_goes_on_from_there(run, run_here, server, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        write_texts(folder / f"{number}.jsonl", {f"{number} {i}": f"text {i} of {number}" for i in range(30)})
    report = run(folder, tmp_path / "out", limit=80)
    assert (report.done, report.whole, report.exit_code) == (80, False, 3)
    assert sorted(ids_of(tmp_path / "out")) == sorted(
        [f"{n} {i}" for n in (0, 1) for i in range(30)] + [f"2 {i}" for i in range(20)]
    )
    assert run_here(folder, tmp_path / "out").skipped == 80
    assert server.ledger()["answered"] == {"1": 120}


def test_what_failed_is_tried_again_only_if_that_is_asked_for(run, run_here, server, tmp_path):
    texts = {str(i): f"text {i}" for i in range(60)} | {"bad": "poisoned"}
    source = write_texts(tmp_path / "a.jsonl", texts)
    server.configure(poison={"poisoned": "bad_item_400"})
    report = run_here(source, tmp_path / "out")
    assert (report.done, report.failed, report.complete) == (60, 1, False)
    server.configure(poison={})
    again = run(source, tmp_path / "out")
    assert (again.done, again.skipped, again.failed, again.failed_before) == (0, 60, 1, 1)
    last = run(source, tmp_path / "out", retry_failed=True)
    assert (last.done, last.skipped, last.failed, last.complete) == (1, 60, 0, True)
    assert server.ledger()["answered"] == {"1": 61}


def test_no_ray_is_joined_where_nothing_is_left(run_here, server, tmp_path):
    """There is none at that address."""
    skip_without("ray")
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text {i}" for i in range(20)})
    assert run_here(source, tmp_path / "out").complete
    there = ["--executor", "ray", "--address", "127.0.0.1:1", "--base-url", server.url]
    status, printed, _ = Embed(source, tmp_path / "out", *there, key=KEY).wait()
    assert (status, "20" in printed) == (0, True)
    write_texts(source, {str(i): f"text {i}" for i in range(15)})
    assert Embed(source, tmp_path / "out", *there, key=KEY).wait()[0] == 0
    assert len(ids_of(tmp_path / "out")) == 15


def test_no_ray_is_started_without_a_key(tmp_path, monkeypatch):
    skip_without("ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    source = write_texts(tmp_path / "a.jsonl", {"one": "a text"})
    status, printed, logged = Embed(source, tmp_path / "out", "--executor", "ray", key=None).wait()
    assert status == 1
    assert "JINA_API_KEY" in printed + logged
    assert not (tmp_path / "ray").exists()


def test_a_key_that_is_refused_ends_the_run_with_its_sentence(run, tmp_path):
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text {i}" for i in range(50)})
    report = run(source, tmp_path / "out", api_key="jina_wrong")
    assert isinstance(report.stopped, AuthenticationError) and "Ray" not in str(report.stopped)
    assert (report.done, report.exit_code) == (0, 1)


def test_an_empty_balance_ends_the_run_and_the_next_one_pays_for_the_rest(run, run_here, server, tmp_path):
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text number {i}" for i in range(1200)})
    server.configure(balance=2000)
    report = run(source, tmp_path / "out", max_retries=0, batch_size=20)
    assert isinstance(report.stopped, QuotaError) and report.exit_code == 1
    paid = server.ledger()["answered_items"]
    assert 0 < paid < 1200 and report.done == len(ids_of(tmp_path / "out")) <= paid
    server.configure(balance=0)
    again = run_here(source, tmp_path / "out")
    assert again.complete and again.done + again.skipped == 1200
    assert sorted(ids_of(tmp_path / "out")) == sorted(str(i) for i in range(1200))
    assert server.ledger()["answered"] == {"1": 1200}  # the cache had what no row was written of


def test_ctrl_c_waits_for_what_is_in_flight_and_writes_it(run, server, tmp_path, caplog):
    """Of what the service has answered nothing is missing, and the counts say so."""
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text number {i}" for i in range(6000)})
    server.configure(text_ms=10, slots=4)
    caplog.set_level(logging.INFO, "jinaclip.bulk")
    with pytest.raises(KeyboardInterrupt) as ended, interrupt_after(server, 400):
        run(source, tmp_path / "out", batch_size=16, max_concurrency=4)
    report = ended.value.partial
    assert report.stopped is None and not report.whole
    assert 400 <= report.done == len(ids_of(tmp_path / "out")) == server.ledger()["answered_items"] < 6000
    assert report.left > 0 and report.skipped == report.failed == 0
    assert "Ctrl-C again ends at once" in caplog.text


class interrupt_after:  # noqa: N801  used as a function
    """Sends this process a Ctrl-C once the service has answered so many items."""

    def __init__(self, server: Server, count: int) -> None:
        self._server, self._count, self._over = server, count, threading.Event()
        self._thread = threading.Thread(target=self._wait)

    def _wait(self) -> None:
        while not self._over.wait(LOOK_S):
            if self._server.ledger()["answered_items"] >= self._count:
                os.kill(os.getpid(), signal.SIGINT)
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.long
def test_the_command_ends_with_130_after_ctrl_c_and_at_once_after_two(ray, server, tmp_path):
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text number {i}" for i in range(6000)})
    server.configure(text_ms=10, slots=4)
    for times, out in enumerate((tmp_path / "once", tmp_path / "twice"), start=1):
        before = server.ledger()["answered_items"]
        process = start_embed(source, out, server)
        process.wait_until(lambda before=before: server.ledger()["answered_items"] > before + 100)
        process.signal()
        process.wait_for_line("Ctrl-C again")
        if times == 2:
            process.signal()
        code, printed, logged = process.wait()
        assert code == 130, logged
        assert "the same command goes on from there" in logged and "Traceback" not in logged
        assert ("done " in printed) == (times == 1)


def start_embed(source: Path, out: Path, server: Server) -> Embed:
    bounds = ("--batch-size", "16", "--max-concurrency", "4")
    return Embed(source, out, "--base-url", server.url, "--executor", "ray", *bounds, key=KEY)


@pytest.mark.long
def test_a_deadline_ends_the_run_as_ctrl_c_does(run, server, tmp_path):
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text number {i}" for i in range(6000)})
    server.configure(text_ms=50, slots=4)
    report = run(source, tmp_path / "out", batch_size=16, max_concurrency=4, deadline=30)
    assert isinstance(report.stopped, DeadlineError) and report.exit_code == 1
    assert report.done == len(ids_of(tmp_path / "out")) == server.ledger()["answered_items"] < 6000


@pytest.mark.long
def test_the_first_failure_ends_the_run_if_that_is_asked_for(run, server, tmp_path):
    texts = {str(i): f"text {i}" for i in range(50)} | {"blank": " "}
    source = write_texts(tmp_path / "a.jsonl", texts)
    report = run(source, tmp_path / "out", on_error="stop")
    assert "line 51" in str(report.stopped) or "row 51" in str(report.stopped)
    assert "blank" not in ids_of(tmp_path / "out")


def test_weights_on_this_machine_give_what_they_give_without_ray(ray, tmp_path):
    model = str(make_checkpoint(tmp_path / "model", "v2"))
    source = write_mixed(tmp_path)
    options = {"pair": "fuse", "model": model, "backend": "local", "device": "cpu", "precision": "float16"}
    report = embed(source, tmp_path / "there", executor="ray", **options)
    assert embed(source, tmp_path / "here", **options).done == report.done == 47
    here, there = rows_of(tmp_path / "here"), rows_of(tmp_path / "there")
    assert here.keys() == there.keys()
    for key, row in here.items():
        np.testing.assert_allclose(there[key].pop("vector") or [], row.pop("vector") or [], atol=2e-3)
        assert there[key] == row


@pytest.mark.long
def test_an_output_on_s3_is_what_it_is_in_a_folder(run, server, tmp_path, request):
    import pyarrow.parquet as pq

    bucket = Bucket(request.getfixturevalue("s3_server"), "ray-output")
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text {i}" for i in range(100)})
    place = bucket.at("a folder/out")
    assert run(source, place, actors=2).complete
    assert run(source, place).skipped == 100
    rows = pq.read_table(f"{bucket.name}/a folder/out", filesystem=bucket.files).to_pylist()
    embed(source, tmp_path / "here", api_key=KEY, base_url=server.url)
    assert {(row["id"], row["kind"]): row for row in rows} == rows_of(tmp_path / "here")


def test_ray_is_not_used_where_it_would_lose_rows(ray, run, tmp_path):
    source = write_texts(tmp_path / "a.jsonl", {"a": "text"})
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    try:
        with pytest.raises(ConfigError, match="max_errored_blocks"):
            run(source, tmp_path / "out")
    finally:
        context.max_errored_blocks = 0
    context.checkpoint_config = ray.data.checkpoint.CheckpointConfig("id", str(tmp_path))
    try:
        with pytest.raises(ConfigError, match="checkpoint_config"):
            run(source, tmp_path / "out")
    finally:
        context.checkpoint_config = None
    with pytest.raises(ConfigError, match="actors=3 need 5 CPUs"):
        run(source, tmp_path / "out", actors=3)
    with pytest.raises(ConfigError, match="GPUs"):
        run(source, tmp_path / "out", gpus_per_actor=1)
    with pytest.raises(ConfigError, match="only be read by the process"):
        run([{"id": "a", "text": "text"}], tmp_path / "out")


def start_driver(source: Path, out: Path, url: str) -> subprocess.Popen:
    """A run in a process of its own, which starts a Ray of its own."""
    command = [sys.executable, "-m", "jinaclip", "embed", str(source), "--out", str(out), "--base-url", url]
    command += ["--executor", "ray", "--actors", str(ACTORS), "--batch-size", str(BATCH)]
    command += ["--max-concurrency", str(ACTORS * SLOTS)]
    environment = {**os.environ, "JINA_API_KEY": KEY, "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(STORE_BYTES)}
    with stderr_of(out).open("wb") as stderr:
        return subprocess.Popen(command, start_new_session=True, env=environment, stderr=stderr)


def stderr_of(out: Path) -> Path:
    """What the driver of the latest run into an output had to say."""
    return out.with_name("stderr.txt")


def wait_for_answers(server: Server, driver: subprocess.Popen, out: Path, count: int) -> None:
    while server.ledger()["answered_items"] < count:
        assert driver.poll() is None, stderr_of(out).read_text(errors="replace")[-2000:]
        threading.Event().wait(LOOK_S)


def kill(driver: subprocess.Popen) -> None:
    """All at once: the actors are of Ray's own group, and end as their parent does."""
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


ACTORS, SLOTS, BATCH = 2, 4, 16
UNWRITTEN = ACTORS * SLOTS * BATCH
"""Answers that the cache has not written yet, of one round of requests."""


def check_complete(out: Path, server: Server, count: int, kills: int) -> None:
    """All is there once, and paid twice is what was in flight at most, not what Ray's tasks had not written."""
    assert sorted(ids_of(out)) == sorted(str(i) for i in range(count))
    answered = {int(times): items for times, items in server.ledger()["answered"].items()}
    assert sum(answered.values()) == count
    twice = sum((times - 1) * items for times, items in answered.items())
    assert twice <= kills * (ACTORS * SLOTS * BATCH + UNWRITTEN)
    print(f"{kills} kills, {twice} of {count} items were paid again")


@pytest.mark.parametrize(("kills", "count"), [(1, 1500), long(10, 20_000)])
def test_a_driver_that_is_killed_pays_twice_for_what_was_in_flight_at_most(run, server, tmp_path, kills, count):
    source = write_texts(tmp_path / "a.jsonl", {str(i): f"text number {i}" for i in range(count)})
    out = tmp_path / "out"
    server.configure(text_ms=5)
    for number in range(1, kills + 1):
        driver = start_driver(source, out, server.url)
        try:
            wait_for_answers(server, driver, out, number * count // (kills + 2))
        finally:
            kill(driver)
    server.configure(text_ms=0)
    assert run(source, out, batch_size=BATCH, max_concurrency=SLOTS).complete
    check_complete(out, server, count, kills)
    assert leftovers(out) == set()
