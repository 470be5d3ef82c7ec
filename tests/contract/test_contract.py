"""What every backend owes the caller. Each test runs over all of them."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import jinaclip
from jinaclip import ConfigError, Image, ImagePolicy, InputError, JinaClip, fuse, truncate
from jinaclip.retrieval import Diversifier, diversify

TEXTS = ["a red dress", "ein blauer Mantel", "三条长裤", "a", "a text that is a good deal longer than the others, " * 4]
SAME = 2e-6


def picture(seed: int, size: tuple[int, int] = (90, 70)) -> Pillow.Image:
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= SAME)


def test_vectors_are_float32_unit_rows_of_the_stated_width(clip: JinaClip) -> None:
    for vectors in (clip.embed_documents(TEXTS), clip.embed_images([picture(1), picture(2)])):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == clip.dimensions == (clip.config.dimensions or clip.spec.dimensions)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert clip.embed_query("a").shape == clip.embed_image(picture(1)).shape == (clip.dimensions,)


@pytest.mark.slow
def test_rows_follow_the_order_of_the_input_whatever_the_batch(clip: JinaClip, make) -> None:
    together = clip.embed_documents(TEXTS)
    assert close(together, np.stack([clip.embed_documents([text])[0] for text in TEXTS]))
    assert close(together[::-1], clip.embed_documents(TEXTS[::-1]))
    with make(batch_size=2) as small:
        assert close(together, small.embed_documents(TEXTS))


def test_different_items_get_different_vectors(clip: JinaClip) -> None:
    vectors = np.concatenate([clip.embed_documents(TEXTS), clip.embed_images([picture(1), picture(2)])])
    cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert cosines.max() < 0.9999


def test_nothing_in_gives_no_rows(clip: JinaClip) -> None:
    assert clip.embed_documents([]).shape == clip.embed_images(iter([])).shape == (0, clip.dimensions)
    assert clip.embed_pairs([]).shape == (0, clip.dimensions)


def test_any_iterable_will_do(clip: JinaClip) -> None:
    expected = clip.embed_documents(TEXTS)
    for form in (
        tuple(TEXTS),
        iter(TEXTS),
        (text for text in TEXTS),
        np.array(TEXTS, object),
        dict.fromkeys(TEXTS).keys(),
    ):
        assert close(clip.embed_documents(form), expected)


def test_duplicates_get_the_same_vector(clip: JinaClip) -> None:
    vectors = clip.embed_documents(["one", "two", "one", "three", "two", "one"])
    assert (vectors[[0, 1, 0]] == vectors[[2, 4, 5]]).all()
    pictures = clip.embed_images([picture(1), picture(2), picture(1)])
    assert (pictures[0] == pictures[2]).all()


def test_every_form_of_a_picture_gives_one_vector(clip: JinaClip, tmp_path: Path, monkeypatch) -> None:
    shown = picture(3)
    file = tmp_path / "shown.png"
    shown.save(file)
    monkeypatch.chdir(tmp_path)
    data, array = file.read_bytes(), np.asarray(shown)
    forms = [shown, file, "shown.png", data, bytearray(data), BytesIO(data), array, Image.from_bytes(data)]
    vectors = clip.embed_images(forms)
    assert close(vectors, np.broadcast_to(vectors[0], vectors.shape))


def test_a_query_differs_from_a_document_only_where_the_model_has_an_instruction(clip: JinaClip) -> None:
    same = close(clip.embed_query("a red dress"), clip.embed_documents(["a red dress"])[0])
    assert same == (not clip.spec.query_instruction)


@pytest.mark.slow
def test_pairs_are_the_fusion_of_their_halves(clip: JinaClip) -> None:
    pictures = [picture(i) for i in range(len(TEXTS))]
    texts, images = clip.embed_documents(TEXTS), clip.embed_images(pictures)
    for weight in (0.0, 0.3, 1.0):
        fused = clip.embed_pairs(zip(TEXTS, pictures, strict=True), weight=weight)
        assert close(fused, fuse(texts, images, weight))


def test_dimensions_are_the_head_of_the_full_vector(clip: JinaClip, make) -> None:
    if clip.spec.min_dimensions == clip.spec.dimensions:
        pytest.skip("this model cannot be cut")
    width = clip.dimensions // 2
    with make(dimensions=width) as narrow:
        assert narrow.dimensions == width
        assert close(narrow.embed_documents(TEXTS), truncate(clip.embed_documents(TEXTS), width))
        assert close(narrow.embed_images([picture(1)]), truncate(clip.embed_images([picture(1)]), width))


def test_raw_vectors_have_the_direction_of_normalised_ones(clip: JinaClip, make) -> None:
    if clip.config.wire_name == "openai":  # which cannot ask for them
        with pytest.raises(ConfigError, match="normalized=False"):
            make(normalized=False)
        return
    with make(normalized=False) as raw:
        vectors = raw.embed_documents(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(lengths - 1).max() > 1e-3
    assert close(vectors / lengths, clip.embed_documents(TEXTS))


@pytest.mark.slow
def test_async_gives_what_sync_gives(clip: JinaClip) -> None:
    shown = picture(1)

    async def everything() -> list[np.ndarray]:
        return await asyncio.gather(
            clip.aembed_query(TEXTS[0]),
            clip.aembed_documents(TEXTS),
            clip.aembed_image(shown),
            clip.aembed_images([shown, picture(2)]),
            clip.aembed_pairs([(TEXTS[0], shown)]),
        )

    expected = [
        clip.embed_query(TEXTS[0]),
        clip.embed_documents(TEXTS),
        clip.embed_image(shown),
        clip.embed_images([shown, picture(2)]),
        clip.embed_pairs([(TEXTS[0], shown)]),
    ]
    for _ in range(3):  # each run has an event loop of its own
        assert all(close(a, b) for a, b in zip(asyncio.run(everything()), expected, strict=True))


@pytest.mark.slow
def test_many_queries_at_once_each_get_their_own_vector(clip: JinaClip) -> None:
    texts = [f"query number {i}" for i in range(100)]

    async def ask() -> list[np.ndarray]:
        return await asyncio.gather(*map(clip.aembed_query, texts))

    rows = asyncio.run(ask())
    assert close(np.stack(rows[::25]), np.stack([clip.embed_query(text) for text in texts[::25]]))


def test_threads_share_one_object(clip: JinaClip) -> None:
    expected = {i: clip.embed_documents([f"{i}-{j}" for j in range(20)]) for i in range(6)}
    got: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        got[i] = clip.embed_documents([f"{i}-{j}" for j in range(20)])

    threads = [threading.Thread(target=work, args=(i,)) for i in expected]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(close(got[i], expected[i]) for i in expected)


def test_a_list_with_a_bad_item_is_refused_before_anything_is_embedded(clip: JinaClip) -> None:
    for texts, index in ((["fine", " "], 1), (["fine", None], 1), ([b"bytes"], 0), (["ok", 3, "ok"], 1)):
        with pytest.raises(InputError) as caught:
            clip.embed_documents(texts)
        assert caught.value.index == index
    with pytest.raises(InputError, match="image 1"):
        clip.embed_images([picture(1), "missing.png"])
    assert clip.usage.items == 0


def test_a_bad_item_of_a_generator_loses_nothing(clip: JinaClip) -> None:
    with pytest.raises(InputError) as caught:
        clip.embed_documents(iter(["one", "", "three", None, "five"]))
    assert caught.value.index == 1
    assert caught.value.partial.successes()[0].tolist() == [0, 2, 4]
    assert sorted(caught.value.partial.errors) == [1, 3]
    assert close(caught.value.partial.vectors[4], clip.embed_documents(["five"])[0])


def test_a_broken_picture_loses_nothing(clip: JinaClip) -> None:
    buffer = BytesIO()
    picture(1).save(buffer, "PNG")
    with pytest.raises(InputError, match="image 1") as caught:
        clip.embed_images([picture(1), buffer.getvalue()[:-200], picture(2)])
    assert caught.value.index == 1
    assert caught.value.partial.successes()[0].tolist() == [0, 2]
    assert close(caught.value.partial.vectors[2], clip.embed_image(picture(2)))


def test_a_broken_pair_loses_nothing(clip: JinaClip) -> None:
    with pytest.raises(InputError) as caught:
        clip.embed_pairs([("a", picture(1)), ("b", b"no picture"), ("c", picture(3))])
    assert caught.value.index == 1
    assert caught.value.partial.successes()[0].tolist() == [0, 2]
    assert sorted(caught.value.partial.errors) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_results_without_a_vector_are_ordered_by_their_picture_and_a_broken_one_keeps_its_place(
    clip: JinaClip, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    looks = clip.embed_images([picture(seed) for seed in range(4)])
    vectors = [looks[0].tolist(), None, None, None, None, looks[3]]
    images = [picture(0), picture(1), None, BytesIO(b"no picture"), picture(2), picture(3)]
    before = clip.usage.items
    wanted = Diversifier(k=5, method="mmr", lambda_mult=0.1)
    found = asyncio.run(wanted.aorder(clip, vectors, images)) if asynchronous else wanted.order(clip, vectors, images)
    assert clip.usage.items - before == 2
    assert found == diversify([looks[0], looks[1], None, None, looks[2], looks[3]], 5, method="mmr", lambda_mult=0.1)
    assert "result 3 counts as one without an image" in caplog.text


@pytest.mark.parametrize("value", ["a bare string", b"bytes", 7, None, {"a": 1}, Path("x.png")])
def test_one_thing_where_several_are_meant_is_refused(clip: JinaClip, value: object) -> None:
    for method in (clip.embed_documents, clip.embed_images, clip.embed_pairs):
        with pytest.raises(InputError, match="several"):
            method(value)


def test_an_error_of_the_callers_own_iterator_comes_back_as_it_is(clip: JinaClip) -> None:
    def broken():
        yield "one"
        raise LookupError("the database went away")

    with pytest.raises(LookupError, match="went away"):
        clip.embed_documents(broken())
    with pytest.raises(LookupError, match="went away"):
        asyncio.run(clip.aembed_documents(broken()))
    assert clip.embed_query("still alive").shape == (clip.dimensions,)


def test_settings_travel_and_vectors_stay(clip: JinaClip) -> None:
    before = clip.embed_query("a")
    for other in (pickle.loads(pickle.dumps(clip)), copy.deepcopy(clip), copy.copy(clip)):
        with other:
            assert (other.space, other.fingerprint) == (clip.space, clip.fingerprint)
            assert close(other.embed_query("a"), before)


def test_close_is_no_end(clip: JinaClip) -> None:
    before = clip.embed_query("a")
    clip.close()
    clip.close()
    assert close(clip.embed_query("a"), before)
    asyncio.run(clip.aclose())
    assert close(clip.embed_query("a"), before)


def test_usage_counts_items_and_tokens(clip: JinaClip) -> None:
    assert clip.usage == jinaclip.Usage()
    clip.embed_documents(["one", "two", "one"])
    assert clip.usage.items == 2
    assert clip.usage.tokens > 2


def test_check_finds_nothing_wrong(clip: JinaClip) -> None:
    report = clip.self_test()
    assert report.ok, report.problems
    assert report.dimensions == clip.dimensions
    assert report.text_latency > 0 and report.image_latency > 0


def test_a_budget_refuses_before_embedding(make) -> None:
    with make(token_budget=20) as clip:
        with pytest.raises(jinaclip.BudgetError, match="token_budget"):
            clip.embed_documents(["many words " * 30])
        assert clip.usage.items == 0


def test_string_paths_stay_under_the_allowed_roots(make, tmp_path: Path) -> None:
    file = tmp_path / "shown.png"
    picture(1).save(file)
    with make() as clip, pytest.raises(InputError, match="allowed_roots"):
        clip.embed_image(str(file))
    with make(image_policy=ImagePolicy(allowed_roots=(tmp_path,))) as clip:
        assert close(clip.embed_image(str(file)), clip.embed_image(file))


def test_ways_of_resizing_differ_on_an_oblong_picture(make) -> None:
    shown = picture(5, (400, 160))
    rows = []
    for mode in ("model", "pad", "squash"):
        with make(image_resize=mode) as clip:
            rows.append(clip.embed_image(shown))
    assert not close(rows[0], rows[1]) and not close(rows[1], rows[2]) and not close(rows[0], rows[2])


def test_a_cancelled_call_returns_and_harms_nobody(clip: JinaClip) -> None:
    async def cancel() -> np.ndarray:
        task = asyncio.create_task(clip.aembed_documents([f"text {i}" for i in range(300)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await clip.aembed_query("after")

    assert close(asyncio.run(cancel()), clip.embed_query("after"))


def test_a_bar_is_drawn_on_demand(make, capsys: pytest.CaptureFixture[str]) -> None:
    with make(show_progress=True) as clip:
        clip.embed_documents([f"text {i}" for i in range(100)])
        assert "100/100" in capsys.readouterr().err
        clip.embed_documents(iter(["an", "iterator", "over", "a", "list"]))
        assert "5/5" in capsys.readouterr().err
        clip.embed_documents(word for word in ("who", "knows"))
        assert "2item" in capsys.readouterr().err
        clip.embed_documents([])
        clip.embed_query("one alone needs no bar")
        assert capsys.readouterr().err == ""
    with make() as clip:
        clip.embed_documents([f"text {i}" for i in range(100)])
    assert capsys.readouterr().err == ""
