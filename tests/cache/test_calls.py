"""Calls with a cache: nothing is embedded twice, whoever asks, however the call before ended."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import jinaclip
from jinaclip import Cache, ImagePolicy, InputError, JinaClip, Pair
from jinaclip.testing import Server
from tests.tiny import make_checkpoint

SAME = 2e-6
TEXTS = [f"text {number}" for number in range(40)]
Make = Callable[..., JinaClip]


def picture(seed: int, size: tuple[int, int] = (90, 70)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.fixture
def make(clip: Make, path: Path) -> Make:
    """Makes JinaClips over the test service, with the cache of this test."""
    return lambda *args, **options: clip(*args, **{"cache": path, **options})


def items_sent(server: Server) -> int:
    ledger = server.ledger()
    return int(ledger["texts"] + ledger["images"])


def wait_until(is_true: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


# -- what is found


def test_what_was_embedded_is_not_sent_again(make: Make, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Pillow.fromarray(picture(1)).save(file)
    items: list[Any] = [*TEXTS, file, picture(2), Pair("a text", picture(3), 0.3), Pair("text 1", file)]
    first, second = make().embed(items), make(timeout=7, batch_size=3, max_retries=1).embed(items)
    assert np.array_equal(first.vectors, second.vectors)
    assert items_sent(server) == len(TEXTS) + 1 + 3
    assert (first.usage.hits, second.usage.hits) == (0, len(TEXTS) + 1 + 3)
    assert (second.usage.requests, second.usage.items, second.usage.tokens) == (0, 0, 0)
    assert second.usage.tokens_saved >= 3 * 4000


def test_a_query_that_is_found_saves_what_it_was_billed(make: Make) -> None:
    first, second = (make().embed(TEXTS, task="query") for _ in range(2))
    assert second.usage.tokens_saved == first.usage.tokens > 0


def test_queries_and_documents_have_vectors_of_their_own_where_the_model_tells_them_apart(
    make: Make, server: Server
) -> None:
    two = make()
    assert not np.allclose(two.embed_query("a"), two.embed_documents(["a"])[0])
    one = make("jina-clip-v1")
    assert np.array_equal(one.embed_query("a"), one.embed_documents(["a"])[0])
    assert items_sent(server) == 3


@pytest.mark.parametrize("dimensions", [2, 64, 1023])
@pytest.mark.filterwarnings("ignore:jina-clip-v2 is known to work down to")
def test_every_other_width_is_free(make: Make, server: Server, dimensions: int) -> None:
    whole = make().embed([*TEXTS, picture(1), Pair("text 1", picture(1))])
    narrow = make(dimensions=dimensions).embed([*TEXTS, picture(1), Pair("text 1", picture(1))])
    parts = jinaclip.truncate(whole.vectors[:-1], dimensions)
    assert np.abs(narrow.vectors[:-1] - parts).max() < SAME
    assert np.abs(narrow.vectors[-1] - jinaclip.fuse(parts[1], parts[-1])).max() < SAME
    assert items_sent(server) == len(TEXTS) + 1


def test_a_narrow_call_pays_for_all_widths(make: Make, server: Server) -> None:
    with make(dimensions=64) as narrow, make() as whole:
        small = narrow.embed_documents(TEXTS)
        assert np.abs(jinaclip.truncate(whole.embed_documents(TEXTS), 64) - small).max() < SAME
    assert items_sent(server) == len(TEXTS)


def test_vectors_that_are_not_normalized_are_others(make: Make, server: Server) -> None:
    raw = make(normalized=False).embed_documents(TEXTS)
    assert np.abs(make(normalized=False, dimensions=64).embed_documents(TEXTS) - raw[:, :64]).max() < SAME
    make().embed_documents(TEXTS)
    assert items_sent(server) == 2 * len(TEXTS)


def test_a_text_that_was_embedded_whole_serves_where_texts_may_be_cut(make: Make, server: Server) -> None:
    long, short = "a word " * 300, "a word"
    make().embed_documents([long, short])
    make(truncate=True).embed_documents([long, short])
    assert items_sent(server) == 2
    make(truncate=True).embed_documents([f"{long}!", f"{short}!"])
    make().embed_documents([f"{long}!", f"{short}!"])
    assert items_sent(server) == 2 + 2 + 1, "nobody knows whether the long one was cut"


@pytest.mark.parametrize(
    "options",
    [
        {"image_resize": "pad"},
        {"image_quality": 80},
        {"image_policy": ImagePolicy(background=(0, 0, 0))},
    ],
    ids=str,
)
def test_settings_of_images_concern_images_whose_pixels_they_change(
    make: Make, server: Server, options: dict[str, Any]
) -> None:
    clear = Pillow.new("RGBA", (90, 70), (10, 200, 30, 100))
    make().embed(["a text", clear])
    make(**options).embed(["a text", clear])
    assert items_sent(server) == 3
    square = Pillow.fromarray(picture(1, (512, 512)))
    make().embed_image(square)
    make(image_policy=ImagePolicy(background=(0, 0, 0))).embed_image(square)
    assert items_sent(server) == 4, "an opaque image looks the same on any background"


def test_two_files_of_the_same_pixels_are_one_image(make: Make, server: Server, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.webp", "c.gif")]
    grey = Pillow.new("L", (60, 60), 77)
    for file in files:
        grey.save(file, lossless=True)
    vectors = make().embed_images([*files, grey])
    assert len(np.unique(vectors, axis=0)) == 1
    again = [make().embed_image(file) for file in files]
    assert np.array_equal(again, vectors[:3])
    assert items_sent(server) == 1


def test_a_known_file_is_not_decoded(make: Make, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Pillow.fromarray(picture(1)).save(file)
    told: list[object] = []
    with make() as one:
        one.embed_image(file)
        jinaclip.telemetry.set_hooks(told.append)
        try:
            one.embed_image(file)
            one.embed_image(file.read_bytes())
            assert not [event for event in told if isinstance(event, jinaclip.telemetry.ImagesPrepared)]
            one.embed_image(Pillow.open(file).rotate(90))
        finally:
            jinaclip.telemetry.set_hooks(jinaclip.telemetry.log_event)
    assert [type(event) for event in told].count(jinaclip.telemetry.ImagesPrepared) == 1


def test_files_that_look_the_same_are_known_each_by_itself(make: Make, tmp_path: Path) -> None:
    """Copies in one call, and a file of which the cache has the vector by another one."""
    files = [tmp_path / f"{level}.png" for level in range(3)]
    for level, file in enumerate(files):
        Pillow.fromarray(picture(1)).save(file, compress_level=level)
    told: list[object] = []
    with make() as one:
        one.embed_images(files[:2])
        one.embed_image(files[2])
        jinaclip.telemetry.set_hooks(told.append)
        try:
            one.embed_images(files)
        finally:
            jinaclip.telemetry.set_hooks(jinaclip.telemetry.log_event)
    assert not [event for event in told if isinstance(event, jinaclip.telemetry.ImagesPrepared)]


def test_a_changed_file_is_another_image(make: Make, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    vectors = []
    for seed in (1, 2):
        Pillow.fromarray(picture(seed)).save(file)
        vectors.append(make().embed_image(file))
    assert not np.allclose(*vectors)


def test_a_policy_that_refuses_a_file_refuses_it_also_when_it_is_known(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Pillow.fromarray(picture(1)).save(file)
    make().embed_image(file)
    for policy in (ImagePolicy(formats=("JPEG",)), ImagePolicy(max_pixels=10), ImagePolicy(max_bytes=10)):
        with pytest.raises(InputError):
            make(image_policy=policy).embed_image(file)


def test_forwarded_addresses_are_kept_for_the_day(make: Make, server: Server) -> None:
    for _ in range(2):
        make(url_mode="forward").embed_image("https://example.com/a.png")
    assert items_sent(server) == 1


# -- without a key, a network, weights


def test_hits_need_neither_a_key_nor_a_service(make: Make, server: Server, path: Path) -> None:
    image = picture(1)
    expected = make().embed([*TEXTS, image, Pair("text 2", image)])
    make().cache.close()
    offline = JinaClip(api_key=None, base_url=server.url, cache=path)
    before = server.ledger()["requests"]
    found = offline.embed([*TEXTS, image, Pair("text 2", image)])
    assert np.array_equal(found.vectors, expected.vectors)
    assert np.array_equal(offline.embed_documents(iter(TEXTS)), expected.vectors[: len(TEXTS)])
    assert np.array_equal(asyncio.run(offline.aembed_documents(TEXTS)), expected.vectors[: len(TEXTS)])
    assert server.ledger()["requests"] == before


OFFLINE = """
import sys
import jinaclip
clip = jinaclip.JinaClip(sys.argv[1], backend="local", device="cpu", cache=sys.argv[2])
print(clip.embed_documents(["a red dress"])[0, 0], clip.embed_image(sys.argv[3])[0])
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_hits_load_no_weights(version: str, tmp_path: Path, path: Path) -> None:
    folder = make_checkpoint(tmp_path / version, version)
    Pillow.fromarray(picture(1)).save(tmp_path / "a.png")
    with JinaClip(str(folder), backend="local", device="cpu", cache=path) as clip:
        text, image = clip.embed_documents(["a red dress"])[0, 0], clip.embed_image(tmp_path / "a.png")[0]
        clip.cache.close()
    command = [sys.executable, "-c", OFFLINE, str(folder), str(path), "a.png"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    values, loaded = answer.stdout.splitlines()
    assert [float(value) for value in values.split()] == pytest.approx([text, image], abs=1e-7)
    assert loaded == "False", "a hit needs no PyTorch"


def test_backends_share_what_the_same_weights_gave(tmp_path: Path, path: Path) -> None:
    folder = make_checkpoint(tmp_path / "a", "v2")
    with JinaClip(str(folder), backend="local", device="cpu", cache=path) as clip:
        first = clip.embed_documents(TEXTS)
    copied = make_checkpoint(tmp_path / "b", "v2")
    with JinaClip(str(copied), backend="local", device="cpu", cache=path, batch_size=2) as other:
        assert np.array_equal(other.embed_documents(TEXTS), first)
        assert other.usage.hits == len(TEXTS)


# -- at the same time


def test_calls_that_miss_the_same_at_the_same_time_pay_once(make: Make, server: Server) -> None:
    server.configure(base_ms=200)
    clips = [make() for _ in range(6)]
    image = picture(1)
    found: dict[int, np.ndarray] = {}

    def embed(number: int) -> None:
        items: list[Any] = [*TEXTS, image, Pair("text 3", image)]
        found[number] = clips[number].embed(items if number % 2 else iter(items)).unwrap()

    threads = [threading.Thread(target=embed, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.array_equal(found[0], other) for other in found.values())
    assert items_sent(server) == len(TEXTS) + 1


async def test_coroutines_that_miss_the_same_at_the_same_time_pay_once(make: Make, server: Server) -> None:
    one = make()
    rows = await asyncio.gather(*[one.aembed_query(f"query {number % 7}") for number in range(100)])
    assert len(np.unique(np.array(rows), axis=0)) == 7
    assert items_sent(server) == 7


def test_who_waits_for_another_s_item_embeds_it_when_that_one_fails(make: Make, server: Server) -> None:
    """The first call hangs with what both ask for, and is closed."""
    server.configure(faults=["hang"], fault_rate=1)
    first, second = make(timeout=60), make(timeout=60)
    failed: list[BaseException] = []

    def embed_first() -> None:
        try:
            first.embed_documents(TEXTS)
        except BaseException as error:
            failed.append(error)

    found: list[np.ndarray] = []
    threads = [threading.Thread(target=embed_first)]
    threads[0].start()
    wait_until(lambda: server.ledger()["in_flight"] >= 1)
    threads.append(threading.Thread(target=lambda: found.append(second.embed_documents(TEXTS))))
    threads[1].start()
    wait_until(lambda: second.cache.stats().entries == 0 and len(second.cache.flights.leaders) == 2)
    server.configure(faults=[], fault_rate=0)
    first.close()
    for thread in threads:
        thread.join(60)
    assert failed
    assert found[0].shape == (len(TEXTS), 1024)


def test_two_calls_that_wait_for_each_other_both_end(make: Make, server: Server) -> None:
    """Each has what the other lacks, in its list's other half."""
    server.configure(base_ms=50)
    halves = [f"left {number}" for number in range(600)], [f"right {number}" for number in range(600)]
    found: dict[int, np.ndarray] = {}

    def embed(number: int) -> None:
        found[number] = make().embed_documents([*halves[number], *halves[1 - number]])

    threads = [threading.Thread(target=embed, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert np.array_equal(found[0][:600], found[1][600:])
    assert items_sent(server) == 1200


# -- calls that end badly


def test_what_was_answered_is_kept_when_the_call_fails(make: Make, server: Server) -> None:
    with pytest.raises(InputError) as caught:
        make(batch_size=4, max_concurrency=1).embed_documents(iter([*TEXTS, "\ud800"]))
    assert caught.value.index == len(TEXTS)
    assert make().embed(TEXTS).usage.hits == len(TEXTS)
    assert items_sent(server) == len(TEXTS)


def test_what_was_answered_is_kept_when_the_iterator_raises(make: Make, server: Server) -> None:
    def broken() -> Iterator[str]:
        yield from TEXTS
        wait_until(lambda: server.ledger()["answered_items"] == len(TEXTS))
        raise OSError("the disk of the caller")

    one = make()
    with pytest.raises(OSError, match="the disk of the caller"):
        one.embed_documents(broken())
    wait_until(lambda: one.cache.stats().entries == len(TEXTS))
    assert make().embed(TEXTS).usage.hits == len(TEXTS)


async def test_what_was_answered_is_kept_when_the_call_is_cancelled(make: Make, server: Server) -> None:
    one = make(batch_size=4, max_concurrency=1)
    server.configure(base_ms=20)
    task = asyncio.create_task(one.aembed_documents([f"other {number}" for number in range(400)]))
    await asyncio.to_thread(wait_until, lambda: server.ledger()["answered_items"] >= 40)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = (await asyncio.to_thread(one.cache.stats)).entries
    assert kept >= 36, "all but what was in flight"


async def test_an_answer_that_comes_soon_after_the_call_was_cancelled_is_kept(make: Make, server: Server) -> None:
    """Tried a few times, as a busy machine may take longer than the moment that is waited."""
    one = make()
    server.configure(base_ms=200)
    for attempt in range(10):
        text = f"text of attempt {attempt}"
        task = asyncio.create_task(one.aembed_documents([text]))
        await asyncio.to_thread(wait_until, lambda: server.ledger()["in_flight"] > 0 or task.done())  # noqa: B023
        if not task.cancel():
            continue  # it was done before anybody looked
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until, lambda: server.ledger()["in_flight"] == 0)
        if (await one.aembed([text])).usage.hits:
            return
    pytest.fail("no answer was kept")


def test_a_bad_item_is_refused_again_and_the_others_are_there(make: Make, server: Server) -> None:
    items = ["a", b"no image", "b"]
    for _ in range(2):
        results = make().embed(items)
        assert set(results.errors) == {1}
        assert results.ok.tolist() == [True, False, True]
    assert items_sent(server) == 2


def test_a_budget_is_for_what_is_not_there(make: Make, server: Server) -> None:
    make().embed_documents(TEXTS)
    poor = make(token_budget=0)
    assert poor.embed_documents(TEXTS).shape == (len(TEXTS), 1024)
    with pytest.raises(jinaclip.BudgetError):
        poor.embed_documents([*TEXTS, "one more"])
    assert items_sent(server) == len(TEXTS)


# -- the option


def test_no_cache_unless_it_is_asked_for(clip: Make, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    assert clip().cache is None
    for word in ("", "0", "off", "False"):
        monkeypatch.setenv("JINACLIP_CACHE", word)
        assert clip().cache is None
    monkeypatch.setenv("JINACLIP_CACHE", str(path))
    assert clip().cache.path == path
    assert clip(cache=False).cache is None


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_true_is_the_user_s_own_place(clip: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert clip(cache=True).cache.path == tmp_path / "jinaclip" / "vectors.sqlite"
    monkeypatch.setenv("JINACLIP_CACHE", "on")
    assert clip().cache.path == tmp_path / "jinaclip" / "vectors.sqlite"


def test_objects_of_one_path_share_a_cache(make: Make, path: Path) -> None:
    one, other, own = make(), make(cache=str(path)), make(cache=Cache(path))
    assert one.cache is other.cache
    assert own.cache is not one.cache
    one.embed_documents(TEXTS)
    one.cache.flush()
    assert own.embed(TEXTS).usage.hits == len(TEXTS)


def test_copies_have_the_same_cache(make: Make, server: Server) -> None:
    one = make()
    one.embed_documents(TEXTS)
    other = pickle.loads(pickle.dumps(one))
    assert other.cache.path == one.cache.path
    assert other.embed(TEXTS).usage.hits == len(TEXTS)


@pytest.mark.parametrize("wrong", [3, 1.5, [], object()])
def test_what_is_no_cache_is_refused(clip: Make, wrong: object) -> None:
    with pytest.raises(jinaclip.ConfigError, match="cache"):
        clip(cache=wrong)


def test_the_self_test_does_not_read_it(make: Make, server: Server) -> None:
    one = make()
    assert one.self_test().ok
    assert one.self_test().ok
    assert items_sent(server) == 4


def test_stats(make: Make) -> None:
    one = make()
    one.embed_documents(TEXTS)
    one.embed_documents([*TEXTS, "one more"])
    stats = one.cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (len(TEXTS) + 1, len(TEXTS), len(TEXTS) + 1)
    assert stats.tokens_saved == one.usage.tokens_saved > 0
    assert stats.size > stats.entries * 4096
    one.cache.clear()
    assert one.cache.stats().entries == 0
    assert one.embed(TEXTS).usage.hits == 0
