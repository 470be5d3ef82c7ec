"""Spans of real calls, made by OpenTelemetry's own SDK: their attributes, parents, events and ends."""

import asyncio
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.trace import SpanKind, StatusCode
from PIL import Image

from jinaclip import JinaClip, JinaClipError, telemetry
from jinaclip.testing.process import Server
from jinaclip.tracing import instrument, uninstrument
from tests.telemetry.spans import record
from tests.tiny import make_checkpoint

ROOT = Path(__file__).parents[2]
PICTURE = Image.new("RGB", (8, 8), "red")


@pytest.fixture
def spans():
    with record() as found:
        yield found


METHODS = [
    ("embed_query", "a", "text", 1, "query"),
    ("embed_queries", ["a", "b"], "text", 2, "query"),
    ("embed_documents", ["a", "b"], "text", 2, "document"),
    ("embed_image", PICTURE, "image", 1, "document"),
    ("embed_images", [PICTURE], "image", 1, "document"),
    ("embed_pairs", [("a", PICTURE)], "pair", 1, "document"),
    ("embed", ["a", PICTURE], "item", 2, "document"),
]


@pytest.mark.parametrize(("method", "items", "kind", "count", "task"), METHODS, ids=[method[0] for method in METHODS])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_each_method_makes_one_span_by_the_conventions(
    jinaclip_client, jinaclip_server, spans, method, items, kind, count, task, is_async
):
    clip = jinaclip_client(dimensions=256)
    if is_async:
        asyncio.run(getattr(clip, f"a{method}")(items))
    else:
        getattr(clip, method)(items)
    span = spans.ours_alone
    assert (span.name, span.kind) == ("embeddings jina-clip-v2", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "jina",
        "gen_ai.request.model": "jina-clip-v2",
        "gen_ai.embeddings.dimension.count": 256,
        "gen_ai.usage.input_tokens": clip.usage.tokens,
        "server.address": "127.0.0.1",
        "server.port": int(jinaclip_server.url.rpartition(":")[2]),
        "jinaclip.task": task,
        "jinaclip.items": count,
        "jinaclip.items.failed": 0,
        "jinaclip.items.kind": kind,
        "jinaclip.cache.hits": 0,
    }
    assert clip.usage.tokens > 0
    assert span.start_time < span.end_time


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_local_call_is_a_span_within_the_process(tmp_path, spans, is_async):
    folder = make_checkpoint(tmp_path / "tiny", "v2")
    with JinaClip(str(folder), backend="local", device="cpu") as clip:
        if is_async:
            asyncio.run(clip.aembed(["a", PICTURE]))
        else:
            clip.embed(["a", PICTURE])
    span = spans.ours_alone
    assert span.kind is SpanKind.INTERNAL
    assert span.attributes["gen_ai.provider.name"] == "jinaclip"
    assert span.attributes["gen_ai.usage.input_tokens"] == clip.usage.tokens > 0
    assert "server.address" not in span.attributes


def test_the_parent_is_the_span_that_is_current_where_the_call_is_made(jinaclip_client, spans):
    clip = jinaclip_client()

    async def ask(name):
        with spans.tracer.start_as_current_span(name):
            await clip.aembed_query(name)

    async def ask_all():
        await asyncio.gather(*(ask(f"query {number}") for number in range(20)))

    with spans.tracer.start_as_current_span("query 20"):
        clip.embed_query("query 20")
    asyncio.run(ask_all())
    callers = {span.context.span_id: span for span in spans.exporter.get_finished_spans()}
    assert len(spans.ours) == 21
    assert {callers[span.parent.span_id].name for span in spans.ours} == {f"query {number}" for number in range(21)}
    assert all(callers[span.parent.span_id].context.trace_id == span.context.trace_id for span in spans.ours)
    assert all(callers[span.parent.span_id].end_time >= span.end_time for span in spans.ours)


def test_retries_are_events(jinaclip_client, jinaclip_server, spans):
    jinaclip_server.configure(script=["status_503", "reset_mid_body"])
    jinaclip_client().embed_documents(["a", "b"])
    found = [(event.name, event.attributes["jinaclip.retry.reason"]) for event in spans.ours_alone.events]
    assert found == [("jinaclip.retry", "HTTP 503"), ("jinaclip.retry", "the connection failed")]
    assert [event.attributes["jinaclip.retry.items"] for event in spans.ours_alone.events] == [2, 2]


def test_waits_are_events_of_all_calls_that_wait_and_of_no_other(jinaclip_client, jinaclip_server, spans):
    """One waits for the rate limit of its key, one comes while it lasts, and one has another key."""
    jinaclip_server.configure(script=["retry_after_seconds"], retry_after=1.5)
    clip, begun = jinaclip_client(), threading.Event()
    telemetry.set_hooks(
        *telemetry.get_hooks(), lambda event: begun.set() if isinstance(event, telemetry.Waiting) else None
    )
    first = threading.Thread(target=clip.embed_documents, args=(["a"],))
    first.start()
    assert begun.wait(30)
    jinaclip_client(api_key="jina_test_another").embed_query("b")
    clip.embed_documents(["c"])
    first.join()
    waits = [[event.attributes["jinaclip.wait.reason"] for event in span.events] for span in spans.ours]
    assert sorted(waits) == [[], ["rate limit of the service"], ["rate limit of the service"]]
    assert waits[0] == []
    assert all(0 < event.attributes["jinaclip.wait.seconds"] < 3 for span in spans.ours for event in span.events)


def raise_for_the_key(server):
    JinaClip(api_key="wrong", base_url=server.url).embed_query("a canary")


def raise_for_an_item(server):
    JinaClip(api_key="jina_test", base_url=server.url).embed_documents(["a canary", ""])


