"""What all five embedders share: options, keys, life, serialisation."""

from __future__ import annotations

import ast
import asyncio
import base64
import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
import traceback
import typing
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import docstring_parser
import pytest
from haystack import Pipeline, component, default_from_dict
from haystack.core.errors import DeserializationError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Device, DeviceMap, Secret

import haystack_jinaclip
from haystack_integrations.components.embedders import jinaclip as embedders
from haystack_integrations.components.embedders.jinaclip._options import ClipOptions
from haystack_integrations.components.rankers import jinaclip as rankers
from haystack_integrations.components.retrievers import jinaclip as retrievers
from haystack_integrations.components.routers import jinaclip as routers
from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
    JinaClipZeroShotRouter,
)
from jinaclip import AuthenticationError, BudgetError, ConfigError, ImagePolicy, JinaClipError
from jinaclip.hosts import EmbedderConfig
from tests.haystack.conftest import ALL, EMBEDDERS, QUERIES, new, options_of

KINDS = ("embedders", "rankers", "retrievers", "routers")
SOURCE = Path(haystack_jinaclip.__file__).parents[1]
OWN = {
    "api_key": "a Secret",
    "device": "None stands for auto",
    "headers": "values are Secrets",
    "image_policy": "plain values for YAML",
}
QUERY, RANKER, ROUTER = ALL[2], *ALL[6:]
TEXT_ONLY = {"prefix", "suffix", "truncate"}
CONTENT = TEXT_ONLY | {"meta_fields_to_embed", "embedding_separator"}
PICTURE = {"image_policy", "image_resize", "image_quality", "image_decode", "url_mode"}
LISTS = {"batch_size", "progress_bar", "raise_on_failure"}
FILES = PICTURE | {"file_path_meta_field", "root_path"}
FUSED = CONTENT | FILES | LISTS | {"weight"}
SPECIAL = {
    ALL[0]: TEXT_ONLY,
    ALL[1]: PICTURE,
    QUERY: TEXT_ONLY | PICTURE | {"weight"},
    ALL[3]: CONTENT | LISTS,
    ALL[4]: FILES | LISTS,
    ALL[5]: FUSED,
    RANKER: FILES | LISTS | {"top_k", "clusters", "method", "lambda_mult", "seed", "document_store", "embed_missing"},
    ROUTER: FUSED | {"labels", "template", "temperature"},
}
CHANGED = {
    "api_key": Secret.from_env_var("MY_KEY", strict=False),
    "model": "jina-clip-v1",
    "backend": "api",
    "normalized": False,
    "truncate": True,
    "batch_size": 7,
    "max_concurrency": 3,
    "max_retries": 1,
    "timeout": 5.0,
    "deadline": 20.0,
    "headers": {"X-Team": Secret.from_env_var("MY_TEAM", strict=False)},
    "transport": dict,
    "wire": "jina",
    "space": "ours",
    "base_url": "https://example.org/v1/embeddings",
    "requests_per_minute": 10,
    "tokens_per_minute": 1000,
    "token_budget": 5000,
    "cache": "vectors.sqlite",
    "engine": "torch",
    "device": ComponentDevice.from_str("cuda:1"),
    "dtype": "float32",
    "revision": "main",
    "threads": 2,
    "dimensions": 768,
    "prefix": "a ",
    "suffix": " z",
    "meta_fields_to_embed": ["name"],
    "embedding_separator": " ",
    "progress_bar": False,
    "raise_on_failure": False,
    "image_policy": {"allowed_roots": ["/tmp"], "max_pixels": 1000},
    "image_resize": "pad",
    "image_quality": 90,
    "image_decode": "fast",
    "url_mode": "forward",
    "file_path_meta_field": "path",
    "root_path": "/data",
    "weight": 0.3,
    "top_k": 7,
    "clusters": 3,
    "method": "mmr",
    "lambda_mult": 0.3,
    "seed": 9,
    "document_store": InMemoryDocumentStore(),
    "embed_missing": False,
    "labels": ["shirt", "shoe", "hat"],
    "template": "{}",
    "temperature": 0.1,
}


