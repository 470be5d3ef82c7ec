"""Answers that name their space: what is expected, what is remembered, and that nothing of another is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jinaclip import ConfigError, JinaClip
from jinaclip.testing import Server
from tests.wires.services import Service, Upstream, jina_face

OURS, OTHER = "jina_clip_v2_1024_c41d1e0588cc", "jina_clip_v2_1024_000000000000"
Make = Callable[..., JinaClip]


class Naming:
    """A server whose answers say that they are of `space`."""

    def __init__(self, service: Service) -> None:
        self.service, self.space = service, OURS


@pytest.fixture(scope="module")
def running(service: Server) -> Iterator[Naming]:
    upstream = Upstream(service.url)
    naming: Naming
    with Service(jina_face(upstream, lambda: naming.space)) as face:
        naming = Naming(face)
        yield naming
    upstream.close()


@pytest.fixture
def naming(running: Naming) -> Naming:
    running.service.reset()
    running.space = OURS
    return running


@pytest.fixture
def make(naming: Naming, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    made: list[JinaClip] = []

    def make(**options: object) -> JinaClip:
        made.append(JinaClip(**{"base_url": naming.service.url, **options}))
        return made[-1]

    yield make
    for clip in made:
        clip.close()


def test_the_space_that_was_named_is_the_one_that_answers(make: Make) -> None:
    assert make(space=OURS).embed_documents(["a"]).shape == (1, 1024)


async def test_another_space_than_the_named_one_ends_the_call_and_both_are_named(make: Make, run) -> None:
    clip = make(space=OTHER)
    with pytest.raises(ConfigError, match=f"'{OURS}'.*space='{OTHER}'") as caught:
        await run(clip, "embed_documents", ["a", "b"])
    assert not caught.value.partial.ok.any()


def test_a_space_that_changes_under_way_ends_the_call(make: Make, naming: Naming) -> None:
    clip = make()
    clip.embed_documents(["a"])
    naming.space = OTHER
    with pytest.raises(ConfigError, match=f"'{OTHER}', and those before were of '{OURS}'"):
        clip.embed_documents(["b"])
    naming.space = OURS
    assert clip.embed_documents(["c"]).shape == (1, 1024)
    naming.space = OTHER
    assert make().embed_documents(["b"]).shape == (1, 1024), "another object starts anew"


def test_a_service_that_names_no_space_is_taken_at_its_word(make: Make, naming: Naming) -> None:
    clip = make(space=OTHER)
    naming.space = None
    assert clip.embed_documents(["a"]).shape == (1, 1024)


def test_nothing_of_another_space_reaches_the_cache(make: Make, naming: Naming, tmp_path: Path) -> None:
    file = tmp_path / "vectors.sqlite"
    with pytest.raises(ConfigError):
        make(space=OTHER, cache=file).embed_documents(["a", "b"])
    clip = make(cache=file)
    clip.embed_documents(["c"])
    naming.space = OTHER
    with pytest.raises(ConfigError):
        clip.embed_documents(["d"])
    naming.space = OURS
    clip.embed_documents(["a", "b", "c", "d"])
    assert clip.usage.hits == 1, "of the one that was answered in its space"


@pytest.mark.parametrize("dimensions", [None, 256])
def test_what_the_cache_has_is_mixed_with_no_answers_of_another_space(
    make: Make, naming: Naming, tmp_path: Path, dimensions: int | None
) -> None:
    options = {"cache": tmp_path / "vectors.sqlite", "dimensions": dimensions}
    make(**options).embed_documents(["a"])
    naming.space = OTHER
    later = make(**options)
    results = later.embed(["a", "b"])
    assert isinstance(results.stopped, ConfigError)
    assert f"{OTHER!r}, and those that the cache has from it are of another" in str(results.stopped)
    assert results.ok.tolist() == [True, False]
    naming.space = OURS
    assert later.embed_documents(["a", "b"]).shape == (2, dimensions or 1024)
    assert later.usage.hits == 2, "the a, twice"


def test_nothing_that_was_kept_of_the_weights_before_answers_for_those_of_now(
    make: Make, naming: Naming, tmp_path: Path
) -> None:
    file = tmp_path / "vectors.sqlite"
    make(cache=file).embed_documents(["a"])
    make(cache=file, space=OURS).embed_documents(["a"])
    naming.space = OTHER
    clip = make(cache=file, space=OTHER)
    clip.embed_documents(["a"])
    assert clip.usage.hits == 0


def test_merged_with_others_a_call_fails_by_itself(make: Make, naming: Naming, tmp_path: Path) -> None:
    """Requests are merged while a single slot is taken; the objects expect different spaces."""
    clips = [make(space=space, max_concurrency=None) for space in (OURS, OTHER, None)]

    async def ask() -> list[object]:
        calls = [clips[i % 3].aembed_query(f"query {i}") for i in range(60)]
        return await asyncio.gather(*calls, return_exceptions=True)

    came = asyncio.run(ask())
    assert len(naming.service.asked) < 60, "some were merged"
    assert [isinstance(one, ConfigError) for one in came] == [i % 3 == 1 for i in range(60)]


def test_of_a_smaller_width_only_the_constancy_is_known(make: Make, naming: Naming, tmp_path: Path) -> None:
    """With a cache the whole width is asked for, and the space at that width has another name."""
    with pytest.raises(ConfigError):
        make(dimensions=256, space="jina_clip_v2_256_ours").embed_documents(["a"])
    clip = make(dimensions=256, space="jina_clip_v2_256_ours", cache=tmp_path / "vectors.sqlite")
    assert clip.embed_documents(["a"]).shape == (1, 256)
    naming.space = OTHER
    with pytest.raises(ConfigError, match="it serves other weights now"):
        clip.embed_documents(["b"])


def test_settings_of_images_that_a_service_cannot_know_are_part_of_a_name_of_one_s_own(make: Make) -> None:
    assert make(image_resize="pad", space="my_padded_images").embed_documents(["a"]).shape == (1, 1024)


def test_the_name_of_a_space_is_cut_and_cleaned_before_it_is_shown(make: Make, naming: Naming) -> None:
    key = "jina_test_a_secret_of_the_caller"
    naming.space = f"{key} {'x' * 1000}"
    with pytest.raises(ConfigError) as caught:
        make(space=OURS, api_key=key).embed_documents(["a"])
    assert key not in str(caught.value) and len(str(caught.value)) < 400


def test_names_with_what_looks_like_a_key_in_them_are_known_and_told_apart(make: Make, naming: Naming) -> None:
    naming.space = "our_jina_vectors_of_may"
    clip = make(space=naming.space)
    assert clip.embed_documents(["a"]).shape == (1, 1024)
    naming.space = "our_jina_vectors_of_june"
    with pytest.raises(ConfigError):
        clip.embed_documents(["b"])
