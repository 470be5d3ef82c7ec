"""The methods that LlamaIndex calls: texts and pictures, single and batch, sync and async."""

from __future__ import annotations

import asyncio
import base64
import inspect
import os
import signal
import threading
import time
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    EventPayload,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.embeddings import MultiModalEmbedding, resolve_embed_model
from llama_index.core.postprocessor import SentenceEmbeddingOptimizer
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from PIL import Image as Pillow

import jinaclip
from jinaclip import APIError, AuthenticationError, InputError
from llamaindex_jinaclip import JinaClipEmbedding, label_images
from tests.llamaindex.conftest import Turnstile
from tests.needs import long
from tests.watching import Word


def test_it_is_a_multi_modal_embedding_that_llamaindex_takes_as_one(embed):
    """All abstract methods are there, natively async where they are async."""
    made = embed()
    assert isinstance(made, MultiModalEmbedding)
    assert resolve_embed_model(made) is made
    for kind in ("query", "text", "image"):
        assert f"_get_{kind}_embedding" in vars(JinaClipEmbedding)
        assert inspect.iscoroutinefunction(inspect.unwrap(vars(JinaClipEmbedding)[f"_aget_{kind}_embedding"]))


def test_sentences_of_a_node_are_embedded_in_one_request(embed, server):
    """By LlamaIndex's SentenceEmbeddingOptimizer, which calls a method of its base class that is none of the public."""
    node = NodeWithScore(node=TextNode(text="a red dress|a blue sky|a red skirt"))
    chosen = SentenceEmbeddingOptimizer(embed_model=embed(), percentile_cutoff=0.4, tokenizer_fn=lambda t: t.split("|"))
    chosen.postprocess_nodes([node], query_str="a red dress")
    books = server.ledger()
    assert (books["requests"], books["texts"]) == (2, 4)  # the query, and the sentences


async def test_async_calls_for_texts_start_no_thread_to_read_them(embed):
    """One for each of a thousand calls at once would cost more than the reading."""
    made, texts = embed(), [Word(f"text {i}") for i in range(4)]
    await made.aget_query_embedding(texts[0])
    await made.aget_text_embedding(texts[1])
    await made.aget_text_embedding_batch(texts[2:])
    assert [text.threads for text in texts] == [{threading.current_thread()}] * 4


class Limit(BaseException):
    """The time limit of somebody's task queue."""


class Alarm:
    """Raises a `Limit` in the main thread, once something has happened."""

    def raise_once(self, happened):
        def watch():
            while not happened():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR1)

        threading.Thread(target=watch, daemon=True).start()


@pytest.fixture
def limit():
    def strike(*_):
        raise Limit

    before = signal.signal(signal.SIGUSR1, strike)
    yield Alarm()
    signal.signal(signal.SIGUSR1, before)


async def test_every_method_gives_the_vector_of_the_core(embed, files):
    """Sync and async agree with the core to the last bit, and all are lists of Python floats."""
    made = embed()
    clip = made.clip
    query, text, picture = clip.embed_query("red"), clip.embed_documents(["red"])[0], clip.embed_image(files[0])
    for expected, got in (
        (query, made.get_query_embedding("red")),
        (query, await made.aget_query_embedding("red")),
        (query, made.get_agg_embedding_from_queries(["red"])),
        (query, await made.aget_agg_embedding_from_queries(["red"])),
        (text, made.get_text_embedding("red")),
        (text, await made.aget_text_embedding("red")),
        (text, made.get_text_embedding_batch(["red"])[0]),
        (text, (await made.aget_text_embedding_batch(["red"]))[0]),
        (picture, made.get_image_embedding(files[0])),
        (picture, await made.aget_image_embedding(files[0])),
        (picture, made.get_image_embedding_batch([files[0]])[0]),
        (picture, (await made.aget_image_embedding_batch([files[0]]))[0]),
    ):
        assert type(got) is list
        assert {type(number) for number in got} == {float}
        assert got == expected.tolist()


def test_a_query_is_embedded_with_the_models_instruction_where_it_has_one(embed, server):
    """V2 has one, v1 has none."""
    v2, v1 = embed(), embed(model_name="jina-clip-v1")
    assert v2.get_query_embedding("red") != v2.get_text_embedding("red")
    assert v1.get_query_embedding("red") == v1.get_text_embedding("red")
    assert server.history("text", "red", task="retrieval.query")["answered"] == 1


