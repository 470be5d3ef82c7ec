"""Every option, what it takes, and what it says when it does not."""

import copy
import dataclasses
import functools
import inspect
import json
import math
import pickle
import pprint
import re
import traceback
import warnings
from decimal import Decimal
from pathlib import Path

import cloudpickle
import pytest

from jinaclip import AuthenticationError, Cache, ConfigError, ImagePolicy, JinaClip
from jinaclip.config import EmbedderConfig
from jinaclip.hints import HINTS
from jinaclip.hosts import refuse_unknown
from jinaclip.secret import Headers, Secret

COUNT = [0, -1, 1.0, "1", True, math.nan]
WRONG = {
    "model": ["", " ", None, 3, b"jina-clip-v2"],
    "backend": ["API", "", None, "cuda"],
    "dimensions": [*COUNT],
    "normalized": [1, None, "true"],
    "truncate": [0, None, "no"],
    "batch_size": [*COUNT, 513],
    "max_concurrency": [*COUNT, 513],
    "max_retries": [-1, 1.0, "1", True, None, 101],
    "timeout": [0, -1, math.inf, math.nan, "60", None, True, Decimal(3)],
    "deadline": [0, -1, math.inf, math.nan, "60", True, Decimal(3)],
    "api_key": [3, b"jina_x", ["jina_x"]],
    "headers": ["X-Team: a", ["X-Team"], 3, {1: "a"}, {"X Team": "a"}, {"": "a"}, {"X-Team": 3}, {"X-Team": None}],
    "transport": [3, "httpx.AsyncHTTPTransport", []],
    "base_url": [
        *[None, 3, b"https://api.jina.ai", "", "ftp://a.b", "https://user:word@a.b", "https://a.b?c=d"],
        *["sagemaker://", "sagemaker://eu-west-1", "sagemaker://eu-west-1/a/b", "sagemaker://eu-west-1/a?images=gif"],
    ],
    "wire": ["OpenAI", "", 3, "sagemaker"],
    "requests_per_minute": [*COUNT],
    "tokens_per_minute": [*COUNT],
    "token_budget": [-1, 1.0, "1", True],
    "cache": ["", " ", 3, 1, b"vectors.sqlite", ["vectors.sqlite"], {}, Cache],
    "engine": [None, "openvino", 3],
    "device": [None, 3],
    "dtype": [3, b"bfloat16"],
    "revision": [3, b"main"],
    "threads": [*COUNT],
    "image_policy": [None, {}, ImagePolicy],
    "image_resize": [None, "", "crop", True],
    "image_quality": [0, 101, 90.0, "90", True],
    "image_decode": ["quick", None, True],
    "space": ["", 3, "my-shop", "1shop", "s" * 37],
    "url_mode": [None, "download"],
    "show_progress": [None, 1],
}
RIGHT = {
    "model": ["jina-clip-v1", "jinaai/jina-clip-v2"],
    "dimensions": [None, 64, 1024],
    "normalized": [False],
    "truncate": [True],
    "batch_size": [None, 1, 512],
    "max_concurrency": [None, 1, 512],
    "max_retries": [0, 100],
    "timeout": [0.01, 1, 3600.0],
    "api_key": [None, "jina_x", Secret("jina_x")],
    "headers": [None, {"X-Team": "shop"}, {"authorization": "Basic YTpi"}],
    "transport": [None, list],
    "base_url": ["https://a.b"],
    "wire": [None, "jina", "openai"],
    "requests_per_minute": [None, 1],
    "tokens_per_minute": [None, 1],
    "token_budget": [None, 0],
    "cache": [None, False, "vectors.sqlite", Path("vectors.sqlite"), Cache("vectors.sqlite")],
    "engine": ["auto", "torch", "onnx"],
    "device": ["cuda:1"],
    "dtype": [None, "bfloat16"],
    "revision": [None, "main"],
    "threads": [None, 1],
    "image_policy": [ImagePolicy(max_bytes=1)],
    "image_resize": ["model", "pad", "squash", "none"],
    "image_quality": [None, 1, 100],
    "image_decode": ["exact", "fast"],
    "space": [None, "shop_2024", "jina_clip_v2_1024_0123456789ab"],
    "url_mode": ["fetch", "forward"],
    "show_progress": [True],
}


