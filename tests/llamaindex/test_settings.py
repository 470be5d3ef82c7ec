"""Options, dumps, copies, pickles, secrets and the cache of text vectors."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import os
import pickle
import re
import subprocess
import sys
import traceback
import typing
import weakref
from hashlib import sha256
from pathlib import Path

import pytest
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import SecretStr

import llamaindex_jinaclip
from jinaclip import ConfigError, ImagePolicy, InputError, JinaClip
from jinaclip.errors import CheckpointError
from jinaclip.hosts import MAX_BATCH, EmbedderConfig
from llamaindex_jinaclip import JinaClipEmbedding
from tests.needs import skip_without
from tests.tiny import make_checkpoint

ROOT = Path(__file__).parents[2]
KEY = "jina_test_very_secret"
WORDS = {"model": "model_name", "batch_size": "embed_batch_size"}
OTHER = {
    "model": "jina-clip-v1",
    "backend": "local",
    "dimensions": 100,
    "normalized": False,
    "truncate": True,
    "batch_size": 7,
    "max_concurrency": 3,
    "max_retries": 1,
    "timeout": 5.0,
    "deadline": 90.0,
    "base_url": "http://127.0.0.1:9/v1/embeddings",
    "wire": "jina",
    "space": "mine",
    "requests_per_minute": 60,
    "tokens_per_minute": 1000,
    "token_budget": 100_000,
    "cache": "vectors.sqlite",
    "engine": "torch",
    "device": "cpu",
    "dtype": "float32",
    "revision": "abc",
    "threads": 2,
    "image_policy": ImagePolicy(allowed_roots=("/tmp", Path("/srv")), allow_networks=("10.0.0.0/8",)),
    "image_resize": "pad",
    "image_quality": 80,
    "image_decode": "fast",
    "url_mode": "forward",
    "show_progress": True,
}
"""A value of each option that is not its default."""
UNSAVED = {"api_key", "headers", "transport"}
"""Options that no dump holds."""


def variants():
    return [{name: value} for name, value in OTHER.items()]


def test_every_option_of_the_core_is_a_field_of_the_same_name_type_and_default():
    """LlamaIndex's words for two of them; nothing the core has is missing, and nothing is added but fusion."""
    ours = JinaClipEmbedding.model_fields
    types, theirs = typing.get_type_hints(JinaClipEmbedding), typing.get_type_hints(EmbedderConfig)
    for item in dataclasses.fields(EmbedderConfig):
        name = WORDS.get(item.name, item.name)
        default = {"api_key": None, "embed_batch_size": MAX_BATCH}.get(name, getattr(EmbedderConfig(), item.name))
        assert ours[name].get_default(call_default_factory=True, validated_data={}) == default, name
        if name not in ("api_key", "embed_batch_size"):
            assert types[name] == theirs[item.name], name
    assert types["embed_batch_size"] is int
    assert OTHER.keys() | UNSAVED == {item.name for item in dataclasses.fields(EmbedderConfig)}
    own = set(ours) - {WORDS.get(item.name, item.name) for item in dataclasses.fields(EmbedderConfig)}
    assert own == {"callback_manager", "num_workers", "embeddings_cache", "rate_limiter", "fusion_weight", "on_error"}


def test_it_names_itself_and_its_model():
    """Nobody else's name, and never "unknown"."""
    assert JinaClipEmbedding.class_name() == JinaClipEmbedding().to_dict()["class_name"] == "JinaClipEmbedding"
    assert JinaClipEmbedding().model_name == "jina-clip-v2"
    assert JinaClipEmbedding(model="jina-clip-v1").model_name == "jina-clip-v1"


