"""What is said beforehand of a call with a cache: only what the cache lacks is to be paid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import BudgetError, Image, InputError, JinaClip, Pair
from jinaclip.testing import Server

Make = Callable[..., JinaClip]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8)


@pytest.fixture
def make(clip: Make, tmp_path: Path) -> Make:
    return lambda *args, **options: clip(*args, **{"cache": tmp_path / "cache" / "vectors.sqlite", **options})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Pillow.fromarray(picture(1)).save(path)
    return path


def test_an_estimate_leaves_out_what_the_cache_has(make: Make, server: Server, file: Path) -> None:
    items: list[Any] = ["a", "b", file, Pair("c", file, 0.3)]
    before = make().estimate(items)
    make().embed(items)
    after = make().estimate([*items, file.read_bytes(), "new", Pair("other", file)])
    assert (before.items, before.tokens) == (5, 3 * 3 + 2 * 4000)
    assert (after.items, after.tokens, after.requests) == (2, 6, 1)
    assert (make().estimate(items).items, make().estimate(items).requests) == (0, 0)
    assert make(cache=False).estimate(items).items == 5
    assert make(image_quality=80).estimate([file]).items == 1, "other pixels"
    assert make(dimensions=64).estimate(items).items == 0, "a narrower vector is cut from what is there"


def test_an_estimate_of_queries_looks_for_queries(make: Make) -> None:
    with make() as one:
        one.embed_query("a")
        assert (one.estimate(["a"], task="query").items, one.estimate(["a"]).items) == (0, 1)
        one.embed_documents(["b"])
        assert (one.estimate(["b"], task="query").items, one.estimate(["b"]).items) == (1, 0)
    with make("jina-clip-v1") as one:
        one.embed_query("a")
        assert one.estimate(["a"]).items == 0, "which model makes no difference between them"


def test_an_image_that_is_not_in_a_file_counts_until_it_is_embedded(make: Make, server: Server) -> None:
    """Whether its pixels are known, only preparing it tells."""
    with make() as one:
        one.embed_image(picture(1))
        assert one.estimate([picture(1)]).tokens == 4000
        one.embed_image(picture(1))
    assert server.ledger()["tiles"] == 1


def test_an_image_that_the_service_fetches_is_known_by_its_address(make: Make) -> None:
    address = "https://example.com/a.png"
    with make(url_mode="forward") as one:
        one.embed_image(address)
        assert one.estimate([Image.from_url(address), Image.from_url(f"{address}?2")]).items == 1


def test_an_estimate_is_no_search_of_a_call(make: Make) -> None:
    with make() as one:
        one.embed_documents(["a"])
        before = one.cache.stats()
        one.estimate(["a", "b"])
        assert one.cache.stats() == before


def test_an_unusable_image_is_named_as_without_a_cache(make: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError) as found:
        make(image_resize="none").estimate(["a", tmp_path / "none.png"])
    assert found.value.index == 1


# -- another cache for the same object


def test_an_object_with_another_cache_counts_into_the_same_budget(make: Make, tmp_path: Path) -> None:
    with make(cache=False, token_budget=7) as one:
        other = one.with_cache(tmp_path / "other.sqlite")
        other.embed_documents(["a", "b"])
        assert one.usage == other.usage
        assert one.usage.tokens == 6
        with pytest.raises(BudgetError):
            one.embed_documents(["c"])
        assert other.embed_documents(["a", "b"]).shape == (2, 1024)


@pytest.mark.parametrize("dimensions", [None, 64, 1024])
def test_an_object_with_or_without_a_cache_gives_the_same_vectors(make: Make, dimensions: int | None) -> None:
    with make(dimensions=dimensions) as one:
        rows = [owner.embed_documents(["a", "b"]) for owner in (one, one.with_cache(False), one.with_cache(None))]
        assert one.with_cache(False).cache is None
        assert rows[0].shape == (2, dimensions or 1024)
        assert max(np.abs(row - rows[0]).max() for row in rows) < 2e-6
