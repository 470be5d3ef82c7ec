"""Outcomes are values: a row or a failure for every item, and one place where indices change."""

import copy
import pickle
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jinaclip import ImagePolicy, InputError, ItemFailure, JinaClip, Pair, Results, Usage, errors, fuse, truncate
from jinaclip.call.call import Call
from jinaclip.call.request import Reader, draft_many
from jinaclip.call.usage import CallMeter, Meter
from jinaclip.errors import AuthenticationError, DeadlineError, ItemError, NotSentError, ServerError
from jinaclip.inputs import Text
from jinaclip.process import Latch
from jinaclip.testing.vectors import expected_vector
from jinaclip.vectors import normalize

PIXELS = Image.new("RGB", (512, 512), "red")  # one tile of v2, so that it is sent as it is
BAD_FILE = b"\xff\xd8\xff no JPEG"


def rows(*numbers):
    """A row for each number, NaN for None."""
    return np.array([[np.nan if number is None else number] * 3 for number in numbers], np.float32)


def failure(index, text="broken", name="image"):
    return ItemFailure(InputError(text), index, name)


# -- the values alone


@pytest.mark.parametrize(
    ("index", "name", "text"),
    [(3, "image", "image 3: broken"), (None, "text", "the text: broken"), (3, "document 'x'", "document 'x': broken")],
)
def test_a_failure_says_which_item_when_it_is_shown(index, name, text):
    one = ItemFailure(InputError("broken"), index, name)
    assert str(one) == text
    assert str(one.reason) == "broken"
    error = one.error()
    assert (type(error), str(error), error.index) == (InputError, text, index)


def test_an_error_keeps_its_class_and_its_facts():
    reason = ItemError("refused", status=422, request_id="abc", attempts=3)
    error = ItemFailure(reason, 7, "text").error()
    assert isinstance(error, ItemError)
    assert (error.status, error.request_id, error.attempts, error.index) == (422, "abc", 3, 7)
    assert reason.index is None


def test_results_know_their_successes():
    results = Results(rows(1, None, 3), {1: failure(1)})
    assert results.ok.tolist() == [True, False, True]
    places, vectors = results.successes()
    assert places.tolist() == [0, 2]
    np.testing.assert_array_equal(vectors, rows(1, 3))
    assert "2 of 3" in repr(results)
    assert len(results) == 3


def test_at_renumbers_errors_and_places_and_nothing_else():
    results = Results(rows(1, None, 3), {1: failure(1)}, Usage(tokens=5)).at([10, 20, 30])
    assert list(results.errors) == [results.errors[20].index] == [20]
    assert str(results.errors[20]) == "image 20: broken"
    assert results.successes()[0].tolist() == [10, 30]
    np.testing.assert_array_equal(results.vectors, rows(1, None, 3))
    assert results.usage.tokens == 5
    with pytest.raises(InputError, match="image 20: broken") as caught:
        results.unwrap()
    assert caught.value.index == 20
    assert caught.value.partial is results


@pytest.mark.slow
@given(st.data())
def test_at_can_be_applied_again(data):
    """A cache within a batch within a list: each only knows its own neighbour."""
    count = data.draw(st.integers(1, 8))
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    first = data.draw(st.permutations(range(12)))[:count]
    second = data.draw(st.permutations(range(40)))[:12]
    results = Results(rows(*(None if i in bad else i for i in range(count))), {i: failure(i) for i in bad})
    moved = results.at(first).at(second)
    assert sorted(moved.errors) == sorted(second[first[i]] for i in bad)
    assert {one.index for one in moved.errors.values()} == set(moved.errors)
    good = [i for i in range(count) if i not in bad]
    assert moved.successes()[0].tolist() == [second[first[i]] for i in good]
    np.testing.assert_array_equal(moved.successes()[1], rows(*good) if good else np.empty((0, 3)))


@pytest.mark.parametrize(
    "places", [[0, 1], [0, 7, 7], [0.0, 1.0, 2.0], [True, False, True], [-1, 0, 1], [[0], [1], [2]]]
)
def test_places_that_are_no_indices_are_refused(places):
    with pytest.raises(IndexError):
        Results(rows(1, 2, 3)).at(places)


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "JinaClipError"])
def test_every_error_says_which_item_it_is_about(name):
    error = ItemFailure(getattr(errors, name)("broken"), 3, "document 17").error()
    assert str(error) == "document 17: broken"
    assert error.index == 3