@pytest.mark.parametrize("option", variants(), ids=str)
def test_an_option_reaches_the_core_and_comes_back_from_a_dump(option):
    """In either's word; through dict and JSON; and when it is set later."""
    if option == {"backend": "local"}:
        skip_without("torch")
    (name, value) = next(iter(option.items()))
    field = WORDS.get(name, name)
    made = JinaClipEmbedding(**option)
    later = JinaClipEmbedding()
    setattr(later, field, value)
    copied = JinaClipEmbedding().model_copy(update={field: value})
    dumps = [JinaClipEmbedding.from_dict(made.to_dict()), JinaClipEmbedding.from_json(made.to_json())]
    for one in (made, JinaClipEmbedding(**{field: value}), later, copied):
        assert getattr(one, field) == getattr(one.clip.config, name) == value
    for one in dumps:
        assert json.dumps(one.to_dict()) == made.to_json()
        if name != "image_policy":  # paths come back as text
            assert one.clip.config == made.clip.config
    assert made.to_dict() != JinaClipEmbedding().to_dict()


def test_the_default_batch_size_is_learnt():
    """LlamaIndex's field is an int, so that None stands as the largest there."""
    made = JinaClipEmbedding()
    changed = JinaClipEmbedding(embed_batch_size=7)
    changed.embed_batch_size = MAX_BATCH
    given = [JinaClipEmbedding(embed_batch_size=MAX_BATCH), JinaClipEmbedding(batch_size=None), changed]
    for one in (made, *given, JinaClipEmbedding.from_dict(made.to_dict())):
        assert (one.embed_batch_size, one.clip.config.batch_size) == (MAX_BATCH, None)
    assert JinaClipEmbedding(embed_batch_size=511).clip.config.batch_size == 511


def test_the_ingestion_hash_says_what_the_vectors_depend_on_and_a_dump_all_options():
    """LlamaIndex hashes the dump as a str. What is in it for `from_dict` alone changes no hash."""
    made = JinaClipEmbedding(timeout=5, dimensions=64, fusion_weight=0.3)
    dump = made.to_dict()
    assert str(dump) == f"JinaClipEmbedding {made.clip.space} truncate=False fusion_weight=0.3"
    for again in (json.loads(json.dumps(dump)), copy.copy(dump), copy.deepcopy(dump), pickle.loads(pickle.dumps(dump))):
        assert again == dump
        assert JinaClipEmbedding.from_dict(again).clip.config == made.clip.config
    expected = sha256(f"red{dump}".encode()).hexdigest()
    assert get_transformation_hash([TextNode(text="red")], made) == expected


def test_a_dump_of_local_weights_reads_no_weights(tmp_path):
    """They may not be there: only who asks for the hash needs them."""
    folder = make_checkpoint(tmp_path / "tiny", "v2")
    made = JinaClipEmbedding(model_name=str(folder), backend="local", device="cpu")
    (folder / "model.safetensors").unlink()
    assert made.to_dict()["model_name"] == str(folder)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        get_transformation_hash([TextNode(text="red")], made)


def test_a_dump_inside_another_comes_back(embed):
    """LlamaIndex's workflows and pipelines dump components with Pydantic."""
    made = embed(dimensions=64, timeout=5)
    again = JinaClipEmbedding(**made.model_dump(mode="json"))
    assert again.clip.config == made.clip.config.replace(api_key=None)


def test_a_dump_gives_the_same_vectors(embed, files):
    """With another width, without normalisation, with pictures padded."""
    made = embed(dimensions=64, normalized=False, image_resize="pad", fusion_weight=0.2)
    again = JinaClipEmbedding.from_dict(json.loads(made.to_json()), api_key=made.api_key)
    assert again.clip.fingerprint == made.clip.fingerprint
    assert again.fusion_weight == 0.2
    assert again.get_text_embedding("red") == made.get_text_embedding("red")
    assert again.get_image_embedding(files[0]) == made.get_image_embedding(files[0])


