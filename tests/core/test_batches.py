"""Batches: a host that embeds in calls of its own loses nothing, and errors count in its list."""

from __future__ import annotations

import asyncio

import pytest

from jinaclip import Batches, InputError


@pytest.fixture(params=["sync", "async"])
def finish(request):
    """Runs batches with the calls of a clip, either way, one at a time."""

    def call(batches, clip):
        if request.param == "sync":
            return batches.run(lambda items: clip.embed_documents(items).tolist())

        async def embed(items):
            return (await clip.aembed_documents(items)).tolist()

        return asyncio.run(batches.arun(embed, 1))

    return call


def test_vectors_come_in_the_order_of_the_items_one_request_a_batch(clip, server, finish):
    made = clip(batch_size=3)
    texts = [f"text {i}" for i in range(8)]
    got = finish(Batches(made, "texts", iter(texts)), made).result()
    assert server.ledger()["requests"] == 3
    assert got == made.embed_documents(texts).tolist()
    assert finish(Batches(made, "texts", []), made).result() == []


@pytest.mark.parametrize("workers", [-1, 0, None, 100])
def test_every_number_of_workers_makes_all_vectors(clip, workers):
    made = clip(batch_size=1)

    async def embed(items):
        return (await made.aembed_documents(items)).tolist()

    work = asyncio.run(Batches(made, "texts", ["a", "b", "c"]).arun(embed, workers))
    assert [len(vector) for vector in work.result()] == [1024] * 3


def test_nothing_is_sent_if_an_item_is_bad_and_one_item_is_not_several(clip, server):
    made = clip(batch_size=1)
    with pytest.raises(InputError, match="text 12 is empty") as caught:
        Batches(made, "texts", ["a", "b", " "], [10, 11, 12])
    assert caught.value.index == 12
    for lone in ("a text", b"bytes", 5, {"a": 1}):
        with pytest.raises(InputError, match="must be several"):
            Batches(made, "texts", lone)
    assert server.ledger()["requests"] == 0


def test_an_error_counts_in_the_callers_places_and_holds_what_was_made(clip, server, finish, hasty):
    """The second batch of three has an item that the service cannot embed; the third is not sent."""
    made = clip(batch_size=2)
    server.configure(poison={"bad": "poison_500"})
    work = finish(Batches(made, "texts", ["a", "b", "bad", "c", "d"], [2, 4, 6, 8, 10]), made)
    with pytest.raises(InputError, match="item 6") as caught:
        work.result()
    assert caught.value is work.error
    assert sorted(caught.value.partial.vectors) == [2, 4, 8]
    assert list(caught.value.partial.errors) == [caught.value.index] == [6]
    assert caught.value.partial.vectors[8].tolist() == made.embed_documents(["c"])[0].tolist()
    assert server.history("text", "d")["received"] == 0
