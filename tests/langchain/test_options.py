"""Options, keys and copies of JinaClipEmbeddings."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

import cloudpickle
import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.load import dumps
from langchain_core.runnables import ConfigurableField
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import SecretStr, ValidationError

import langchain_jinaclip
from jinaclip import AuthenticationError, ConfigError, ImagePolicy
from jinaclip.errors import ClosedError
from jinaclip.hosts import EmbedderConfig, describe_options
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipDiversifier, JinaClipEmbeddings, JinaClipRetriever, JinaClipTool
from langchain_jinaclip.tool import SearchInput
from tests.langchain.test_embeddings import picture
from tests.needs import skip_without

KEY = "jina_test_secret0123456789secret"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)


def default(field: Any) -> Any:
    return field.default if field.default is not MISSING else field.default_factory()


def test_fields_are_the_options_of_the_core_with_its_names_order_and_defaults() -> None:
    expected = {field.name: default(field) for field in fields(EmbedderConfig)}
    ours = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in JinaClipEmbeddings.model_fields.items()
    }
    assert list(ours) == list(expected)
    assert ours == expected


def test_fields_have_the_types_of_the_core() -> None:
    expected, ours = get_type_hints(EmbedderConfig), get_type_hints(JinaClipEmbeddings)
    for field in fields(EmbedderConfig):
        if field.name != "api_key":  # a Secret there, a SecretStr here once the object is made
            assert ours[field.name] == expected[field.name], field.name
    assert ours["api_key"] == SecretStr | str | None


def test_it_is_an_embeddings() -> None:
    assert issubclass(JinaClipEmbeddings, Embeddings)
    assert isinstance(JinaClipEmbeddings(api_key=KEY), Embeddings)


def test_options_reach_the_core() -> None:
    policy = ImagePolicy(allowed_roots=("/pictures",))
    config = JinaClipEmbeddings(
        api_key=KEY, dimensions=256, timeout=5, image_policy=policy, url_mode="forward"
    ).clip.config
    assert (config.dimensions, config.timeout, config.image_policy, config.url_mode) == (256, 5.0, policy, "forward")
    assert config.key.reveal() == KEY


HINTS = {
    "batchsize": "'batch_size'",
    "apikey": "'api_key'",
    "truncate_dim": "'dimensions'",
    "embedding_dimension": "'dimensions'",
    "cache_folder": "HF_HOME",
    "query_instruction": "instruction",
    "trust_remote_code": "no code",
    "session": "'transport'",
}
"""Options of today's plugins, and what is said of them."""


@pytest.mark.parametrize(("name", "hint"), HINTS.items())
def test_an_option_that_there_is_not_is_refused_with_what_is_meant(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no option '{name}'.*{hint}"):
        JinaClipEmbeddings(api_key=KEY, **{name: 4})


@pytest.mark.parametrize(
    "option",
    [
        {"batch_size": True},
        {"dimensions": "64"},
        {"dimensions": np.float64(64)},
        {"backend": "cloud"},
        {"timeout": None},
        {"timeout": "5"},
        {"normalized": 1},
        {"image_policy": {"max_byte": 1}},
        {"headers": "X-Team: shop"},
        {"headers": {"X-Team": 1}},
        {"transport": 3},
    ],
    ids=str,
)
def test_an_option_of_the_wrong_type_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ConfigError), match=next(iter(option))):
        JinaClipEmbeddings(api_key=KEY, **option)


def test_numbers_of_numpy_are_taken_as_the_core_takes_them() -> None:
    made = JinaClipEmbeddings(api_key=KEY, dimensions=np.int64(512), timeout=np.float32(5))
    assert (made.dimensions, made.clip.dimensions, made.timeout) == (512, 512, 5.0)
    assert (type(made.dimensions), type(made.timeout)) == (int, float)