def cases(table):
    return [pytest.param(name, value, id=f"{name}={value!r}") for name, values in table.items() for value in values]


def test_every_option_is_tested():
    assert set(WRONG) == {field.name for field in dataclasses.fields(EmbedderConfig)}


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_a_wrong_value_is_refused_by_name(name, value):
    for make in (EmbedderConfig, JinaClip):
        with pytest.raises(ConfigError, match=name):
            make(**{name: value})


@pytest.mark.parametrize(("name", "value"), cases(RIGHT))
def test_right_values_are_taken(name, value):
    config = JinaClip(**{name: value}).config
    assert config == EmbedderConfig(**{name: value})
    if name not in ("api_key", "headers", "base_url"):
        assert getattr(config, name) == value


def test_unknown_options_are_refused():
    for make in (EmbedderConfig, JinaClip):
        with pytest.raises(ConfigError, match=r"no option 'colour'$"):
            make(colour="red")
        with pytest.raises(ConfigError, match="name=value"):
            make("jina-clip-v2", "jina_key")


# Words of other libraries

OPTIONS = [field.name for field in dataclasses.fields(EmbedderConfig)]
PLUGINS = {
    "JinaEmbeddings of langchain-community": "session model_name jina_api_key",
    "HuggingFaceEmbeddings of LangChain": "model_name cache_folder model_kwargs encode_kwargs query_encode_kwargs "
    "multi_process show_progress",
    "JinaEmbedding of LlamaIndex": "model api_key embed_batch_size task dimensions late_chunking encoding_queries "
    "encoding_documents",
    "HuggingFaceEmbedding of LlamaIndex": "model_name tokenizer_name pooling max_length query_instruction "
    "text_instruction normalize embed_batch_size cache_folder trust_remote_code device",
    "JinaDocumentEmbedder of Haystack": "api_key model batch_size progress_bar task dimensions late_chunking base_url",
    "JinaDocumentImageEmbedder of Haystack": "api_key model base_url image_size embedding_dimension",
    "SentenceTransformersDocumentEmbedder of Haystack": "model device token batch_size progress_bar "
    "normalize_embeddings trust_remote_code local_files_only truncate_dim model_kwargs tokenizer_kwargs config_kwargs "
    "precision encode_kwargs backend revision",
    "SentenceTransformer": "model_name_or_path device prompts cache_folder trust_remote_code revision "
    "local_files_only token use_auth_token truncate_dim model_kwargs tokenizer_kwargs config_kwargs backend",
}


def refusal(name, value="a value", *, make=JinaClip):
    with pytest.raises(ConfigError) as caught:
        make(**{name: value})
    return caught.value


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_option_of_today_s_plugins_is_ours_or_has_a_hint(plugin):
    for name in PLUGINS[plugin].split():
        assert name in OPTIONS or re.fullmatch(rf"there is no option '{name}'; .+", str(refusal(name)))


@pytest.mark.parametrize(("word", "hint"), HINTS.items(), ids=HINTS)
def test_a_word_of_another_library_leads_to_an_option_that_there_is_and_its_value_is_not_shown(word, hint):
    assert word not in OPTIONS
    for make in (EmbedderConfig, JinaClip):
        error = refusal(word, "jina_" + "secret" * 4, make=make)
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        frames = [line for line in told.split('  File "') if not line.startswith(__file__)]
        assert "secret" not in "".join(frames)
        named = hint if hint.isidentifier() else hint.replace("{", "'").replace("}", "'")
        assert named in str(error)
        assert set(re.findall(r"{(\w+)}", hint)) | ({hint} if hint.isidentifier() else set()) <= set(OPTIONS)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("dimension", "dimensions"),
        ("Embedding-Dimension", "dimensions"),
        ("apikey", "api_key"),
        ("batchsize", "batch_size"),
        ("time_out", "timeout"),
        ("image_resizing", "image_resize"),
        ("max_retry", "max_retries"),
        ("normalised", "normalized"),
    ],
)
def test_misspelt_options_are_recognised(given, meant):
    assert str(refusal(given)).endswith(f"; did you mean {meant!r}?")


