"""Search results as stores hand them over, ordered by their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jinaclip import AuthenticationError, ConfigError, InputError, JinaClip, MissingDependencyError
from jinaclip.retrieval import Diversifier, diversify

ROWS = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)


@pytest.fixture
def keyless(monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    return JinaClip()


@pytest.mark.slow
async def test_where_no_vector_is_missing_no_key_is_needed(keyless):
    for vectors, images in ([], []), ([ROWS[0], None], ["a.png", None]), ([*ROWS], ["a.png"] * 9):
        order = Diversifier().order(keyless, vectors, images)
        assert order == await Diversifier().aorder(keyless, vectors, images)
        assert order == diversify(vectors, max(1, len(vectors)))


@pytest.mark.slow
def test_vectors_of_texts_count_for_mmr_alone(keyless):
    pictures = ["a.png"] * 8 + [None]
    assert Diversifier(method="mmr").order(keyless, [*ROWS], pictures) == diversify(ROWS, 9, method="mmr")
    assert Diversifier().order(keyless, [*ROWS], pictures) == diversify([*ROWS[:8], None], 9)


def test_relevance_goes_before_the_order(keyless):
    relevance = np.arange(9.0).tolist()
    assert Diversifier(k=4).order(keyless, [*ROWS], ["a.png"] * 9, relevance) == diversify(ROWS, 4, relevance=relevance)


@pytest.mark.parametrize("option", [{"k": 0}, {"clusters": 0}, {"method": "best"}, {"lambda_mult": 2}, {"seed": -1}])
def test_a_wrong_option_is_refused_before_there_is_anything_to_order(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        Diversifier(**option)


def test_a_missing_library_is_told_before_anything_is_paid_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"jinaclip\[rerank\]"):
        Diversifier()
    Diversifier(method="mmr")


def test_ragged_vectors_are_refused(keyless):
    with pytest.raises(InputError, match="equally long"):
        Diversifier().order(keyless, [[1.0, 2.0], [1.0]], ["a.png", "b.png"])


@pytest.fixture(params=["sync", "async"])
def order(request):
    """`Diversifier().order`, as itself or as its async twin."""

    async def call(*arguments, **options):
        if request.param == "sync":
            return Diversifier(**options).order(*arguments)
        return await Diversifier(**options).aorder(*arguments)

    return call


def square(number):
    return Image.new("RGB", (16, 16), (number * 20, 0, 0))


async def test_the_images_without_a_vector_are_embedded_and_no_others(clip, server, order):
    one = clip(dimensions=64)
    images = [square(number) for number in range(6)]
    vectors = list(one.embed_images(images))
    server.reset()
    some = [vectors[0], None, vectors[2], None, None, vectors[5]]
    assert await order(one, some, images, method="mmr") == diversify(vectors, 6, method="mmr")
    assert server.ledger()["tiles"] == 3


async def test_an_image_that_cannot_be_read_makes_a_result_without_one(clip, order, caplog):
    """Its number in the log is that of the result, whatever stands before it."""
    one = clip(dimensions=64)
    images = [square(0), None, square(2), b"no image", square(4)]
    vectors = [*one.embed_images([square(0)]), None, None, None, None]
    found = await order(one, vectors, images)
    rows = one.embed_images([square(0), square(2), square(4)])
    assert found == diversify([rows[0], None, rows[1], None, rows[2]], 5)
    (record,) = caplog.records
    assert record.getMessage().startswith("result 3 counts as one without an image: ")


async def test_a_call_that_fails_as_a_whole_is_an_error(keyless, order):
    with pytest.raises(AuthenticationError):
        await order(keyless, [None, ROWS[1], None], [square(0), None, square(2)])