@pytest.mark.parametrize("kind", ALL)
def test_every_class_is_a_component_whose_two_runs_agree(kind) -> None:
    """Construction checks it; sockets come from `run`, and the class is known by its full name."""
    made = new(kind)
    assert made.__haystack_supports_async__
    outputs = {RANKER: ["documents", "meta"], ROUTER: ["dress", "coat", "failed_documents", "meta"]}
    outputs |= {one: ["embedding", "meta"] for one in QUERIES}
    wanted = outputs.get(kind, ["documents", "failed_documents", "meta"])
    assert list(made.__haystack_output__._sockets_dict) == wanted
    assert component.registry[f"{kind.__module__}.{kind.__name__}"] is kind
    folder = {RANKER: "rankers", ROUTER: "routers"}.get(kind, "embedders")
    assert kind.__module__.startswith(f"haystack_integrations.components.{folder}.jinaclip.")


@pytest.mark.parametrize("kind", ALL)
def test_options_have_the_names_types_and_defaults_of_the_core(kind) -> None:
    """Those that a host writes otherwise are listed here."""
    core = {item.name: item for item in fields(EmbedderConfig)}
    mine = options_of(kind)
    wanted = typing.get_type_hints(EmbedderConfig)
    shared = mine.keys() & core.keys() - OWN.keys()
    for name in shared:
        assert mine[name].annotation == wanted[name], name
        assert mine[name].default == core[name].default, name
    everywhere = core.keys() - {"truncate", "batch_size", "show_progress"} - PICTURE
    assert mine.keys() == everywhere | SPECIAL[kind]


@pytest.mark.parametrize("kind", ALL)
def test_a_component_inherits_from_no_component(kind) -> None:
    """A ranker is no embedder, and no component is its options; what they do alike is in plain bases."""
    bases = [base for base in kind.__mro__[1:] if base is not object]
    assert not [base for base in bases if base in component.registry.values() or issubclass(base, ClipOptions)]
    assert not [base for base in bases if base.__module__.startswith("haystack.")]


@pytest.mark.parametrize("kind", ALL)
def test_an_option_cannot_be_changed_after_the_component_was_made(kind) -> None:
    """It would have no effect, or only on a part of what follows from it."""
    made = new(kind)
    with pytest.raises(FrozenInstanceError):
        made.options.timeout = 1.0


@pytest.mark.parametrize("kind", ALL)
def test_customary_parameters_can_be_given_by_place(kind) -> None:
    """As in jina-haystack, the key comes first and then the model."""
    made = new(kind, Secret.from_env_var("MY_KEY"), "jina-clip-v1")
    assert (made.options.api_key, made.options.model) == (Secret.from_env_var("MY_KEY"), "jina-clip-v1")
    with pytest.raises(TypeError):
        new(kind, Secret.from_env_var("MY_KEY"), "jina-clip-v1", "api")


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("values", [{}, CHANGED], ids=["defaults", "changed"])
def test_a_dictionary_gives_the_embedder_back(kind, values) -> None:
    """Every parameter but `transport`, through JSON."""
    chosen = {name: value for name, value in values.items() if name in options_of(kind)}
    made = new(kind, **chosen)
    data = json.loads(json.dumps(made.to_dict()))
    assert data["type"] == f"{kind.__module__}.{kind.__name__}"
    saved = options_of(kind).keys() - {"transport"}
    assert data["init_parameters"].keys() == saved
    chosen.pop("transport", None)
    again = kind.from_dict(data)
    got, had = again.options.by_name(), made.options.by_name()
    for values in (got, had, chosen):  # a store is loaded as one that is alike
        store = values.get("document_store")
        values |= {"document_store": store.to_dict()} if store is not None else {}
    assert all(got[name] == had[name] for name in saved)
    assert again.to_dict() == made.to_dict() == default_from_dict(kind, data).to_dict()
    assert not chosen or all(got[name] == value for name, value in chosen.items())


def test_changed_values_differ_from_the_defaults() -> None:
    """Else the test above would show little."""
    known = {name: item.default for kind in reversed(ALL) for name, item in options_of(kind).items()}
    assert known.keys() == CHANGED.keys()
    assert [name for name in known if known[name] == CHANGED[name]] == ["backend"]
    assert [name for name in known if known[name] is inspect.Parameter.empty] == ["labels"]


def test_an_unknown_option_in_yaml_is_refused() -> None:
    saved = pipeline_of(JinaClipTextEmbedder()).dumps().replace("max_retries", "max_retrys")
    with pytest.raises(DeserializationError, match="max_retrys"):
        Pipeline.loads(saved)