def test_all_unknown_options_are_named_in_their_order():
    with pytest.raises(ConfigError) as caught:
        JinaClip(truncate_dim=64, model="jina-clip-v2", trust_remote_code=True, colour="red")
    assert str(caught.value) == (
        "there is no option 'truncate_dim'; did you mean 'dimensions'?; and there is no option 'trust_remote_code'; "
        "it is never needed, as no code of a model repository is run; and there is no option 'colour'"
    )


def test_a_host_recommends_its_own_words_and_what_it_takes_and_nothing_else():
    words = {"model_name": "model", "embed_batch_size": "batch_size", "timeout": "timeout", "hidden": "dimensions"}
    known = ["model_name", "model", "embed_batch_size", "dimensions", "device"]

    def problem(name):
        with pytest.raises(ConfigError) as caught:
            refuse_unknown([name, "dimensions"], known, words)
        return str(caught.value).removeprefix(f"there is no option {name!r}")

    assert problem("model_id") == "; did you mean 'model_name'?"
    assert problem("chunk_size") == "; did you mean 'embed_batch_size'?"
    assert problem("truncate_dim") == "; did you mean 'dimensions'?"
    for lacking in ("api_base", "max_length", "cache_dir", "timeout"):
        assert problem(lacking) == "; it means nothing here", "an option of the core, or what leads to one"
    assert problem("colour") == ""
    refuse_unknown(known, known, words)


def test_the_signature_is_the_configuration_s():
    own, config = (list(inspect.signature(make).parameters.values()) for make in (JinaClip, EmbedderConfig))
    assert own == config
    assert [parameter.kind for parameter in own[1:]] == [inspect.Parameter.KEYWORD_ONLY] * (len(own) - 1)


def test_configurations_cannot_be_changed_but_copied():
    config = EmbedderConfig(api_key="jina_x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 3
    other = config.replace(batch_size=3)
    assert (other.batch_size, config.batch_size, other.key.reveal()) == (3, None, "jina_x")
    assert EmbedderConfig(**config.options()) == config
    with pytest.raises(ConfigError, match="batch_size"):
        config.replace(batch_size=0)


# Dimensions


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [("jina-clip-v2", 1025), ("jina-clip-v1", 767), ("jina-clip-v1", 64), ("jina-clip-v1", 1024)],
)
def test_dimensions_that_the_model_does_not_have(model, dimensions):
    with pytest.raises(ConfigError, match=f"dimensions={dimensions} does not fit {model}"):
        JinaClip(model, dimensions=dimensions)


def test_few_dimensions_are_warned_of_where_they_were_chosen():
    with pytest.warns(UserWarning, match="63 will cost quality") as caught:
        JinaClip(dimensions=63)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert JinaClip(dimensions=64).dimensions == 64
        assert JinaClip("jina-clip-v1", dimensions=768).dimensions == JinaClip("jina-clip-v1").dimensions == 768
        assert JinaClip().dimensions == 1024


@pytest.mark.parametrize("model", ["jina-clip-v3", "clip", "openai/clip", "jina-clip-v2 "])
def test_unknown_models(model):
    with pytest.raises(ConfigError, match="jina-clip-v1 and jina-clip-v2"):
        JinaClip(model)


def test_a_hub_id_is_the_same_model():
    assert JinaClip("jinaai/jina-clip-v2").spec is JinaClip().spec


# Keys


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    monkeypatch.delenv("JINACLIP_API_KEY", raising=False)


def test_the_order_of_keys(monkeypatch):
    config = EmbedderConfig()
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        _ = config.key
    monkeypatch.setenv("JINAAI_API_KEY", " second\n")
    assert config.key.reveal() == "second"
    monkeypatch.setenv("JINA_API_KEY", "first ")
    assert config.key.reveal() == "first"
    assert EmbedderConfig(api_key=" given\t\n").key.reveal() == "given"


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_blank_keys_are_no_keys(monkeypatch, blank):
    monkeypatch.setenv("JINA_API_KEY", blank)
    monkeypatch.setenv("JINAAI_API_KEY", "second")
    assert EmbedderConfig(api_key=blank).key.reveal() == "second"