def test_an_error_of_an_adapter_s_own_class_keeps_its_class():
    class OwnError(InputError):
        def __init__(self, first, second):
            super().__init__(f"{first} {second}")

    error = ItemFailure(OwnError("a", "b"), 3, "text").error()
    assert isinstance(error, OwnError)
    assert str(error) == "text 3: a b"


def test_what_stopped_a_call_keeps_no_image_alive(clip, server):
    server.configure(script=["auth_401"] * 9)
    results = clip().embed([np.zeros((64, 64, 3), np.uint8)])
    assert results.stopped.__traceback__ is None
    assert results.stopped.__context__ is results.stopped.__cause__ is None


def test_unwrap_raises_what_stopped_the_call_first():
    stop = AuthenticationError("the service refuses this key", status=401)
    results = Results(rows(None, None), {0: failure(0), 1: failure(1)}, stopped=stop)
    for _ in range(2):
        with pytest.raises(AuthenticationError) as caught:
            results.unwrap()
        assert caught.value.partial is results
    assert stop.partial is None
    assert stop.__traceback__ is None


def test_results_travel_in_pickles():
    results = Results(rows(1, None), {1: ItemFailure(ItemError("no", status=400), 1, "text")}, Usage(items=1))
    for there in (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)):
        np.testing.assert_array_equal(there.vectors, results.vectors)
        assert str(there.errors[1]) == "text 1: no"
        assert there.errors[1].error().status == 400


@pytest.mark.parametrize(
    "use", [lambda x: fuse(x, x), lambda x: truncate(x, 2), normalize], ids=["fuse", "cut", "unit"]
)
def test_rows_without_a_vector_are_refused_by_index(use):
    with pytest.raises(InputError, match=r"row 2 of .*successes") as caught:
        use(rows(1, 2, None, None))
    assert caught.value.index == 2


# -- over a real service


def check_row(row, kind, content):
    np.testing.assert_allclose(row, expected_vector(kind, content), atol=1e-6)


async def test_texts_images_and_pairs_mix_and_stay_in_order(server, clip, run):
    results = await run(
        clip(), "embed", ["a red dress", PIXELS, Pair("a red dress", PIXELS, 0.3), Pair("a hat", PIXELS)]
    )
    assert results.ok.all()
    assert not results.errors
    text, image = expected_vector("text", "a red dress"), expected_vector("image", PIXELS)
    check_row(results.vectors[0], "text", "a red dress")
    check_row(results.vectors[1], "image", PIXELS)
    np.testing.assert_allclose(results.vectors[2], fuse(text, image, 0.3), atol=1e-6)
    assert server.ledger()["answered"] == {"1": 3}, "two texts and one image, each once"
    assert results.usage.items == 3


async def test_an_item_that_fails_costs_only_its_own_row(clip, run):
    items = ["good", "", BAD_FILE, PIXELS, 7, Pair("good", BAD_FILE), Pair(" ", PIXELS), "also good"]
    for source in (items, iter(items)):
        results = await run(clip(), "embed", source)
        assert results.ok.tolist() == [True, False, False, True, False, False, False, True]
        assert sorted(results.errors) == [1, 2, 4, 5, 6]
        assert all(str(index) in str(one) for index, one in results.errors.items())
        assert results.stopped is None
        check_row(results.vectors[0], "text", "good")
        check_row(results.vectors[7], "text", "also good")


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64," + "iVBORw0KGgo" * 9,
        " DATA:image/svg+xml,%3Csvg%3E ",
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1" + bytes(range(32)) * 20).decode("latin-1"),
        "\ufffd" * 50,
    ],
    ids=["uri", "svg", "file", "undecoded"],
)
async def test_a_str_that_is_an_image_or_binary_is_no_text(server, clip, run, text):
    results = await run(clip(), "embed", ["a text about data: URIs, such as data:image/png", text])
    assert results.ok.tolist() == [True, False]
    assert text[:30] not in str(results.errors[1])
    for method in ("embed_documents", "embed_queries"):
        with pytest.raises(InputError, match="text 0"):
            await run(clip(), method, [text])
    assert server.ledger()["requests"] == 1


async def test_a_path_that_is_a_str_is_a_text_in_embed(clip, run):
    check_row((await run(clip(), "embed", ["dress.jpg"])).vectors[0], "text", "dress.jpg")