@pytest.mark.parametrize("kind", ALL)
def test_a_saved_class_in_an_unknown_parameter_is_not_even_imported(kind) -> None:
    """Haystack refuses it where it can see the parameters of a component."""
    data = new(kind).to_dict()
    data["init_parameters"]["extra"] = {"type": "haystack.nowhere.Nothing", "init_parameters": {}}
    with pytest.raises(DeserializationError, match="Refusing to deserialize unknown parameter 'extra'"):
        kind.from_dict(data)


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_nothing_is_resolved_in_the_constructor(kind, monkeypatch) -> None:
    """The default key names both variables, the first of them first, and is strict; it is read at warm-up."""
    for name in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = new(kind)
    assert made.options.api_key == Secret.from_env_var(["JINA_API_KEY", "JINAAI_API_KEY"], strict=True)
    monkeypatch.setenv("JINAAI_API_KEY", "jina_second")
    assert made.handle.get().config.key.reveal() == "jina_second"
    monkeypatch.setenv("JINA_API_KEY", "jina_first")
    assert new(kind).handle.get().config.key.reveal() == "jina_first"


@pytest.mark.parametrize("blank", ["", "  ", "\n"], ids=["empty", "blanks", "line"])
def test_a_variable_that_is_set_to_nothing_holds_no_key(blank, monkeypatch) -> None:
    """As in the core and the other hosts: CI systems set secrets that they do not have to "". Any two variables."""
    for names, secret in (
        (("JINA_API_KEY", "JINAAI_API_KEY"), {}),
        (("MINE", "OURS"), {"api_key": Secret.from_env_var(["MINE", "OURS"])}),
        (("MINE", "OURS"), {"api_key": Secret.from_env_var(["MINE", "OURS"], strict=False)}),
    ):
        monkeypatch.setenv(names[0], blank)
        monkeypatch.setenv(names[1], "jina_second")
        assert JinaClipTextEmbedder(**secret).handle.get().config.key.reveal() == "jina_second"
        monkeypatch.setenv(names[1], blank)
        with pytest.raises(AuthenticationError, match=" or ".join(names)) as caught:
            JinaClipTextEmbedder(**secret).warm_up()
        assert isinstance(caught.value, ValueError), "as Haystack's own secrets raise"


@pytest.mark.parametrize("secret", ["default", "lax", "empty"])
async def test_a_missing_key_is_a_value_error(secret, run, monkeypatch) -> None:
    """At warm-up, and at the first run of an embedder that stands alone."""
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.setenv("NOTHING", "")
    given = {"lax": Secret.from_env_var("UNSET", strict=False), "empty": Secret.from_env_var("NOTHING")}
    made = JinaClipTextEmbedder(**({"api_key": given[secret]} if secret in given else {}))
    monkeypatch.setenv("JINA_API_KEY" if secret != "default" else "OTHER", "jina_of_somebody_else")
    for attempt in (made.warm_up, lambda: asyncio.run(made.warm_up_async())):
        with pytest.raises(ValueError, match=r"JINA_API_KEY|UNSET|NOTHING"):
            await asyncio.to_thread(attempt)
    with pytest.raises(ValueError, match=r"JINA_API_KEY|UNSET|NOTHING"):
        await run(made, "a red dress")


def test_the_local_backend_asks_for_no_key(tiny, monkeypatch) -> None:
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    made = JinaClipTextEmbedder(model=str(tiny), backend="local", device="cpu")
    assert len(made.run("a red dress")["embedding"]) == 64


@pytest.mark.parametrize("kind", ALL)
def test_a_token_is_never_saved_and_a_bare_str_never_taken(kind) -> None:
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        new(kind, api_key=Secret.from_token("jina_abcdefgh")).to_dict()
    for value in ("jina_abcdefgh", {"type": "token", "token": "jina_abcdefgh"}, None):
        with pytest.raises(TypeError, match="must be a haystack Secret") as caught:
            new(kind, api_key=value)
        assert "abcdefgh" not in str(caught.value)