async def test_a_batch_of_texts_is_one_request_of_embed_batch_size_items(embed, server):
    """Eight texts, three to a batch, are three requests, sync and async."""
    made = embed(embed_batch_size=3)
    items = [f"text {i}" for i in range(8)]
    sync = made.get_text_embedding_batch(items)
    assert server.ledger()["requests"] == 3
    again = await made.aget_text_embedding_batch(items)
    assert (server.ledger()["requests"], server.ledger()["texts"]) == (6, 16)
    assert sync == again


async def test_images_are_sent_as_they_become_ready_each_once(embed, server, files):
    """A request waits for no image that is still being made ready, so there are at most as many as images."""
    made = embed(embed_batch_size=3)
    sync = made.get_image_embedding_batch(files)
    assert server.ledger()["answered"] == {"1": len(files)}
    assert len(files) / 3 <= server.ledger()["requests"] <= len(files)
    assert sync == await made.aget_image_embedding_batch(files)


@pytest.mark.parametrize("kind", ["text", "image"])
async def test_order_and_number_hold_whatever_order_answers_and_batches_come_in(kind, embed, server, files):
    """The server shuffles its rows; batches are under way at once."""
    server.configure(shuffle=True)
    made = embed(embed_batch_size=2)
    items = [f"text {i}" for i in range(8)] if kind == "text" else files
    single = [getattr(made, f"get_{kind}_embedding")(item) for item in items]
    assert getattr(made, f"get_{kind}_embedding_batch")(items) == single
    assert await getattr(made, f"aget_{kind}_embedding_batch")(items) == single
    assert await getattr(made, f"aget_{kind}_embedding_batch")(items[::-1]) == single[::-1]


@pytest.fixture
async def relay(server):
    """An address that is served by the test's own event loop, which passes everything on to the test server."""
    writers = []

    async def pump(reader, writer):
        writers.append(writer)
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    async def connected(reader, writer):
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers))


async def test_async_calls_share_the_event_loop(embed, relay, files):
    """The answers come through this very loop; a call that blocks it would wait for itself."""
    made = embed(base_url=relay, max_retries=0, timeout=20)
    assert len(await made.aget_query_embedding("red")) == 1024
    assert len(await made.aget_text_embedding("red")) == 1024
    assert len(await made.aget_image_embedding(files[0])) == 1024
    assert len(await made.aget_text_embedding_batch(["red", "blue"])) == 2
    assert len(await made.aget_image_embedding_batch(files)) == len(files)
    assert len(await made.acall(label_images([TextNode(text="red"), ImageNode(image_path=files[0])]))) == 2
    await made.clip.aclose()


@pytest.fixture(params=["sync", "async"])
def batch(request):
    """Calls a method for several, either way."""

    async def call(made, kind, items):
        if request.param == "sync":
            return getattr(made, f"get_{kind}_embedding_batch")(items)
        return await getattr(made, f"aget_{kind}_embedding_batch")(items)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("most", [2, long(3)])
@pytest.mark.parametrize("kind", ["text", "image"])
async def test_sync_and_async_calls_have_the_same_number_of_requests_in_flight(kind, most, embed, server, files, batch):
    """As many as `max_concurrency` lets through; LlamaIndex's own sync road sends one after the other, and its
    `num_workers` changes nothing."""
    server.configure(base_ms=500)
    items = [f"text {i}" for i in range(6)] if kind == "text" else files[:6]
    await batch(embed(embed_batch_size=2, max_concurrency=most, num_workers=1), kind, items)
    assert server.ledger()["in_flight_max"] == most
    assert server.ledger()["answered"] == {"1": 6}