def test_a_local_folder_survives_a_dump(tmp_path):
    """Dump and pickle of a local model give the vectors of the original."""
    made = JinaClipEmbedding(
        model_name=str(make_checkpoint(tmp_path / "tiny", "v2")), backend="local", device="cpu", embed_batch_size=4
    )
    for again in (JinaClipEmbedding.from_json(made.to_json()), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert again.get_query_embedding("red") == made.get_query_embedding("red")
    assert made.get_query_embedding("red") != made.get_text_embedding("red")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dimension": 64}, "did you mean 'dimensions'"),
        ({"truncate_dim": 64}, "did you mean 'dimensions'"),
        ({"embed_batchsize": 3}, "no option 'embed_batchsize'"),
        ({"task": "retrieval.query"}, "no option 'task'"),
        ({"dimensions": 2000}, "dimensions=2000"),
        ({"embed_batch_size": 600}, "embed_batch_size=600"),
        ({"num_workers": "many"}, "num_workers"),
        ({"num_workers": -1}, "num_workers"),
        ({"model_name": "clip-vit"}, "clip-vit"),
        ({"model": "jina-clip-v1", "model_name": "jina-clip-v2"}, "model_name"),
        ({"fusion_weight": 1.5}, "fusion_weight"),
        ({"model_name": KEY.replace("test_", "")}, "API key stands where another option belongs"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_by_name(options, named):
    """LlamaIndex's base class would swallow misspelt ones."""
    with pytest.raises(ConfigError, match=re.escape(named)) as caught:
        JinaClipEmbedding(**options)
    assert KEY.replace("test_", "") not in str(caught.value) + repr(caught.value.__context__)


def test_a_wrong_value_set_later_changes_nothing():
    """The object stays as it was."""
    made = JinaClipEmbedding(dimensions=100)
    with pytest.raises(ConfigError, match="dimensions=0"):
        made.dimensions = 0
    with pytest.raises(ValueError, match="dimension"):
        made.dimension = 3
    with pytest.raises(ConfigError, match="fusion_weight"):
        made.fusion_weight = 1.5
    with pytest.raises(ConfigError, match="num_workers"):
        made.num_workers = -1
    with pytest.raises(TypeError, match="BaseKVStore"):
        made.embeddings_cache = {}
    assert made.dimensions == made.clip.dimensions == 100
    assert (made.fusion_weight, made.num_workers) == (0.5, None)


def test_a_spent_budget_is_not_forgotten_by_setting_something_else(embed):
    """A new core object counts from nothing, so only a new budget can be set; then everything can."""
    made = embed(token_budget=1000)
    made.get_text_embedding("red")
    for name, value in (("embed_batch_size", 3), ("dimensions", 64)):
        with pytest.raises(ConfigError, match=f"{name} cannot be set while part of token_budget is spent"):
            setattr(made, name, value)
    assert made.embed_batch_size == 512
    made.token_budget = 500
    made.dimensions = 64
    assert made.clip.usage.tokens == 0


def test_the_core_object_before_a_change_is_let_go(embed):
    """Its connections close once nobody holds it: a caller that it still serves, or a copy of the embedding."""
    made = embed()
    before = weakref.ref(made.clip)
    copied = made.model_copy()
    made.get_text_embedding("red")
    made.embed_batch_size = 3
    assert before() is copied.clip
    del copied
    gc.collect()
    assert before() is None


def shown_by_frames(error):
    """What a report shows of the variables behind an error, but for those of this file, which hold the key by right."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return str([frame.locals for frame in told.stack if frame.filename != __file__])


def test_an_option_that_is_refused_is_shown_by_no_frame():
    """Whatever holds the key: a wrong name, another option, a dump that somebody has put it into, or a field set."""
    made = JinaClipEmbedding(api_key=KEY)
    attempts = [
        lambda: JinaClipEmbedding(api_token=KEY),
        lambda: JinaClipEmbedding(api_key=KEY.encode()),
        lambda: JinaClipEmbedding(base_url=f"https://user:{KEY}@example.org"),
        lambda: JinaClipEmbedding.from_dict({"api_key": KEY, "timeout": -1}),
        lambda: setattr(made, "api_key", KEY.encode()),
        lambda: setattr(made, "timeout", -1),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert KEY not in str(caught.value) + shown_by_frames(caught.value)


def test_the_key_is_in_no_dump_event_repr_or_traceback():
    """Given as text, as a SecretStr, or set later."""
    made = [JinaClipEmbedding(api_key=KEY), JinaClipEmbedding(api_key=SecretStr(KEY)), JinaClipEmbedding()]
    made[2].api_key = KEY
    for one in made:
        assert one.clip.config.key.reveal() == KEY
        for shown in (repr(one), str(one), str(one.to_dict()), one.to_json(), str(one.to_payload()), str(vars(one))):
            assert KEY not in shown
    for options in ({"dimensions": 0}, {"nonsense": 1}, {"num_workers": "many"}, {"fusion_weight": 7}):
        try:
            JinaClipEmbedding(api_key=KEY, **options)
        except ValueError as error:
            assert KEY not in str(error) + shown_by_frames(error)


def test_values_of_headers_are_in_no_dump_repr_or_traceback_and_travel_in_pickles_as_the_key():
    """Given at first or set later, as text or as SecretStr."""
    made = [JinaClipEmbedding(headers={"X-Team": KEY}), JinaClipEmbedding(headers={"X-Team": SecretStr(KEY)})]
    made.append(JinaClipEmbedding())
    made[2].headers = {"X-Team": KEY}
    for one in made:
        copies = copy.deepcopy(one), one.model_copy(), one.model_copy(update={"dimensions": 64})
        copies += pickle.loads(pickle.dumps(one)), pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(one))))
        assert [two.clip.config.extra_headers.reveal() for two in (one, *copies)] == [{"X-Team": KEY}] * 6
        for two in (one, *copies):
            shown = [repr(two), str(two.to_dict()), two.to_json(), str(two.to_payload()), str(vars(two))]
            assert not [text for text in [*shown, repr(two.headers)] if KEY in text]
        assert not {"headers", "transport"} & one.to_dict().keys()
    for headers in ({"X-Team": KEY + "\n"}, KEY, {"Host": KEY}):
        with pytest.raises(ConfigError, match="headers") as caught:
            JinaClipEmbedding(headers=headers)
        assert KEY not in str(caught.value) + shown_by_frames(caught.value)


def test_a_pickle_holds_a_key_that_was_given_and_none_of_the_environment(monkeypatch):
    """Where it is opened, the one that was given holds, whatever the environment there says."""
    monkeypatch.setenv("JINA_API_KEY", "jina_test_of_the_environment")
    given, read = pickle.dumps(JinaClipEmbedding(api_key=KEY)), pickle.dumps(JinaClipEmbedding())
    assert b"jina_test_of_the_environment" not in given + read
    monkeypatch.setenv("JINA_API_KEY", "jina_test_of_another_account")
    assert pickle.loads(given).clip.config.key.reveal() == KEY
    assert pickle.loads(read).clip.config.key.reveal() == "jina_test_of_another_account"


def test_a_pickle_that_cannot_be_opened_says_why(tmp_path):
    """LlamaIndex's own classes come back half made."""
    folder = make_checkpoint(tmp_path / "tiny", "v2")
    pickled = pickle.dumps(JinaClipEmbedding(model_name=str(folder), backend="local", device="cpu"))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="tiny"):
        pickle.loads(pickled)


def test_a_transport_travels_with_copies_and_pickles():
    made = JinaClipEmbedding(transport=dict)
    for one in (made, copy.deepcopy(made), made.model_copy(), pickle.loads(pickle.dumps(made))):
        assert one.transport is one.clip.config.transport is dict
    with pytest.raises(
        (AttributeError, pickle.PicklingError), match="lambda"
    ):  # rather than requests that go around it
        pickle.dumps(JinaClipEmbedding(transport=lambda: None))
    made.transport = None
    assert made.clip.config.transport is None
    with pytest.raises(ConfigError, match="transport=3"):
        made.transport = 3


def test_the_payload_says_what_made_the_vectors():
    """Class, model and what bears on the vectors."""
    payload = JinaClipEmbedding(api_key=KEY, dimensions=64).to_payload()
    assert payload["class_name"] == "JinaClipEmbedding"
    assert (payload["model_name"], payload["embed_batch_size"], payload["dimensions"]) == ("jina-clip-v2", 512, 64)
    json.dumps(payload)


def test_the_key_comes_from_the_environment(server, monkeypatch):
    """JINA_API_KEY first, then JINAAI_API_KEY, which LlamaIndex's own Jina class reads; when a request is made."""
    made = JinaClipEmbedding(base_url=server.url)
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.setenv("JINAAI_API_KEY", "jina_test_from_second")
    assert made.clip.config.key.reveal() == "jina_test_from_second"
    monkeypatch.setenv("JINA_API_KEY", "jina_test_from_first")
    assert made.clip.config.key.reveal() == "jina_test_from_first"
    assert len(made.get_query_embedding("red")) == 1024
    assert made.api_key is None


@pytest.mark.slow
def test_a_pickle_works_in_another_process_with_an_explicit_key(embed, tmp_path):
    """There is no key in the environment there."""
    made = embed(dimensions=32 * 2)
    expected = made.get_query_embedding("red")
    (tmp_path / "embed.pickle").write_bytes(pickle.dumps(made))
    code = (
        "import pickle, sys, json; embed = pickle.load(open(sys.argv[1], 'rb'));"
        "print(json.dumps(embed.get_query_embedding('red'))); print(repr(embed))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JINA")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "embed.pickle")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    vector, shown = done.stdout.splitlines()
    assert json.loads(vector) == expected
    assert made.api_key.get_secret_value() not in shown