TEAM = "a-secret-team"


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_headers_are_resolved_at_warm_up(kind, monkeypatch) -> None:
    """Haystack's Secrets and str side by side, also after a pipeline was saved and loaded."""
    made = new(kind, headers={"X-Team": Secret.from_env_var("MY_TEAM")}, api_key=Secret.from_token("jina_x"))
    monkeypatch.setenv("MY_TEAM", TEAM)
    assert made.handle.get().config.extra_headers.reveal() == {"X-Team": TEAM}
    mixed = new(kind, headers={"X-Team": Secret.from_token(TEAM), "X-Shop": "a"}, api_key=Secret.from_token("jina_x"))
    assert mixed.handle.get().config.extra_headers.reveal() == {"X-Team": TEAM, "X-Shop": "a"}
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    saved = pipeline_of(new(kind, headers={"X-Team": Secret.from_env_var("MY_TEAM")})).dumps()
    assert TEAM not in saved
    loaded = Pipeline.loads(saved).get_component("embedder")
    assert loaded.handle.get().config.extra_headers.reveal() == {"X-Team": TEAM}


def test_an_authorization_among_the_headers_needs_no_key(monkeypatch) -> None:
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.setenv("GATEWAY", "Basic YTpi")
    made = JinaClipTextEmbedder(headers={"authorization": Secret.from_env_var("GATEWAY")})
    assert made.handle.get().config.authorization.reveal() == "Basic YTpi"