@pytest.mark.parametrize("key", ["jina_é", "jina_ x", "jina_\x00", "jina_\u200b1", "jina_\nX-Header: 1"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(key):
    with pytest.raises(AuthenticationError) as caught:
        _ = EmbedderConfig(api_key=key).key
    assert "jina_" not in str(caught.value)


def test_no_key_no_request_to_jina():
    with pytest.raises(AuthenticationError) as caught:
        JinaClip().embed_query("a")
    assert caught.value.attempts == 0


SERVERS = [
    "http://gpu-box:8000",
    "https://api.jina.ai.example.org",
    "https://notjina.ai",
    "http://api.jina.ai",
    "https://[fe80::1%25.jina.ai]",
]
HOME = ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"]


@pytest.mark.parametrize("base_url", SERVERS)
def test_a_key_for_jina_in_the_environment_goes_to_no_server_of_another(monkeypatch, base_url):
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    monkeypatch.setenv("JINAAI_API_KEY", "jina_y")
    config = EmbedderConfig(base_url=base_url)
    assert not config.key and not config.authorization
    found_by_a_host = Secret.from_environment("JINA_API_KEY")
    assert not config.replace(api_key=found_by_a_host).key
    monkeypatch.setenv("JINACLIP_API_KEY", "mine")
    assert config.authorization.reveal() == "Bearer mine"
    assert config.replace(api_key="given").key.reveal() == "given"


@pytest.mark.parametrize("base_url", HOME)
def test_a_key_for_jina_never_goes_by_a_proxy_to_this_machine(monkeypatch, base_url):
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "")
    config = EmbedderConfig(base_url=base_url)
    assert not config.key
    assert config.replace(api_key="given").key.reveal() == "given"
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost,::1")
    assert config.key.reveal() == "jina_x"


@pytest.mark.parametrize("base_url", HOME)
def test_a_key_of_the_environment_goes_to_this_machine(monkeypatch, base_url):
    config = EmbedderConfig(base_url=base_url)
    assert not config.authorization
    monkeypatch.setenv("JINA_API_KEY", "jina_x")
    assert config.key.reveal() == "jina_x"
    monkeypatch.setenv("JINACLIP_API_KEY", "mine")
    assert config.key.reveal() == "mine"


@pytest.mark.parametrize("base_url", ["api.jina.ai", "https://eu.jina.ai/v1", "https://jina.ai"])
def test_jinas_hosts_get_jinas_key_alone(monkeypatch, base_url):
    monkeypatch.setenv("JINACLIP_API_KEY", "mine")
    config = EmbedderConfig(base_url=base_url)
    with pytest.raises(AuthenticationError, match="JINA_API_KEY"):
        _ = config.key
    monkeypatch.setenv("JINAAI_API_KEY", "jina_y")
    assert config.key.reveal() == "jina_y"


# Wires


def test_the_address_names_the_wire_where_the_option_does_not():
    assert EmbedderConfig().wire_name == EmbedderConfig(base_url="http://a.b").wire_name == "jina"
    assert EmbedderConfig(base_url="http://a.b", wire="openai").wire_name == "openai"
    there = EmbedderConfig(base_url="sagemaker://eu-west-1/my-Endpoint?images=bytes")
    assert (there.wire_name, there.base_url) == ("sagemaker", "sagemaker://eu-west-1/my-Endpoint")
    assert there.replace(wire="sagemaker").wire_name == "sagemaker"


@pytest.mark.parametrize("wire", ["jina", "openai"])
def test_an_address_of_sagemaker_takes_no_other_wire(wire):
    with pytest.raises(ConfigError, match=f"wire='{wire}' needs a base_url that is an http"):
        EmbedderConfig(base_url="sagemaker://eu-west-1/clip", wire=wire)


def test_the_wire_does_not_change_the_space_and_the_endpoint_does():
    one = JinaClip(base_url="http://a.b")
    assert JinaClip(base_url="http://a.b", wire="openai").space == one.space != JinaClip().space


def test_what_a_wire_cannot_say_is_refused_as_a_setting():
    with pytest.raises(ConfigError, match="normalized=False cannot be asked for with wire='openai'"):
        JinaClip(base_url="http://a.b", wire="openai", normalized=False)


def test_secrets_compare_by_content():
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret(None)}) == 2
    assert not Secret(None)
    assert Secret.wrap(Secret("a")) == Secret("a")