def test_copies_work_and_go_their_own_ways(embed):
    """Deepcopy and both kinds of model_copy, with a limiter that holds a lock and connections in use."""
    limiter = TokenBucketRateLimiter(requests_per_minute=6000)
    made = embed(rate_limiter=limiter, embeddings_cache=SimpleKVStore())
    expected = made.get_text_embedding("red")
    for copied in (copy.deepcopy(made), made.model_copy(deep=True), made.model_copy()):
        assert copied.get_text_embedding("red") == expected
        assert copied.rate_limiter is limiter
        copied.dimensions = 64
        assert len(copied.get_text_embedding("red")) == 64
    assert made.get_text_embedding("red") == expected
    assert len(made.model_copy(update={"dimensions": 65}).get_text_embedding("red")) == 65


def test_a_limiter_with_a_lock_stays_behind_and_in_its_place(embed, caplog):
    """LlamaIndex's own classes lose it when they are pickled, and with it the next call."""
    limiter = TokenBucketRateLimiter(requests_per_minute=6000)
    made = embed(rate_limiter=limiter)
    again = pickle.loads(pickle.dumps(made))
    assert "rate_limiter cannot be pickled" in caplog.text
    assert (again.rate_limiter, made.rate_limiter) == (None, limiter)
    assert again.get_text_embedding("red") == made.get_text_embedding("red")