@pytest.mark.parametrize("one", ["a text", Pair("a", PIXELS), PIXELS, b"bytes", None, 7, {"text": "a"}])
async def test_one_item_is_not_several(server, clip, run, one):
    with pytest.raises(InputError, match="several"):
        await run(clip(), "embed", one)
    assert server.ledger()["requests"] == 0


async def test_queries_are_queries_one_by_one_or_many(server, clip, run):
    one = clip()
    many = await run(one, "embed_queries", ["a dress", "a hat"])
    np.testing.assert_array_equal(many[1], await run(one, "embed_query", "a hat"))
    mixed = await run(one, "embed", ["a dress", PIXELS], task="query")
    np.testing.assert_allclose(mixed.vectors[0], many[0], atol=1e-6)
    assert not np.allclose(many[0], await run(one, "embed_documents", ["a dress"]))
    check_row(mixed.vectors[1], "image", PIXELS)


async def test_a_thousand_queries_are_a_few_requests(server, clip, run):
    assert (await run(clip(batch_size=100), "embed_queries", [f"query {i}" for i in range(1000)])).shape == (1000, 1024)
    assert server.ledger()["requests"] == 10


async def test_usage_is_that_of_the_call_alone(server, clip, run):
    one = clip()
    first = await run(one, "embed", ["a", "b", "c"])
    second = await run(one, "embed", ["d"])
    assert (first.usage.items, second.usage.items) == (3, 1)
    assert first.usage + second.usage == one.usage
    assert one.usage.tokens == server.ledger()["tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("done", [0, 50, 99])
async def test_a_failure_of_the_whole_call_keeps_what_was_done(server, clip, run, done):
    """At 0, 50 and 99 of 100: what was embedded is there, the others say that they were not sent."""
    server.configure(script=[None] * done + ["auth_401"])
    texts = [f"text {number}" for number in range(100)]
    results = await run(clip(batch_size=1, max_concurrency=1), "embed", texts)
    assert isinstance(results.stopped, AuthenticationError)
    assert results.successes()[0].tolist() == list(range(done))
    assert sorted(results.errors) == list(range(done, 100))
    assert type(results.errors[done].reason) is AuthenticationError, "it was sent"
    assert {type(results.errors[index].reason) for index in range(done + 1, 100)} <= {NotSentError}
    for index in range(done):
        check_row(results.vectors[index], "text", texts[index])
    with pytest.raises(AuthenticationError) as caught:
        results.unwrap()
    assert caught.value.partial is results
    assert results.usage.items == done


async def test_what_the_end_of_a_call_left_is_told_from_what_failed_by_itself(server, clip, run):
    server.configure(script=[None, *["auth_401"] * 9])
    own = await run(clip(batch_size=1, max_concurrency=1), "embed", ["a", " ", "b"])
    assert {place: one.left for place, one in own.errors.items()} == {1: False, 2: True}
    server.configure(script=[None, "auth_401"])
    refused = await run(clip(batch_size=1, max_concurrency=1), "embed", ["a", "b", "c"])
    assert all(one.left for one in refused.errors.values())
    assert refused.at([2, 1, 0]).errors[0].left


@pytest.mark.parametrize("done", [0, 5, 9])
async def test_an_exception_of_the_caller_s_own_carries_the_results(clip, run, done):
    class OwnError(Exception):
        pass

    one = clip(batch_size=1, max_concurrency=1)

    def items():
        yield from (f"text {number}" for number in range(done))
        while one.usage.items < done - 1:
            time.sleep(0.01)
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine") as caught:
        await run(one, "embed", items())
    places, vectors = caught.value.partial.successes()
    assert places.tolist() == list(range(len(places)))
    assert len(places) == one.usage.items >= done - 1
    for index, row in zip(places, vectors, strict=True):
        check_row(row, "text", f"text {index}")


async def test_a_list_with_a_bad_item_is_refused_before_anything_is_sent(server, clip, run):
    with pytest.raises(InputError, match="text 1") as caught:
        await run(clip(), "embed_documents", ["one", "", "three"])
    assert server.ledger()["requests"] == 0
    assert not caught.value.partial.ok.any()
    assert isinstance(caught.value.partial.errors[2].reason, NotSentError)


async def test_equal_texts_share_a_failure_as_they_share_a_vector(server, clip, run):
    server.configure(poison={"bad": "bad_item_unnamed_400"})
    results = await run(clip(max_retries=0), "embed", ["bad", "good", "bad", Pair("bad", BAD_FILE)])
    assert results.ok.tolist() == [False, True, False, False]
    assert [str(results.errors[index])[:6] for index in (0, 2)] == ["text 0", "text 2"]


async def test_a_call_that_stops_between_the_halves_of_a_pair_keeps_its_results(server, clip, run):
    server.configure(script=["auth_401"] * 99)
    items = ["x", *(Pair(f"text {i}", np.full((9, 9, 3), i, np.uint8)) for i in range(6))]
    results = await run(clip(batch_size=1, max_concurrency=1, max_retries=0), "embed", items)
    assert isinstance(results.stopped, AuthenticationError)
    assert sorted(results.errors) == list(range(7))


def test_a_call_that_was_concluded_gives_out_nothing_more():
    """Threads may still read and send for a caller that has left with what there was."""
    request = draft_many(iter(["one", "two", Pair("three", PIXELS)]), Reader(ImagePolicy()).item, "item").request()
    call = Call(request, 3, CallMeter(Meter()))
    inputs = call.inputs()
    assert next(inputs)[0] == 0
    call.stop()
    results = call.conclude()
    call.stopped = Latch()  # as a thread sees it that had looked just before
    assert list(inputs) == []
    call.note_sent([0])
    assert len(results) == 1
    assert isinstance(results.errors[0].reason, NotSentError)


async def test_an_error_of_ours_from_the_caller_s_iterator_is_the_caller_s(clip, run):
    def items():
        yield "good"
        raise InputError("mine", index=7)

    with pytest.raises(InputError, match="mine") as caught:
        await run(clip(), "embed", items())
    assert caught.value.partial is not None


async def test_a_budget_counts_what_can_be_embedded(clip, run):
    one = clip(token_budget=10**6, image_resize="none")
    results = await run(one, "embed", ["a", b"not an image"])
    assert results.ok.tolist() == [True, False]
    with pytest.raises(InputError, match="image 1") as caught:
        one.estimate(["a", b"not an image"])
    assert caught.value.index == 1


class Broken:
    """Draws itself, or not."""

    def __init__(self, render):
        self.render = render


@pytest.mark.parametrize(
    "item", [Text(""), Text("data:image/png;base64,iVBORw0KGgo="), Text(5), Broken(None), Broken(lambda most: 1 / 0), 5]
)
async def test_odd_items_fail_alone(clip, run, item):
    results = await run(clip(), "embed", ["good", item])
    assert results.ok.tolist() == [True, False]
    assert "URL," not in str(results.errors[1]), "a str would be a text"


async def test_views_of_a_dict_are_held_like_lists(server, clip, run):
    with pytest.raises(InputError, match="text 1"):
        await run(clip(), "embed_documents", {"a": 1, "": 2}.keys())
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("method", ["embed", "embed_documents", "embed_query"])
async def test_the_deadline_is_that_of_the_whole_call(server, clip, run, method):
    server.configure(script=["status_503"] * 50)
    one = clip(deadline=0.3, max_retries=50)
    call = run(one, method, "a" if method == "embed_query" else ["a"])
    if method == "embed":
        assert isinstance((await call).stopped, (DeadlineError, ServerError))
    else:
        with pytest.raises((DeadlineError, ServerError)):
            await call


async def test_a_deadline_ends_a_call_whose_requests_succeed(server, clip, run):
    server.configure(base_ms=100)
    texts = [f"text {number}" for number in range(100)]
    results = await run(clip(deadline=0.5, batch_size=1, max_concurrency=1), "embed", texts)
    assert isinstance(results.stopped, DeadlineError)
    assert "deadline=0.5" in str(results.stopped)
    assert 0 < results.ok.sum() < 50


@pytest.mark.parametrize("method", ["embed_documents", "embed_query"])
async def test_the_deadline_holds_on_the_local_backend_too(catalogue_checkpoint, run, method):
    one = JinaClip(catalogue_checkpoint, backend="local", device="cpu", deadline=1e-6)
    one.load()
    with pytest.raises(DeadlineError, match="deadline"):
        await run(one, method, "a" if method == "embed_query" else ["a red dress"] * 3 + ["b"])
    assert one.usage.items <= 4