def test_what_model_dump_gives_makes_the_object_again() -> None:
    policy = ImagePolicy(allowed_roots=(Path("/a"), "/b"), allow_networks=("10.0.0.0/8",), background=(1, 2, 3))
    one = JinaClipEmbeddings(api_key=KEY, image_policy=policy, dimensions=64)
    again = JinaClipEmbeddings(api_key=KEY, **one.model_dump(exclude={"api_key"}))
    assert again.clip.config == one.clip.config
    assert JinaClipEmbeddings(**one.model_dump()).image_policy == policy


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"dimensions": 4096}, {"image_quality": 101}, {"timeout": -1}])
def test_an_option_out_of_range_is_refused_in_the_words_of_the_core(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        JinaClipEmbeddings(api_key=KEY, **option)


def test_options_cannot_be_changed_behind_the_back_of_the_core() -> None:
    embeddings = JinaClipEmbeddings(api_key=KEY)
    with pytest.raises(ValidationError, match="frozen"):
        embeddings.dimensions = 64
    narrow = embeddings.model_copy(update={"dimensions": 64})
    assert narrow.clip.dimensions == narrow.dimensions == 64
    assert narrow.clip.config.key.reveal() == KEY
    with pytest.raises(ConfigError, match="dimensions"):
        embeddings.model_copy(update={"dimensions": 4096})


def test_a_subclass_may_have_fields_of_its_own() -> None:
    class Tagged(JinaClipEmbeddings):
        tag: str = "none"

    assert Tagged(api_key=KEY, tag="a").model_copy(update={"dimensions": 64}).tag == "a"


def test_the_key_is_read_when_the_object_is_made_in_a_stated_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINAAI_API_KEY", "jina_test_b")
    assert JinaClipEmbeddings().api_key == SecretStr("jina_test_b")
    monkeypatch.setenv("JINA_API_KEY", "jina_test_a")
    made = JinaClipEmbeddings()
    monkeypatch.delenv("JINA_API_KEY")
    assert made.api_key == SecretStr("jina_test_a")
    assert made.clip.config.key.reveal() == "jina_test_a"
    assert JinaClipEmbeddings(api_key=KEY).api_key == SecretStr(KEY)


def test_without_a_key_the_api_backend_says_so_at_once_and_the_local_one_needs_none(
    catalogue_checkpoint: str,
) -> None:
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        JinaClipEmbeddings()
    assert JinaClipEmbeddings(model=catalogue_checkpoint, backend="local").api_key is None


@pytest.mark.parametrize("name", ["api_key", "jina_api_key"])
@pytest.mark.parametrize("wrap", [str, SecretStr])
def test_the_key_goes_by_two_names_and_the_model_too(name: str, wrap: Any) -> None:
    made = JinaClipEmbeddings(**{name: wrap(KEY)}, model_name="jina-clip-v1")
    assert made.api_key == SecretStr(KEY)
    assert made.model == made.clip.spec.name == "jina-clip-v1"
    with pytest.raises(ValidationError):
        JinaClipEmbeddings(model="jina-clip-v1", model_name="jina-clip-v2", api_key=KEY)


def test_no_picture_of_the_object_shows_the_key(server: Server) -> None:
    one = JinaClipEmbeddings(api_key=KEY, base_url=server.url)
    one.embed_query("a")
    retriever = JinaClipRetriever(vectorstore=InMemoryVectorStore(one))
    around = [repr(retriever), dumps(retriever), repr(retriever.as_tool()), dumps(retriever.as_tool())]
    helpers = [vars(one.clip), vars(one.clip.config), vars(one.clip._backend)]
    shown = [
        repr(one),
        str(one),
        dumps(one),
        repr(one.model_dump()),
        one.model_dump_json(),
        repr(helpers),
        repr(vars(one)),
    ]
    assert [text for text in shown + around if KEY in text] == []


@pytest.mark.parametrize("wrap", [str, SecretStr])
def test_values_of_headers_reach_the_core_and_are_shown_nowhere(wrap: Any) -> None:
    one = JinaClipEmbeddings(api_key="jina_test_a", headers={"X-Team": wrap(KEY)})
    again = JinaClipEmbeddings(**one.model_dump())
    travelled = pickle.loads(pickle.dumps(one))
    for other in (one, again, copy.copy(one), copy.deepcopy(one), one.model_copy(update={"dimensions": 64}), travelled):
        assert other.clip.config.extra_headers.reveal() == {"X-Team": KEY}
    shown = [repr(one), str(one), dumps(one), repr(one.model_dump()), one.model_dump_json(), repr(vars(one))]
    shown += [repr(travelled), travelled.model_dump_json(), repr(vars(travelled))]
    assert [text for text in [*shown, repr(vars(one.clip))] if KEY in text] == []
    assert json.loads(one.model_dump_json())["headers"] == {"X-Team": "**********"}


def test_an_authorization_among_the_headers_needs_no_key() -> None:
    made = JinaClipEmbeddings(headers={"Authorization": "Basic YTpi"})
    assert made.api_key is None
    assert made.clip.config.authorization.reveal() == "Basic YTpi"
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        JinaClipEmbeddings(headers={"X-Team": "shop"})


def test_a_transport_is_in_no_dump_and_travels_with_copies_and_pickles() -> None:
    one = JinaClipEmbeddings(api_key=KEY, transport=dict)
    assert "transport" not in one.model_dump()
    for other in (one, copy.deepcopy(one), one.model_copy(), pickle.loads(pickle.dumps(one))):
        assert other.transport is other.clip.config.transport is dict


def test_options_have_a_schema() -> None:
    assert {"headers", "transport"} <= JinaClipEmbeddings.model_json_schema()["properties"].keys()


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": KEY, "dimensions": 0},
        {"api_key": "jina_test_a", "headers": {"X-Team": KEY + "\n"}},
        {"api_key": "jina_test_a", "headers": KEY},
        {"api_key": "jina_test_a", "headers": {"X-Team": KEY}, "dimensions": 0},
        {"api_key": KEY, "batch_size": "many"},
        {"apikey": KEY},
        {"jina_api_key": KEY, "colour": "red"},
        {"api_key": KEY + " and more"},
        {"api_key": KEY, "base_url": "ftp://nowhere"},
        {"api_key": KEY.encode()},
        {"token": KEY.encode()},
        {"api_key": "jina_test_a", "base_url": f"https://user:{KEY}@example.org"},
    ],
)
def test_no_error_shows_the_key_nor_does_any_frame(options: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ConfigError, AuthenticationError)) as caught:
        JinaClipEmbeddings(**options)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    frames = [line for line in told if f'File "{__file__}"' not in line]  # the test's own variables hold it by right
    errors = caught.value.errors() if isinstance(caught.value, ValidationError) else []
    assert KEY not in "".join(frames) + str(caught.value) + repr(caught.value) + repr(errors)