def test_copies_spend_one_budget_and_a_pickle_has_one_of_its_own(embed):
    """A copy shares the core object, deep or not, so that copying makes nothing cheaper than it is."""
    made = embed(token_budget=1000)
    made.get_text_embedding("red")
    copies = copy.copy(made), copy.deepcopy(made), made.model_copy(), made.model_copy(deep=True)
    assert all(one.clip is made.clip for one in copies)
    assert pickle.loads(pickle.dumps(made)).clip.usage.tokens == 0


async def test_the_cache_gives_no_query_for_a_document_and_no_document_for_a_query(embed, server):
    """LlamaIndex looks both up under the bare text; sync, async, single and batch."""
    made = embed(embeddings_cache=SimpleKVStore())
    query, document = made.clip.embed_query("red").tolist(), made.clip.embed_documents(["red"])[0].tolist()
    server.reset()
    for _ in range(2):
        assert made.get_query_embedding("red") == await made.aget_query_embedding("red") == query
        assert made.get_text_embedding("red") == await made.aget_text_embedding("red") == document
        assert made.get_text_embedding_batch(["red"]) == await made.aget_text_embedding_batch(["red"]) == [document]
    assert server.ledger()["requests"] == 2


def test_a_shared_cache_keeps_models_and_widths_apart(embed, tmp_path):
    """And it still saves requests when it is loaded again."""
    store = SimpleKVStore()
    wide, narrow, old = embed(), embed(dimensions=64), embed(model_name="jina-clip-v1")
    for made in (wide, narrow, old):
        made.embeddings_cache = store
    widths = [len(made.get_text_embedding("red")) for made in (wide, narrow, old) for _ in range(2)]
    assert widths == [1024, 1024, 64, 64, 768, 768]
    wide.dimensions = 65
    assert len(wide.get_text_embedding("red")) == 65
    store.persist(str(tmp_path / "cache.json"))
    again = embed(dimensions=64, embeddings_cache=SimpleKVStore.from_persist_path(str(tmp_path / "cache.json")))
    assert again.get_text_embedding("red") == narrow.get_text_embedding("red")
    assert again.clip.usage.requests == 0