async def test_the_rate_limiter_is_asked_for_pictures_as_for_texts(embed, turnstile, files):
    """Once for every batch, sync and async, single and batch."""
    made = embed(embed_batch_size=4, rate_limiter=turnstile)
    made.get_text_embedding_batch(files)
    made.get_image_embedding_batch(files)
    made.get_image_embedding(files[0])
    assert (turnstile.sync, turnstile.asynchronous) == (2 + 2 + 1, 0)
    await made.aget_text_embedding_batch(files)
    await made.aget_image_embedding_batch(files)
    await made.aget_image_embedding(files[0])
    assert (turnstile.sync, turnstile.asynchronous) == (5, 2 + 2 + 1)


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9])
async def test_a_call_takes_a_permit_for_every_batch(count, embed, turnstile, server):
    """One for each request that the core will send, rounded up."""
    made = embed(embed_batch_size=4, rate_limiter=turnstile)
    made.get_text_embedding_batch([f"text {i}" for i in range(count)])
    assert turnstile.sync == server.ledger()["requests"] == -(-count // 4)
    await made.aget_text_embedding_batch([f"text {i}" for i in range(count)])
    assert turnstile.asynchronous == -(-count // 4)


async def test_known_texts_take_no_permit(embed, turnstile, batch):
    """Of nine texts, five are not in `embeddings_cache`; the second time all are."""
    made = embed(embed_batch_size=4, rate_limiter=turnstile, embeddings_cache=SimpleKVStore())
    texts = [f"text {i}" for i in range(9)]
    made.get_text_embedding_batch(texts[:4])
    turnstile.sync = 0
    assert await batch(made, "text", texts) == await batch(made, "text", texts)
    assert turnstile.sync + turnstile.asynchronous == 2


async def test_a_picture_may_come_in_any_form(embed, files):
    """Str, Path, data: URI, bytes, BytesIO, PIL and jinaclip.Image give one vector."""
    made, data = embed(), content(files[0])
    expected = made.get_image_embedding(files[0])
    with Pillow.open(files[0]) as pillow:  # which stays open until its owner closes it
        forms = [files[0], Path(files[0]), data_uri(data), data, BytesIO(data), pillow, jinaclip.Image.from_bytes(data)]
        assert made.get_image_embedding_batch(forms) == [expected] * len(forms)
        assert await made.aget_image_embedding_batch(forms) == [expected] * len(forms)
        assert [made.get_image_embedding(form) for form in forms] == [expected] * len(forms)


def content(name):
    return Path(name).read_bytes()


def damage(name):
    Path(name).write_bytes(content(name)[:300])


def data_uri(data):
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_a_stream_can_be_read_twice_and_from_its_middle(embed, files):
    """LlamaIndex hands the same BytesIO to several readers."""
    made, stream = embed(), BytesIO(Path(files[0]).read_bytes())
    stream.seek(17)
    assert made.get_image_embedding(stream) == made.get_image_embedding(stream) == made.get_image_embedding(files[0])


def test_a_path_outside_the_allowed_roots_is_refused_by_name(embed, files, tmp_path, monkeypatch):
    made = embed()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="allowed_roots"):
        made.get_image_embedding(str(tmp_path / files[0]))
    assert len(made.get_image_embedding(tmp_path / files[0])) == 1024


@pytest.mark.parametrize("kind", ["text", "image"])
async def test_nothing_tuples_and_generators_are_fine_and_a_lone_item_is_not(kind, embed, server, files):
    """Nothing in is nothing out and no request; a lone str is not taken for its letters."""
    made = embed()
    sync, twin = getattr(made, f"get_{kind}_embedding_batch"), getattr(made, f"aget_{kind}_embedding_batch")
    assert sync([]) == await twin([]) == sync(iter(())) == made([]) == await made.acall([]) == []
    assert server.ledger()["requests"] == 0
    assert sync(tuple(files)) == sync(name for name in files) == await twin(name for name in files)
    for lone in (files[0], Path(files[0]), BytesIO(b"x"), b"x", 5):
        with pytest.raises(InputError, match="must be several"):
            sync(lone)
        with pytest.raises(InputError, match="must be several"):
            await twin(lone)


@pytest.mark.parametrize("kind", ["text", "image"])
async def test_an_error_names_the_item_in_the_callers_list(kind, embed, files):
    """LlamaIndex cuts lists into batches; index, message and what was paid for speak of the whole list."""
    made = embed(embed_batch_size=3)
    items = [f"text {i}" for i in range(8)] if kind == "text" else files
    items[4] = " " if kind == "text" else Path("missing.png")
    for call in (
        lambda: getattr(made, f"get_{kind}_embedding_batch")(items),
        lambda: asyncio.run(getattr(made, f"aget_{kind}_embedding_batch")(items)),
    ):
        with pytest.raises(InputError, match=f"{kind} 4") as caught:
            await asyncio.to_thread(call)
        assert caught.value.index == 4


@pytest.mark.parametrize("kind", ["text", "image"])
async def test_a_bad_item_is_refused_before_anything_is_billed(kind, embed, server, files):
    """It stands in the last of three batches, and the first two are not sent, sync or async."""
    made = embed(embed_batch_size=3)
    items = [f"text {i}" for i in range(8)] if kind == "text" else files
    items[7] = " " if kind == "text" else Path("missing.png")
    with pytest.raises(InputError, match=f"{kind} 7"):
        getattr(made, f"get_{kind}_embedding_batch")(items)
    with pytest.raises(InputError, match=f"{kind} 7"):
        await getattr(made, f"aget_{kind}_embedding_batch")(items)
    assert server.ledger()["requests"] == 0


async def test_an_error_keeps_what_was_paid_for_at_its_place(embed, files, batch):
    """One image of the second batch is broken; everything else comes with the error, by the caller's index, the
    same object at two places too."""
    made = embed(embed_batch_size=3)
    damage(files[5])
    expected = made.get_image_embedding(files[0])
    with pytest.raises(InputError, match="image 5") as caught:
        await batch(made, "image", [files[0], files[1], files[0], files[3], files[0], files[5], files[6]])
    partial = caught.value.partial
    assert partial.successes()[0].tolist() == [0, 1, 2, 3, 4, 6]
    assert list(partial.errors) == [caught.value.index] == [5]
    assert [partial.vectors[i].tolist() for i in (0, 2, 4)] == [expected] * 3


async def test_what_the_service_refuses_keeps_what_it_gave(embed, server, batch, hasty):
    """From the third request on the service fails for good; the vectors of the first two are there."""
    made = embed(embed_batch_size=2, max_concurrency=1, max_retries=0)
    server.configure(script=[None, None, *["status_503"] * 40])
    with pytest.raises(APIError) as caught:
        await batch(made, "text", [f"text {i}" for i in range(8)])
    assert caught.value.status == 503
    assert caught.value.partial.successes()[0].tolist() == [0, 1, 2, 3]
    assert server.ledger()["texts"] == 4


async def test_an_error_beside_cached_texts_counts_in_the_callers_list(embed, server, batch, hasty):
    """Of a list with two known texts only the others are sent; the error speaks of the whole list."""
    made = embed(embed_batch_size=4, embeddings_cache=SimpleKVStore())
    made.get_text_embedding_batch(["a", "c"])
    server.configure(poison={"bad": "poison_500"})
    with pytest.raises(InputError, match="text 3") as caught:
        await batch(made, "text", ["a", "b", "c", "bad"])
    assert caught.value.index == 3
    assert caught.value.partial.successes()[0].tolist() == [1]
    assert caught.value.partial.errors.keys() == {3}


async def test_a_refusal_beside_cached_texts_counts_in_the_callers_list(embed, server, batch):
    """Nothing is sent, and what is to be put right is named."""
    made = embed(embeddings_cache=SimpleKVStore())
    made.get_text_embedding_batch(["a", "c"])
    server.reset()
    with pytest.raises(InputError, match="text 3: empty or blank") as caught:
        await batch(made, "text", ["a", "b", "c", " "])
    assert caught.value.index == 3
    assert caught.value.partial.errors.keys() == {1, 3}
    assert str(caught.value.partial.errors[3]) == str(caught.value)
    assert server.ledger()["requests"] == 0


async def test_texts_beside_one_that_failed_are_kept_by_the_cache(embed, server, batch, hasty):
    """The second call pays for what is new alone."""
    made = embed(embeddings_cache=SimpleKVStore())
    server.configure(poison={"bad": "poison_500"})
    with pytest.raises(InputError, match="text 1"):
        await batch(made, "text", ["a", "bad", "c"])
    server.reset()
    await batch(made, "text", ["a", "c"])
    assert server.ledger()["requests"] == 0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
async def test_a_time_limit_of_the_callers_comes_through_with_what_was_made(embed, server, recorder, limit):
    """The exception of a signal handler strikes while the second request hangs; indices are the caller's."""
    made = embed(embed_batch_size=2, max_concurrency=1, embeddings_cache=SimpleKVStore())
    made.get_text_embedding_batch(["a", "c"])
    server.reset()
    server.configure(script=[None, "hang"])
    limit.raise_once(lambda: server.ledger()["requests"] == 2)
    with pytest.raises(Limit) as caught:
        made.get_text_embedding_batch(["a", "b", "c", "d", "e", "f"])
    places, vectors = caught.value.partial.successes()
    assert places.tolist() == [1, 3]
    server.configure(script=[])
    assert vectors.tolist() == made.get_text_embedding_batch(["b", "d"])
    assert recorder.named("EmbeddingEndEvent")[1].chunks == ["a", "b", "c", "d"]


async def test_a_limiter_that_gives_up_ends_the_call_with_its_own_error(embed, server, batch):
    """Whatever it raises, and nothing is sent."""

    class Closed(Turnstile):
        def acquire(self, num_tokens=0):
            raise Limit

        async def async_acquire(self, num_tokens=0):
            raise Limit

    with pytest.raises(Limit):
        await batch(embed(rate_limiter=Closed()), "text", ["a"])
    assert server.ledger()["requests"] == 0


async def test_an_error_of_the_users_store_ends_an_async_call(embed, server):
    """It is raised as it is, and nothing is sent."""

    class Broken(SimpleKVStore):
        async def aget(self, key, collection="data"):
            raise OSError("the disk is gone")

    made = embed(embed_batch_size=1, embeddings_cache=Broken())
    with pytest.raises(OSError, match="the disk is gone"):
        await made.aget_text_embedding_batch(["a", "b", "c"])
    assert server.ledger()["requests"] == 0


async def test_errors_of_the_service_are_errors_of_jinaclip(embed, server, files, hasty):
    """With the status, and never a KeyError, as LlamaIndex's own Jina class raises."""
    made = embed(api_key="wrong")
    for call in (made.get_query_embedding, made.get_text_embedding):
        with pytest.raises(AuthenticationError) as caught:
            call("red")
        assert caught.value.status == 401
    server.configure(script=["status_503"] * 20)
    with pytest.raises(APIError) as caught:
        await embed(max_retries=1).aget_image_embedding(files[0])
    assert caught.value.status == 503


def test_events_tell_of_images_as_of_texts(embed, recorder, files):
    """A start and an end for every call; no image, no key."""
    made = embed(embed_batch_size=4, api_key="jina_test_secret")
    made.get_text_embedding_batch(["a", "b"])
    made.get_image_embedding_batch([*files[:4], Path(files[4]), BytesIO(Path(files[5]).read_bytes())])
    starts, ends = recorder.named("EmbeddingStartEvent"), recorder.named("EmbeddingEndEvent")
    assert [end.chunks for end in ends] == [["a", "b"], [*files[:5], "bytes"]]
    assert [len(end.embeddings) for end in ends] == [2, 6]
    assert [start.model_dict for start in starts] == [made.to_payload()] * 2
    assert "jina_test_secret" not in str(recorder.events)


async def test_events_of_async_images(embed, recorder, files):
    """The same for the async twin and for a single image; a data: URI is not repeated."""
    made = embed(embed_batch_size=4)
    uri = data_uri(content(files[0]))
    await made.aget_image_embedding_batch(files[:4])
    await made.aget_image_embedding(uri)
    assert [end.chunks for end in recorder.named("EmbeddingEndEvent")] == [files[:4], ["str"]]
    assert len(recorder.named("EmbeddingStartEvent")) == 2


def image_forms(files):
    data = content(files[0])
    return [files[0], Path(files[0]), data_uri(data), data, BytesIO(data), Pillow.open(BytesIO(data))]


async def test_handlers_of_the_callback_manager_get_text_alone(embed, files):
    """LlamaIndex's own token counter takes chunks for str; base64 and signatures are not for it."""
    counter = TokenCountingHandler(tokenizer=str.split)
    made = embed(callback_manager=CallbackManager([counter]))
    made.get_image_embedding_batch(image_forms(files))
    await made.aget_image_embedding_batch(image_forms(files))
    for image in image_forms(files):
        made.get_image_embedding(image)
        await made.aget_image_embedding(image)
    encoded = base64.b64encode(content(files[0])).decode()
    nodes = [TextNode(text="red"), ImageNode(image=encoded), ImageNode(text="both", image_path=files[1])]
    made(label_images(nodes))
    prompts = [event.prompt for event in counter.embedding_token_counts]
    assert prompts[:6] == [files[0], files[0], "str", "bytes", "bytes", "pil"]
    assert prompts[-3:] == ["red", "image", f"both\n{files[1]}"]
    assert len(prompts) == 4 * 6 + 3


CALLS = {
    "query": lambda made, node: made.get_query_embedding(" "),
    "text": lambda made, node: made.get_text_embedding(" "),
    "texts": lambda made, node: made.get_text_embedding_batch(["a", " "]),
    "image": lambda made, node: made.get_image_embedding(Path("missing.png")),
    "images": lambda made, node: made.get_image_embedding_batch([Path("missing.png")]),
    "nodes": lambda made, node: made([node]),
    "async query": lambda made, node: asyncio.run(made.aget_query_embedding(" ")),
    "async text": lambda made, node: asyncio.run(made.aget_text_embedding(" ")),
    "async texts": lambda made, node: asyncio.run(made.aget_text_embedding_batch(["a", " "])),
    "async image": lambda made, node: asyncio.run(made.aget_image_embedding(Path("missing.png"))),
    "async images": lambda made, node: asyncio.run(made.aget_image_embedding_batch([Path("missing.png")])),
    "async nodes": lambda made, node: asyncio.run(made.acall([node])),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_start_of_an_event_has_an_end_when_the_call_fails(call, embed, recorder):
    """For the dispatcher and the callback manager, which gets the error itself."""
    handler = LlamaDebugHandler(print_trace_on_end=False)
    made = embed(callback_manager=CallbackManager([handler]))
    with pytest.raises(InputError) as caught:
        CALLS[call](made, ImageNode(image_path="missing.png"))
    assert [len(recorder.named(f"Embedding{name}Event")) for name in ("Start", "End")] == [1, 1]
    assert recorder.named("EmbeddingEndEvent")[0].chunks == []
    [[start, end]] = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert start.payload == {EventPayload.SERIALIZED: made.to_payload()}
    assert end.payload == {EventPayload.EXCEPTION: caught.value}


async def test_an_end_after_an_error_tells_of_the_vectors_that_were_made(embed, files, recorder, batch):
    damage(files[1])
    with pytest.raises(InputError, match="image 1"):
        await batch(embed(), "image", files[:3])
    [end] = recorder.named("EmbeddingEndEvent")
    assert (end.chunks, len(end.embeddings)) == ([files[0], files[2]], 2)


async def test_an_async_call_that_is_cancelled_ends_its_events(embed, recorder, server):
    server.configure(base_ms=2000)
    handler = LlamaDebugHandler(print_trace_on_end=False)
    made = embed(callback_manager=CallbackManager([handler]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.aget_text_embedding_batch(["a"]), 0.2)
    assert [len(recorder.named(f"Embedding{name}Event")) for name in ("Start", "End")] == [1, 1]
    assert len(handler.get_event_pairs(CBEventType.EMBEDDING)[0]) == 2


def test_a_long_list_meets_faults_and_loses_nothing(embed, server, hasty):
    """With a third of the answers spoilt, every text still gets its own vector."""
    texts = [f"text {i}" for i in range(120)]
    made = embed(embed_batch_size=8, max_retries=20)
    calm = made.get_text_embedding_batch(texts)
    server.configure(fault_rate=0.3)
    assert made.get_text_embedding_batch(texts) == calm


async def test_a_bar_follows_answers(embed, server, capsys):
    """While the last of three requests is under way it shows no more than the two that were answered."""
    server.configure(script=[None, None, "hang"])
    made = embed(embed_batch_size=2, max_concurrency=1)
    call = asyncio.create_task(made.aget_text_embedding_batch([f"text {i}" for i in range(6)], show_progress=True))
    while server.ledger()["requests"] < 3:  # noqa: ASYNC110  what happens in the server has no event
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    shown = capsys.readouterr().err
    assert "/6" in shown
    assert "6/6" not in shown
    assert "100%" not in shown