def through_pickle(thing):
    found = [pickle.loads(pickle.dumps(thing, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return found[-1]


def through_cloudpickle(thing):
    return pickle.loads(cloudpickle.dumps(thing))


ROADS = [through_pickle, through_cloudpickle]


@pytest.mark.parametrize("road", [*ROADS, copy.copy, copy.deepcopy], ids=lambda way: way.__qualname__)
@pytest.mark.parametrize("variable", ["JINA_API_KEY", "JINAAI_API_KEY", None])
def test_a_key_that_was_given_travels_and_the_environment_s_is_never_taken_for_it(road, variable, monkeypatch):
    clip = JinaClip(api_key="jina_given")
    if variable:
        monkeypatch.setenv(variable, "jina_of_another_account")
    for config in (road(clip).config, road(clip.config), EmbedderConfig(**road(clip.config.options()))):
        assert config.key.reveal() == "jina_given"
        assert "jina_given" not in repr(config) + repr(vars(config))


@pytest.mark.parametrize("road", ROADS, ids=lambda way: way.__qualname__)
def test_a_key_of_the_environment_stays_there_and_is_read_there(road, monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", "jina_of_the_environment")
    clip = JinaClip()
    _ = clip.config.key
    there = road(clip)
    assert there.config.key.reveal() == "jina_of_the_environment"
    assert b"jina_of_the_environment" not in pickle.dumps(clip) + pickle.dumps(clip.config.key)
    monkeypatch.setenv("JINA_API_KEY", "jina_of_the_other_process")
    assert there.config.key.reveal() == "jina_of_the_other_process"
    monkeypatch.delenv("JINA_API_KEY")
    with pytest.raises(AuthenticationError, match="of each process"):
        _ = there.config.key


def test_a_secret_that_does_not_travel_is_copied_within_the_process(monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", "jina_of_the_environment")
    found = Secret.from_environment("UNSET", "JINA_API_KEY")
    assert copy.copy(found).reveal() == copy.deepcopy(found).reveal() == "jina_of_the_environment"
    assert not through_pickle(found)
    assert not Secret.from_environment("UNSET")


# Headers and transport

VALUE = "a-secret-value"
HEADERS = {"X-Team": VALUE, "X-Shop": f"{VALUE} \xe9"}


def test_headers_are_read_by_name_and_revealed_for_a_request_alone():
    headers = EmbedderConfig(headers=HEADERS).extra_headers
    assert headers.reveal() == HEADERS
    assert headers["x-TEAM"] == Secret(VALUE)
    assert list(headers) == ["X-Team", "X-Shop"] and "X-Other" not in headers
    assert EmbedderConfig().extra_headers.reveal() == {}
    assert EmbedderConfig(headers=headers).headers is headers


def test_headers_compare_by_content():
    one, other = Headers({"X-A": "1", "X-B": "2"}), Headers({"x-b": "2", "x-a": "1"})
    assert one == other != Headers({"X-A": "1", "X-B": "3"})
    assert len({one, other, Headers({})}) == 2
    assert EmbedderConfig(headers=one) == EmbedderConfig(headers=other) != EmbedderConfig()


@pytest.mark.parametrize("show", [repr, str, pprint.pformat, lambda thing: json.dumps(thing, default=str)])
def test_values_of_headers_are_not_shown(show):
    config = EmbedderConfig(headers=HEADERS)
    clip = JinaClip(headers=HEADERS)
    shown = [
        config.headers,
        config.options(),
        dataclasses.asdict(config),
        vars(clip),
        vars(config),
        dict(config.headers),
    ]
    for thing in [config, clip, copy.deepcopy(config), config.replace(batch_size=3), *shown]:
        assert VALUE not in show(thing)
    assert "X-Team" in repr(config)


@pytest.mark.parametrize("duplicate", [*ROADS, copy.copy, copy.deepcopy], ids=lambda way: way.__qualname__)
def test_headers_travel(duplicate):
    config = EmbedderConfig(headers={**HEADERS, "Authorization": VALUE})
    for again in (
        duplicate(config),
        EmbedderConfig(**duplicate(config.options())),
        duplicate(JinaClip(headers=config.headers)).config,
    ):
        assert again.extra_headers.reveal() == {**HEADERS, "Authorization": VALUE}
        assert again.authorization.reveal() == VALUE
        assert VALUE not in repr(again)


def test_a_header_without_a_value_is_not_sent(monkeypatch):
    """A host may resolve it later; and what was found in the environment does not leave the process."""
    monkeypatch.setenv("TEAM", VALUE)
    names = {"X-Team": Secret(None), "Authorization": Secret(None)}
    found = {name: Secret.from_environment("TEAM") for name in names}
    for config in (EmbedderConfig(headers=names), through_pickle(EmbedderConfig(headers=found))):
        assert list(config.extra_headers) == list(names)
        with pytest.raises(ConfigError, match="'X-Team' has no value"):
            config.extra_headers.reveal()
        with pytest.raises(AuthenticationError, match="'Authorization' has no value"):
            _ = config.authorization
    assert EmbedderConfig(headers=found).extra_headers.reveal() == dict.fromkeys(names, VALUE)


BAD_HEADERS = [
    ({"X-Team": f"{VALUE}\r\nX-Other: 1"}, "X-Team"),
    ({"X-Team": f"{VALUE}\n"}, "X-Team"),
    ({"X-Team": f"{VALUE}\0"}, "X-Team"),
    ({"X-Team": f"{VALUE}\u20ac"}, "X-Team"),
    ({"X-Team": " "}, "X-Team"),
    ({"X-Team": VALUE.encode()}, "'X-Team' is of type bytes"),
    ({"X-Team": [VALUE]}, "'X-Team' is of type list"),
    ({"X-Team": Secret.wrap(3)}, "X-Team"),
    ({"X-Team": VALUE, "x-team": VALUE}, "'x-team' is there twice"),
    ({f"X-Team: {VALUE}": "1"}, "'X-Team'"),
    ({f"X-Team\n{VALUE}": "1"}, "'X-Team'"),
    ({f"jina_{VALUE}": "1"}, "API key"),
    *(({name: VALUE}, name) for name in ("Host", "content-length", "Transfer-Encoding", "CONNECTION")),
    *(({name: VALUE}, name) for name in ("Content-Type", "accept-encoding")),
]


@pytest.mark.parametrize("make", [EmbedderConfig, JinaClip])
@pytest.mark.parametrize(("headers", "named"), BAD_HEADERS, ids=repr)
def test_a_wrong_header_is_refused_by_name_and_its_value_not_shown(make, headers, named):
    with pytest.raises(ConfigError, match=named) as caught:
        make(headers=headers)
    assert caught.value.option == "headers"
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    frames = [line for line in told if f'File "{__file__}"' not in line]
    assert VALUE not in "".join(frames) + str(caught.value)


def test_an_authorization_among_the_headers_replaces_the_key(monkeypatch):
    assert EmbedderConfig(api_key="jina_x").authorization.reveal() == "Bearer jina_x"
    with pytest.raises(AuthenticationError, match="no API key"):
        _ = EmbedderConfig(headers=HEADERS).authorization
    monkeypatch.setenv("JINA_API_KEY", "jina_of_the_environment")
    for key in (None, "jina_x"):
        config = EmbedderConfig(api_key=key, headers={"authorization": "Basic YTpi"})
        assert config.authorization.reveal() == "Basic YTpi"
        assert not config.key


def test_values_that_other_libraries_keep_secret_are_unwrapped():
    class SecretStr:
        def get_secret_value(self):
            return VALUE

    config = EmbedderConfig(headers={"X-Team": SecretStr(), "X-Shop": Secret(VALUE)})
    assert config.extra_headers.reveal() == {"X-Team": VALUE, "X-Shop": VALUE}


def test_a_transport_travels_if_it_can_and_is_not_shown():
    config = EmbedderConfig(transport=dict)
    assert pickle.loads(pickle.dumps(config)).transport is copy.deepcopy(config).transport is dict
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(EmbedderConfig(transport=lambda: None))
    assert VALUE not in repr(EmbedderConfig(transport=functools.partial(dict, proxy=VALUE)))


@pytest.mark.parametrize("background", [None, 5, "white", (1, 2), (1, 2, 256), (1, 2, None), {1, 2, 3}])
def test_a_background_that_is_no_colour_is_refused_by_name(background):
    with pytest.raises(ConfigError, match=r"image_policy\.background"):
        ImagePolicy(background=background)