def test_a_cache_survives_pickling_and_stays_out_of_dumps(embed):
    made = embed(embeddings_cache=SimpleKVStore())
    vector = made.get_text_embedding("red")
    again = pickle.loads(pickle.dumps(made))
    assert again.get_text_embedding("red") == vector
    assert again.clip.usage.requests == 0
    assert "embeddings_cache" not in made.to_dict()
    with pytest.raises(TypeError, match="BaseKVStore"):
        embed(embeddings_cache={})


def test_a_cache_is_the_users_store_and_is_persisted_as_one(embed, tmp_path):
    """The field holds what it was given."""
    store = SimpleKVStore()
    made = embed(embeddings_cache=store)
    assert made.embeddings_cache is store
    vector = made.get_text_embedding("red")
    store.persist(str(tmp_path / "cache.json"))
    again = embed(embeddings_cache=SimpleKVStore.from_persist_path(str(tmp_path / "cache.json")))
    assert again.get_text_embedding("red") == vector
    assert again.clip.usage.requests == 0


def test_a_cache_is_read_with_other_options_that_change_no_vector(embed):
    """What is not the same space is not read."""
    store = SimpleKVStore()
    vector = embed(embeddings_cache=store).get_text_embedding("red")
    for options in ({"timeout": 5}, {"dimensions": 1024}, {"embed_batch_size": 3}, {"api_key": "jina_test_another"}):
        made = embed(embeddings_cache=store, **options)
        assert made.get_text_embedding("red") == vector
        assert made.clip.usage.requests == 0
    assert embed(embeddings_cache=store, space="mine").get_text_embedding("red") == vector
    assert len(store.get_all(f"embeddings-document-{embed().clip.space}")) == 1
    assert len(store.get_all("embeddings-document-mine")) == 1


def test_a_text_that_was_cut_is_no_answer_to_one_that_is_to_be_refused(embed):
    """With `truncate` a long text has a vector, without it an error; a shared store keeps the two apart."""
    store, long = SimpleKVStore(), "word " * 9000
    assert len(embed(embeddings_cache=store, truncate=True).get_text_embedding(long)) == 1024
    with pytest.raises(InputError, match="truncate"):
        embed(embeddings_cache=store).get_text_embedding(long)


@pytest.mark.slow
def test_importing_the_package_loads_nothing_and_the_class_nothing_that_the_host_has_not():
    """`import llamaindex_jinaclip` is free; the class adds no torch, and no PIL or httpx beyond LlamaIndex's own."""
    code = (
        "import sys, {first}; before = set(sys.modules); {second};"
        "print(sorted({{m.split('.')[0] for m in set(sys.modules) - before}}))"
    )

    def added(first, second):
        run = [sys.executable, "-c", code.format(first=first, second=second)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        return set(eval(done.stdout))

    assert added("typing", "import llamaindex_jinaclip") <= {"llamaindex_jinaclip", "__future__", "importlib"}
    heavy = {"torch", "PIL", "httpx", "tokenizers", "safetensors", "ray", "tqdm"}
    host = "llama_index.core.embeddings, llama_index.core.ingestion"
    assert not added(host, "from llamaindex_jinaclip import JinaClipEmbedding") & heavy


def test_the_package_lists_what_it_offers():
    for name in llamaindex_jinaclip.__all__:
        assert getattr(llamaindex_jinaclip, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        _ = llamaindex_jinaclip.Nothing


def test_the_core_object_is_at_hand(embed):
    made = embed()
    made.get_text_embedding("red")
    assert isinstance(made.clip, JinaClip)
    assert made.clip.usage.items == 1