def test_no_failure_of_the_service_shows_the_key(make: Any, server: Server) -> None:
    server.configure(echo_key=True)
    with pytest.raises(AuthenticationError) as caught:
        make(api_key="wrong_" + KEY).embed_query("a")
    assert KEY not in "".join(traceback.format_exception(caught.value))


COPIES: dict[str, Callable[[JinaClipEmbeddings], JinaClipEmbeddings]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda one: one.model_copy(),
    "model_copy, deep": lambda one: one.model_copy(deep=True),
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "cloudpickle": lambda one: pickle.loads(cloudpickle.dumps(one)),
    "inside a retriever": lambda one: (
        pickle.loads(pickle.dumps(JinaClipRetriever(vectorstore=InMemoryVectorStore(one), embeddings=one))).embeddings
    ),
}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies_work_afterwards_with_the_key_that_was_given(
    make: Any, duplicate: Any, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make()
    expected = one.embed_query("a") if used else make().embed_query("a")
    for _ in range(2):
        other = duplicate(one)
        assert type(other) is JinaClipEmbeddings
        assert other.embed_query("a") == expected
        assert other.api_key == one.api_key
        assert other.clip.config.key.reveal() == one.api_key.get_secret_value()
        monkeypatch.setenv("JINA_API_KEY", "jina_test_another_account")


@pytest.mark.parametrize("road", ["pickle", "cloudpickle"])
def test_a_key_of_the_environment_is_read_where_the_pickle_is_opened(
    road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JINA_API_KEY", KEY)
    one = JinaClipEmbeddings(headers={"X-Team": "shop"})
    assert KEY.encode() not in pickle.dumps(one) + pickle.dumps(one.clip) + cloudpickle.dumps(one)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_of_the_worker")
    assert COPIES[road](one).clip.config.key.reveal() == "jina_test_of_the_worker"
    assert one.clip.config.key.reveal() == copy.deepcopy(one).clip.config.key.reveal() == KEY
    monkeypatch.delenv("JINA_API_KEY")
    opened = COPIES[road](one)
    with pytest.raises(AuthenticationError, match="JINA_API_KEY in the environment of each process"):
        opened.embed_query("a")


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
def test_a_spawned_worker_embeds(make: Any, given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "refused_by_the_service" if given else "jina_test_worker")
    one = make() if given else make(api_key=None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(one.embed_documents, (["a"],)) == one.embed_documents(["a"])
        pool.close()
        pool.join()


def test_it_is_declared_not_serialisable_and_its_dump_is_harmless() -> None:
    dumped = json.loads(dumps(JinaClipEmbeddings(api_key=KEY)))
    assert dumped["type"] == "not_implemented"
    assert dumped["id"] == ["langchain_jinaclip", "embeddings", "JinaClipEmbeddings"]
    assert KEY not in json.dumps(dumped)


def test_public_names_and_the_type_marker_are_there() -> None:
    assert langchain_jinaclip.__all__ == [
        "JinaClipDiversifier",
        "JinaClipEmbeddings",
        "JinaClipRetriever",
        "JinaClipTool",
        "aadd_documents",
        "add_documents",
    ]
    assert all(getattr(langchain_jinaclip, name).__name__ == name for name in langchain_jinaclip.__all__)
    assert set(langchain_jinaclip.__all__) <= set(dir(langchain_jinaclip))
    assert files("langchain_jinaclip").joinpath("py.typed").is_file()
    with pytest.raises(AttributeError, match="JinaClipEmbedding'"):
        _ = langchain_jinaclip.JinaClipEmbedding


def test_help_and_editors_see_the_options() -> None:
    """Type checkers read the fields, as `__init__` is hidden from them; people and editors read the signature."""
    names = {field.name for field in fields(EmbedderConfig)}
    assert names - {"api_key", "model"} <= set(inspect.signature(JinaClipEmbeddings).parameters)


def test_the_retriever_refuses_what_it_does_not_know(make: Any) -> None:
    store = InMemoryVectorStore(make())
    for options in ({"top_k": 3}, {"k": 0}, {"weight": 1.5}):
        with pytest.raises(ValidationError, match=next(iter(options))):
            JinaClipRetriever(vectorstore=store, **options)


@pytest.mark.parametrize("option", [{"k": 0}, {"k": 2.5}, {"k": True}, {"weight": 1.5}, {"weight": "much"}], ids=str)
async def test_options_of_a_call_are_refused_before_anything_is_paid(make: Any, server: Server, option: Any) -> None:
    store = InMemoryVectorStore(make())
    name = next(iter(option))
    for search in (JinaClipRetriever(vectorstore=store), JinaClipRetriever(vectorstore=store, search_kwargs={"k": 3})):
        with pytest.raises(ConfigError, match=f"{name}="):
            search.invoke({"text": "a", "image": picture(1)}, **option)
        with pytest.raises(ConfigError, match=f"{name}="):
            await search.ainvoke("a", **option)
        with pytest.raises(ConfigError, match=r"'weigth'.*'weight'"):  # some stores would take it and say nothing
            search.invoke("a", weigth=0.5)
    assert server.ledger()["received"] == {}


def test_the_retriever_is_configurable_at_run_time(make: Any) -> None:
    store = InMemoryVectorStore.from_texts(["a", "b", "c"], make())
    retriever = JinaClipRetriever(vectorstore=store).configurable_fields(k=ConfigurableField(id="k"))
    assert len(retriever.invoke("a", {"configurable": {"k": 2}})) == 2


# -- spaces: what names collections and caches

CHANGES: dict[str, tuple[Any, bool]] = {
    "model": ("jina-clip-v1", True),
    "backend": ("local", False),
    "dimensions": (64, True),
    "normalized": (False, True),
    "truncate": (True, False),
    "batch_size": (3, False),
    "max_concurrency": (3, False),
    "max_retries": (1, False),
    "timeout": (7.0, False),
    "deadline": (7.0, False),
    "api_key": ("jina_test_other", False),
    "base_url": ("https://api.jina.ai", False),
    "headers": ({"X-Team": "shop"}, False),
    "transport": (dict, False),
    "wire": ("openai", False),
    "space": ("shop_2026", True),
    "requests_per_minute": (7, False),
    "tokens_per_minute": (7, False),
    "token_budget": (7, False),
    "cache": (False, False),
    "engine": ("torch", False),
    "device": ("cpu", False),
    "dtype": ("float16", False),
    "revision": (None, False),
    "threads": (2, False),
    "image_policy": (ImagePolicy(max_redirects=1), False),
    "image_resize": ("pad", True),
    "image_quality": (90, True),
    "image_decode": ("fast", True),
    "url_mode": ("forward", True),  # the service sees the whole image then
    "show_progress": (True, False),
}
"""Another value of each option, and whether vectors change by it."""


def test_every_option_is_among_those_whose_effect_on_the_space_is_known() -> None:
    assert list(CHANGES) == [field.name for field in fields(EmbedderConfig)]


@pytest.mark.parametrize("option", CHANGES)
def test_the_name_that_collections_and_caches_go_by_changes_with_vectors_and_with_nothing_else(option: str) -> None:
    value, changes = CHANGES[option]
    if value == "local":
        skip_without("torch")
    usual = JinaClipEmbeddings(api_key=KEY)
    other = JinaClipEmbeddings(**{"api_key": KEY, option: value})
    assert (other.clip.space != usual.clip.space) is changes


# -- with, close, aclose


async def test_every_class_is_closed_by_with_and_by_close_again_and_is_usable_afterwards(make: Any) -> None:
    embeddings = make()
    retriever = JinaClipRetriever(vectorstore=InMemoryVectorStore(embeddings))
    others = [retriever, retriever.as_tool(), JinaClipDiversifier(embeddings=embeddings)]
    expected = embeddings.embed_query("a")
    for one in (embeddings, *others):
        with one as entered:
            assert entered is one
        async with one as entered:
            assert entered is one
        one.close()
        await one.aclose()
        assert one.clip is embeddings.clip
        assert embeddings.embed_query("a") == expected


async def test_what_waits_ends_when_any_class_over_the_same_embeddings_is_closed(make: Any, server: Server) -> None:
    server.configure(base_ms=60_000)
    embeddings = make()
    tool = JinaClipRetriever(vectorstore=InMemoryVectorStore(embeddings)).as_tool()
    call = asyncio.ensure_future(embeddings.aembed_query("a"))
    while not await asyncio.to_thread(lambda: server.ledger()["received"]):
        assert not call.done()
    await tool.aclose()
    with pytest.raises(ClosedError):
        await call
    server.reset()


# -- descriptions


@pytest.mark.parametrize(
    "kind", [JinaClipEmbeddings, JinaClipRetriever, JinaClipDiversifier, JinaClipTool, SearchInput]
)
def test_every_field_is_described(kind: Any) -> None:
    """Those that LangChain declares have their words there."""
    told = {**describe_options(EmbedderConfig), **describe_options(kind)}
    schema = kind.model_json_schema()["properties"] if kind in (JinaClipEmbeddings, JinaClipDiversifier) else {}
    own = {
        name: schema.get(name, {}).get("description") or field.description for name, field in kind.model_fields.items()
    }
    assert [name for name, text in own.items() if not (text or told.get(name))] == []


@pytest.mark.parametrize("name", ["api_key", "jina_api_key", "headers"])
def test_no_class_shows_what_it_refuses(make: Callable[..., JinaClipEmbeddings], name: str) -> None:
    """A key that was meant for the embeddings, say."""
    embeddings = make()
    retriever = JinaClipRetriever(vectorstore=InMemoryVectorStore(embeddings))
    makers = [
        lambda **options: JinaClipRetriever(vectorstore=retriever.vectorstore, **options),
        lambda **options: JinaClipDiversifier(embeddings=embeddings, method="mmr", **options),
        retriever.as_tool,
    ]
    for new in makers:
        with pytest.raises(ValidationError, match=name) as caught:
            new(**{name: "sesame"})
        assert "sesame" not in str(caught.value)
