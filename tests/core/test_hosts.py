"""What adapters call: how a host's items are read, and where."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import ConfigError, Image, ImagePolicy, InputError, hosts
from jinaclip.hosts import EmbedderConfig
from tests.watching import Word


class Place(os.PathLike):
    """A path that remembers which threads asked for it."""

    def __init__(self, path):
        self.path, self.threads = path, set()

    def __fspath__(self):
        self.threads.add(threading.current_thread())
        return self.path


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """The name of a picture in the working directory."""
    monkeypatch.chdir(tmp_path)
    Pillow.fromarray(np.zeros((4, 4, 3), np.uint8)).save("a.png")
    return "a.png"


@pytest.mark.parametrize("call", ["several", "query", "query of a kind"])
async def test_texts_as_they_stand_need_no_thread(clip, call):
    """One for each of a thousand calls at once would cost more than the reading."""
    one, text = clip(), Word("red")
    if call == "several":
        results = await hosts.aembed(one, [text], kind="text")
    else:
        results = await hosts.aembed_query(one, text, **({"kind": "text"} if call == "query of a kind" else {}))
    assert results.ok.all()
    assert text.threads == {threading.current_thread()}


@pytest.mark.parametrize("urgent", [True, False])
async def test_several_items_for_which_somebody_waits_are_retried_as_a_query_is(clip, server, hasty, urgent):
    """Twice at most, whatever `max_retries` says; in one call all the same."""
    server.configure(script=["status_503"] * 5)
    one = clip(max_retries=5)
    if urgent:
        results = await hosts.aembed(one, ["red"], kind="text", task="query", urgent=True)
    else:
        results = hosts.embed(one, ["red"], kind="text", task="query")
    assert (results.ok.all(), server.ledger()["requests"]) == ((False, 3) if urgent else (True, 6))


def test_a_model_and_a_width_are_refused_as_far_as_they_are_known(tmp_path, monkeypatch):
    """Of weights of one's own nothing is known before they are read, also of a folder that has a model's name."""
    for model, dimensions, hosted in (
        ("jina-clip-v3", None, True),
        ("somebody/jina-clip-v2", None, True),
        ("jina-clip-v2", 1025, True),
        ("jinaai/jina-clip-v2", 0, False),
        ("jina-clip-v1", 512, False),
    ):
        with pytest.raises(ConfigError, match="is unknown" if dimensions is None else "does not fit"):
            hosts.check_model(model, dimensions, hosted=hosted)
    hosts.check_model("jina-clip-v2", 1024, hosted=True)
    hosts.check_model("somebody/jina-clip-v2", 5000, hosted=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jina-clip-v2").mkdir()
    hosts.check_model("jina-clip-v2", 5000, hosted=False)


@pytest.mark.parametrize("call", ["several", "query", "converted"])
async def test_what_may_look_at_a_file_runs_in_a_thread(clip, picture, call):
    """Paths, and whatever an adapter's `convert` does, of a str too: it may be a path."""
    one, place, name, threads = clip(), Place(picture), Word(picture), set()

    def convert(item):
        threads.add(threading.current_thread())
        return Image.from_path(item)

    if call == "several":
        results = await hosts.aembed(one, [place], kind="image")
    elif call == "query":
        results = await hosts.aembed_query(one, place)
    else:
        results = await hosts.aembed_query(one, name, convert)
    assert results.ok.all()
    assert (threads | place.threads).isdisjoint({threading.current_thread()})
    assert threads | place.threads


@pytest.mark.parametrize("query", [False, True])
async def test_the_kind_says_what_a_str_is(clip, server, picture, query):
    """As one of several texts it is a text, as one of several images the path of one; sync and async alike."""
    one = clip()

    async def embed(item, kind):
        if query:
            found = hosts.embed_query(one, item, kind=kind), await hosts.aembed_query(one, item, kind=kind)
        else:
            found = hosts.embed(one, [item], kind=kind), await hosts.aembed(one, [item], kind=kind)
        assert np.array_equal(*(results.vectors for results in found), equal_nan=True)
        return found[1]

    text, image = await embed(picture, "text"), await embed(picture, "image")
    assert (server.ledger()["texts"], server.ledger()["images"]) == (2, 2)
    assert not np.array_equal(text.vectors, image.vectors)
    refused = await embed(Path(picture), "text")
    with pytest.raises(InputError, match=r"text( 0)?: must be a str"):
        refused.unwrap()
    assert server.ledger()["texts"] == 2


# Descriptions


@pytest.mark.parametrize("options", [EmbedderConfig, ImagePolicy])
def test_every_option_of_the_core_is_described_where_it_is_declared_and_nothing_else_is(options):
    told = hosts.describe_options(options)
    assert list(told) == [field.name for field in dataclasses.fields(options)]
    assert not [text for text in told.values() if not text or "\n" in text or "  " in text]


class Base:
    """A class of a host.

    Args:
        store: where vectors
            are kept.
        device: the host's own.

    Raises:
        nothing: this is no argument.
    """


class Derived(Base):
    """Has an option of its own."""

    store: str
    top_k: int
    """Most results,
    at most."""
    def_: int = 3


def test_a_description_is_the_class_s_own_else_that_of_a_base_else_that_of_the_core():
    names = ["store", "top_k", "def_", "nothing", "device", "model_name", "timeout", "unknown", "title"]
    schema = {"properties": {name: {"type": "string"} for name in names}}
    schema["properties"]["title"]["description"] = "was there"
    hosts.describe_fields(schema, Derived, {"model_name": "model"})
    core = hosts.describe_options(EmbedderConfig)
    assert {name: field.get("description") for name, field in schema["properties"].items()} == {
        "store": "where vectors are kept.",
        "top_k": "Most results, at most.",
        "def_": None,
        "nothing": None,
        "device": "the host's own.",
        "model_name": core["model"],
        "timeout": core["timeout"],
        "unknown": None,
        "title": "was there",
    }


def test_without_source_a_schema_has_what_docstrings_of_classes_say():
    made = type("Made", (Base,), {"__module__": "nowhere"})
    assert hosts.describe_options(made) == {"store": "where vectors are kept.", "device": "the host's own."}


# Closing


class Searcher(hosts.Closing):
    """Of a host."""

    def __init__(self, clip):
        self._clip = clip

    @property
    def clip(self):
        return self._clip


async def test_what_embeds_through_a_clip_closes_it_and_works_again_afterwards(clip, server):
    one = Searcher(clip())

    async def connections():
        await one.clip.aembed_query("red")
        return server.ledger()["connections"]

    with one as entered:
        assert entered is one
        assert await connections() == await connections() == 1
    assert await connections() == 2
    async with one as entered:
        assert entered is one
    await one.aclose()
    one.close()
    assert await connections() == 3