def raise_for_a_refusal(server):
    server.configure(script=["bad_item_400"] * 8)
    JinaClip(api_key="jina_test", base_url=server.url, max_retries=0).embed_documents(["a canary"])


def raise_for_the_budget(server):
    JinaClip(api_key="jina_test", base_url=server.url, token_budget=1).embed_documents(["a canary in its cage"])


@pytest.mark.parametrize("call", [raise_for_the_key, raise_for_an_item, raise_for_a_refusal, raise_for_the_budget])
def test_a_failed_call_says_the_class_of_its_error_and_nothing_of_its_text(jinaclip_server, spans, call):
    with pytest.raises(JinaClipError) as caught:
        call(jinaclip_server)
    span = spans.ours_alone
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == type(caught.value).__name__
    assert not span.status.description
    assert "canary" not in span.to_json()


async def test_a_cancelled_call_ends_its_span(jinaclip_client, jinaclip_server, spans):
    jinaclip_server.configure(base_ms=60_000)
    sent, loop = asyncio.Event(), asyncio.get_running_loop()
    tell = telemetry.EventFilter(lambda event: loop.call_soon_threadsafe(sent.set), telemetry.RequestSent)
    telemetry.set_hooks(*telemetry.get_hooks(), tell)
    task = asyncio.create_task(jinaclip_client().aembed_query("a"))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spans.ours_alone.attributes["error.type"] == "CancelledError"


def test_some_failed_items_of_results_are_no_error(jinaclip_client, spans):
    jinaclip_client().embed(["a", "", "b"])
    span = spans.ours_alone
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes["jinaclip.items"], span.attributes["jinaclip.items.failed"]) == (3, 1)


def test_what_the_cache_has_costs_no_tokens(jinaclip_client, spans, tmp_path):
    clip = jinaclip_client(cache=tmp_path / "vectors")
    clip.embed_documents(["a", "b"])
    clip.embed_documents(["a", "b"])
    _, warm = spans.ours
    assert (warm.attributes["jinaclip.cache.hits"], warm.attributes["gen_ai.usage.input_tokens"]) == (2, 0)


KEY, HEADER = "jina_test_canary0123456789CANARY", "canary of a header"


def test_no_span_holds_an_input_a_key_or_a_header(jinaclip_server, spans):
    jinaclip_server.configure(script=["bad_item_400", "status_500", "retry_after_seconds"], echo_key=True)
    pixels = np.full((4, 4, 3), 7, np.uint8)
    with JinaClip(api_key=KEY, base_url=jinaclip_server.url, headers={"X-Mine": HEADER}) as clip:
        clip.embed(["the canary", pixels, ("x",)], task="query")
        clip.embed(["the canary again"])
    assert len(spans.ours) == 2
    assert all("canary" not in span.to_json().lower() for span in spans.ours)


# -- on and off


def test_twice_is_once_and_off_is_off(jinaclip_client, spans):
    instrument(spans.provider)
    clip = jinaclip_client()
    clip.embed_query("a")
    assert len(spans.ours) == 1
    uninstrument()
    uninstrument()
    clip.embed_query("b")
    assert len(spans.ours) == 1
    assert telemetry.get_hooks() == (telemetry.log_event,)


def test_hooks_of_others_stay(jinaclip_client):
    seen = []
    telemetry.set_hooks(seen.append)
    with record() as spans:
        jinaclip_client().embed_query("a")
    assert telemetry.get_hooks() == (seen.append,)
    assert spans.ours_alone
    assert seen


def test_spans_of_calls_under_way_end_with_the_tracing(jinaclip_client, jinaclip_server, spans):
    jinaclip_server.configure(base_ms=500)
    sent = threading.Event()
    telemetry.set_hooks(*telemetry.get_hooks(), telemetry.EventFilter(lambda _: sent.set(), telemetry.RequestSent))
    thread = threading.Thread(target=jinaclip_client().embed_query, args=("a",))
    thread.start()
    assert sent.wait(30)
    uninstrument()
    assert spans.ours_alone.status.status_code is StatusCode.UNSET
    thread.join()
    assert len(spans.ours) == 1


def test_a_call_that_begins_while_the_tracing_is_switched_off_leaves_no_span_open(jinaclip_client, spans):
    """Its event was on the way to the hook by then."""
    began = []
    tracing = telemetry.get_hooks()[-1]
    telemetry.set_hooks(telemetry.EventFilter(began.append, telemetry.CallStarted), tracing)
    jinaclip_client().embed_documents([])
    uninstrument()
    tracing(replace(began[0], call=-1))
    assert len(spans.ours) == 2


def test_without_opentelemetry_the_error_names_the_extra():
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from jinaclip import MissingDependencyError\nfrom jinaclip.tracing import instrument\n"
        "try:\n    instrument()\nexcept MissingDependencyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'jinaclip[otel]'" in done.stdout


def test_the_module_loads_opentelemetry_only_when_it_is_used():
    program = "import sys, jinaclip.tracing; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_the_program_of_the_page_prints_its_span():
    """As it stands, but for the address of the service."""
    page = (ROOT / "docs" / "watching.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page.split("## Traces\n")[1], re.DOTALL)
    assert 'JinaClip("jina-clip-v2")' in code
    with Server() as server:
        code = code.replace('JinaClip("jina-clip-v2")', f'JinaClip("jina-clip-v2", base_url="{server.url}")')
        code = code.replace("jina_your_key", "jina_test")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert '"gen_ai.operation.name": "embeddings"' in done.stdout
    assert '"name": "the search"' in done.stdout
    assert "red summer dress" not in done.stdout