@pytest.mark.parametrize("unset", [Secret.from_env_var("UNSET"), Secret.from_env_var("UNSET", strict=False)])
def test_a_header_whose_variable_is_not_set_is_a_value_error(unset, monkeypatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    with pytest.raises(ValueError, match=r"UNSET|X-Team"):
        JinaClipTextEmbedder(headers={"X-Team": unset}).warm_up()


@pytest.mark.parametrize("kind", ALL)
def test_values_of_headers_are_never_saved_nor_shown(kind, monkeypatch) -> None:
    """A pickle holds them, for worker processes: a str as Haystack's own Secret."""
    for value in (TEAM, Secret.from_token(TEAM)):
        made = new(kind, headers={"X-Team": value})
        with pytest.raises(ValueError, match="Cannot serialize"):
            made.to_dict()
        seen = [repr(made), *map(str, printed(made))]
        assert not [text for text in seen if TEAM in text]
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    made = new(kind, headers={"X-Team": TEAM})
    assert pickle.loads(pickle.dumps(made)).handle.get().config.extra_headers.reveal()["X-Team"] == TEAM
    for headers in ({"X-Team": f"{TEAM}\n"}, TEAM, {"Host": TEAM}, {"X Team": Secret.from_token(TEAM)}, {1: TEAM}):
        with pytest.raises(ConfigError, match="headers") as caught:
            new(kind, headers=headers)
        assert TEAM not in str(caught.value)


def test_a_transport_is_not_saved_and_travels_with_copies_and_pickles() -> None:
    made = JinaClipTextEmbedder(api_key=Secret.from_token("jina_x"), transport=dict)
    for other in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other.options.transport is other.handle.get().config.transport is dict
    with pytest.raises(ConfigError, match="transport=3"):
        JinaClipTextEmbedder(transport=3)


@pytest.mark.parametrize("wrong", ["blank text", "refused"])
async def test_the_key_shows_nowhere(hosted, server, run, wrong) -> None:
    """Not in what can be printed, nor in the frames of a traceback that an error report would show."""
    server.configure(key="jina_another", echo_key=True)
    made = JinaClipTextEmbedder(**hosted)
    with pytest.raises(JinaClipError) as caught:
        await run(made, " " if wrong == "blank text" else "a red dress")
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    seen = [repr(made), *map(str, printed(made)), *frames]
    assert not [text for text in seen if hosted["api_key"].resolve_value() in text]


WRONG = {
    "timeout": [0, "60"],
    "backend": ["remote"],
    "dimensions": ["wide"],
    "normalized": [1],
    "prefix": [None, 7],
    "suffix": [b"z"],
    "embedding_separator": [None],
    "meta_fields_to_embed": ["name", [1], {"name": 1}],
    "weight": [-0.1, 1.1, "half", None],
    "file_path_meta_field": [None],
    "root_path": [Path("pictures"), 7],
    "image_policy": [ImagePolicy(), ["max_pixels"], {1: 2}],
    "progress_bar": ["no"],
    "raise_on_failure": [None, 0],
    "top_k": [0, -1, "5"],
    "clusters": [0],
    "method": ["random"],
    "lambda_mult": [2],
    "document_store": ["memory", InMemoryDocumentStore],
    "embed_missing": [None],
    "labels": ["dress", [1, 2]],
    "temperature": [0],
    "template": ["dress"],
}


@pytest.mark.parametrize("kind", ALL)
def test_a_wrong_option_is_told_at_once(kind) -> None:
    """By name, where it is given and not at the first run."""
    tried = {(name, repr(value)): value for name in options_of(kind).keys() & WRONG for value in WRONG[name]}
    assert len(tried) > 4
    for (name, _), value in tried.items():
        with pytest.raises(ConfigError, match=f"{name.removeprefix('top_')}=.* must be"):
            new(kind, **{name: value})


FOREIGN = {
    "base_urll": "did you mean 'base_url'",
    "model_name": "did you mean 'model'",
    "embedding_dimension": "did you mean 'dimensions'",
    "truncate_dim": "did you mean 'dimensions'",
    "jina_api_key": "did you mean 'api_key'",
    "show_progress": "did you mean 'progress_bar'",
    "cache_folder": "'cache' where vectors are",
    "query_instruction": "the model's own instruction",
    "trust_remote_code": "never needed",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_option_of_another_plugin_is_refused_with_the_one_that_is_meant(name) -> None:
    """Every list of documents has a bar to draw; a query has none."""
    with pytest.raises(ConfigError, match=f"there is no option '{name}'; .*{FOREIGN[name]}"):
        JinaClipDocumentEmbedder(**{name: "a value"})


@pytest.mark.parametrize("kind", ALL)
def test_a_model_and_a_width_that_there_are_not_are_refused_when_the_component_is_made(kind, tiny) -> None:
    """Of weights of one's own nothing is known before they are read, by another process perhaps."""
    with pytest.raises(ConfigError, match=r"'jina-clip-v3' is unknown.*jina-clip-v2"):
        new(kind, model="jina-clip-v3")
    for more in ({}, {"backend": "local"}, {"model": "jina-clip-v1", "dimensions": 512}):
        with pytest.raises(ConfigError, match=r"dimensions=.* does not fit"):
            new(kind, **{"dimensions": 5000, **more})
    for model in ("somebody/jina-clip-v3", str(tiny)):
        assert new(kind, model=model, backend="local", dimensions=5000).options.model == model


def test_a_saved_pipeline_with_a_word_of_another_plugin_says_which_is_meant() -> None:
    saved = pipeline_of(JinaClipTextEmbedder()).dumps().replace("dimensions:", "embedding_dimension:")
    with pytest.raises(DeserializationError, match="did you mean 'dimensions'"):
        Pipeline.loads(saved)


@pytest.mark.parametrize("kind", ALL)
def test_every_parameter_is_described_where_it_is_shown(kind) -> None:
    """By `help`, by editors, by whatever reads docstrings as Haystack does; those of `run` for agents, too."""
    told = {item.arg_name: item.description for item in docstring_parser.parse(inspect.getdoc(kind.__init__)).params}
    assert told.keys() == options_of(kind).keys()
    assert all(len(text) > 15 for text in told.values())
    run = {item.arg_name: item.description for item in docstring_parser.parse(inspect.getdoc(kind.run)).params}
    assert run.keys() == inspect.signature(kind.run).parameters.keys() - {"self"}


def test_a_wrong_field_of_the_image_policy_is_told_at_once() -> None:
    with pytest.raises(TypeError, match="max_pixel"):
        JinaClipImageEmbedder(image_policy={"max_pixel": 1})
    with pytest.raises(ConfigError, match="max_pixels"):
        JinaClipDocumentImageEmbedder(image_policy={"max_pixels": 0})


def test_the_life_of_an_embedder_is_safe_to_repeat(make) -> None:
    """Warm up and close as often as one likes, in any order; a closed embedder works again."""
    made = make(JinaClipTextEmbedder)
    made.close()
    made.warm_up()
    first = made.handle.get()
    made.warm_up()
    assert made.handle.get() is first
    before = made.run("a red dress")["embedding"]
    made.close()
    made.close()
    assert made.run("a red dress")["embedding"] == before

    async def live() -> list[float]:
        await made.warm_up_async()
        warm = await made.handle.get_async()
        await made.warm_up_async()
        assert await made.handle.get_async() is warm is first
        vector = (await made.run_async("a red dress"))["embedding"]
        await made.close_async()
        await made.close_async()
        return vector

    assert [asyncio.run(live()) for _ in range(2)] == [before, before]
    made.close()


async def test_a_component_is_closed_by_with(make) -> None:
    """And works again afterwards."""
    for kind in (JinaClipTextEmbedder, JinaClipDocumentEmbedder, JinaClipDiversityRanker, JinaClipZeroShotRouter):
        with make(kind) as made:
            made.handle.warm_up()
        async with made as again:
            assert again is made
            await made.handle.warm_up_async()
        if made.options.backend == "local":
            assert made.handle.get()._backend._model is None


def test_the_pipeline_drives_the_life_of_an_embedder(make) -> None:
    """Run, run, run_async, close, close_async."""
    made = make(JinaClipTextEmbedder)
    pipe = pipeline_of(made)
    data = {"embedder": {"text": "a red dress"}}
    first = pipe.run(data)["embedder"]["embedding"]
    assert pipe.run(data)["embedder"]["embedding"] == first
    assert asyncio.run(pipe.run_async(data))["embedder"]["embedding"] == first
    pipe.close()
    assert asyncio.run(pipe.run_async(data))["embedder"]["embedding"] == first
    asyncio.run(pipe.close_async())


def test_warming_up_loads_the_weights_and_closing_lets_go_of_them(tiny) -> None:
    """What takes long happens there, not in the first run."""
    made = JinaClipTextEmbedder(model=str(tiny), backend="local", device="cpu")
    backend = made.handle.get()._backend
    for warm_up in (made.warm_up, lambda: asyncio.run(made.warm_up_async())):
        assert backend._model is None
        warm_up()
        assert backend._model is not None
        made.close()
        assert backend._model is None
        warm_up()
        asyncio.run(made.close_async())


async def test_closing_fills_no_budget_up_again(hosted, server, run) -> None:
    """What an embedder may spend, it may spend once; `run` closes it after each call."""
    made = JinaClipTextEmbedder(**hosted, token_budget=30)
    await run(made, "a red dress " * 4)
    spent = server.ledger()["tokens"]
    assert 0 < spent < 30
    with pytest.raises(BudgetError):
        await run(made, "another red dress " * 8)
    assert server.ledger()["tokens"] == spent


async def test_an_embedder_works_without_being_warmed_up(make, run) -> None:
    assert len((await run(make(JinaClipTextEmbedder), "a red dress"))["embedding"]) in (64, 1024)


def test_threads_may_start_together(make) -> None:
    """Whoever warms up first, all get the same vectors."""
    made, got, gate = make(JinaClipTextEmbedder), [], threading.Barrier(6)

    def work() -> None:
        gate.wait()
        got.append(made.run("a red dress")["embedding"])

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(got) == 6 and all(vector == got[0] for vector in got)


def test_copies_work_before_and_after_the_first_run(make) -> None:
    """Deepcopy and pickle, warm or cold; Haystack's own Secret travels with them."""
    made = make(JinaClipTextEmbedder)
    vectors = []
    for _ in range(2):
        for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert other.handle.get() is not made.handle.get()
            vectors.append(other.run("a red dress")["embedding"])
            other.close()
        vectors.append(made.run("a red dress")["embedding"])
    assert all(vector == vectors[0] for vector in vectors)


def test_a_shallow_copy_is_the_same_component_twice(hosted) -> None:
    """As everywhere in Python, what the one holds the other does."""
    made = JinaClipTextEmbedder(**hosted)
    assert copy.copy(made).handle is made.handle


ELSEWHERE = """
import base64, pickle, sys
for line in sys.stdin:
    print(len(pickle.loads(base64.b64decode(line)).run("a red dress")["embedding"]), flush=True)
"""


@pytest.mark.slow
def test_a_key_that_was_given_travels_and_one_of_the_environment_does_not(server, monkeypatch) -> None:
    """A pickle is used by another process, whose variable has another key; the service takes one key alone."""
    monkeypatch.setenv("MY_KEY", "jina_of_this_process")
    keys = {
        "jina_that_was_given": Secret.from_token("jina_that_was_given"),
        "jina_of_that_process": Secret.from_env_var("MY_KEY"),
    }
    there = os.environ | {"MY_KEY": "jina_of_that_process"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ELSEWHERE], env=there, **pipes) as process:
        for key, secret in keys.items():
            made = JinaClipTextEmbedder(api_key=secret, base_url=server.url)
            made.warm_up()
            pickled = pickle.dumps(made)
            assert b"jina_of_this_process" not in pickled
            server.configure(key=key)
            process.stdin.write(base64.b64encode(pickled).decode() + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "1024\n", process.communicate()[1]


@pytest.mark.parametrize(
    ("device", "saved", "used"),
    [
        (None, None, "auto"),
        ("cuda:3", "cuda:3", "cuda:3"),
        (ComponentDevice.from_str("cuda:3"), {"type": "single", "device": "cuda:3"}, "cuda:3"),
    ],
)
def test_a_device_is_saved_as_given_and_resolved_late(device, saved, used) -> None:
    """This machine need not have it."""
    made = JinaClipTextEmbedder(backend="local", device=device)
    assert made.options.device is device
    assert made.to_dict()["init_parameters"]["device"] == saved
    assert JinaClipTextEmbedder.from_dict(made.to_dict()).options.device == device
    assert made.options.to_config(None, None).device == used


def test_several_devices_are_refused() -> None:
    several = ComponentDevice.from_multiple(DeviceMap({"": Device.from_str("cpu")}))
    with pytest.raises(ValueError, match="single device"):
        JinaClipTextEmbedder(backend="local", device=several)


@pytest.mark.parametrize("kind", ALL)
def test_telemetry_tells_the_model_and_nothing_else(kind, tiny) -> None:
    """Of a model of one's own not even the name."""
    assert new(kind)._get_telemetry_data() == {"model": "jina-clip-v2"}
    assert new(kind, model="jinaai/jina-clip-v1")._get_telemetry_data() == {"model": "jinaai/jina-clip-v1"}
    assert new(kind, model=str(tiny), backend="local")._get_telemetry_data() == {"model": "custom"}


def test_no_super_and_no_namespace_init() -> None:
    """The decorator makes the class anew, which breaks the first; the second would hide other integrations."""
    own = {SOURCE / "haystack_integrations" / "components" / kind / "jinaclip" for kind in KINDS}
    for path in (path for folder in [SOURCE / "haystack_jinaclip", *own] for path in folder.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if getattr(call.func, "id", "") == "super" and not call.args], path
    assert all((folder / "__init__.py").exists() and (folder / "py.typed").exists() for folder in own)
    namespaces = {parent for folder in own for parent in folder.parents if SOURCE in parent.parents}
    assert len(namespaces) == 2 + len(KINDS)
    assert not [folder for folder in namespaces if (folder / "__init__.py").exists()]


def test_both_packages_give_the_same_names() -> None:
    homes = {name: home for home in (embedders, rankers, retrievers, routers) for name in home.__all__}
    assert haystack_jinaclip.__all__ == sorted(homes)
    assert all(getattr(haystack_jinaclip, name) is getattr(home, name) for name, home in homes.items())
    with pytest.raises(AttributeError, match="JinaClipRanker"):
        _ = haystack_jinaclip.JinaClipRanker


@pytest.mark.slow
def test_importing_adds_nothing_heavy_to_the_host() -> None:
    """Haystack itself loads much; the adapter adds only its own modules and the core's."""
    code = (
        "import sys, haystack, haystack.dataclasses, haystack.components.converters.image.image_utils\n"
        "before = set(sys.modules)\n"
        "import haystack_integrations.components.embedders.jinaclip\n"
        "import haystack_integrations.components.rankers.jinaclip\n"
        "import haystack_integrations.components.retrievers.jinaclip\n"
        "import haystack_integrations.components.routers.jinaclip\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"haystack_integrations", "jinaclip", "haystack", "numpy"}


def printed(made) -> list:
    """What of a component can be printed."""
    return [vars(made), made.options, made.options.by_name(), made.options.to_config(None, None), vars(made.handle)]


def pipeline_of(embedder) -> Pipeline:
    pipe = Pipeline()
    pipe.add_component("embedder", embedder)
    return pipe
