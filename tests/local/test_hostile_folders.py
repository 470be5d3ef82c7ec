"""Checkpoint folders made to do harm: refused in words, within 2 s and 64 MB over the size of the file."""

from __future__ import annotations

import base64
import json
import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jinaclip.backends.local.source import FILES
from tests.local.loading import Attempt, Loader
from tests.tiny import make_checkpoint

SECONDS, BYTES = 2, 64 * 2**20
PATIENCE = 10
"""How many times as long a loaded machine may take."""
ALLOWED = {"CheckpointError", "ConfigError"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    made = Loader()
    yield made
    made.close()


def show(value: object) -> str:
    return repr(value)[:30]


def check(found: Attempt, *words: str) -> None:
    assert found.outcome == "CheckpointError", found
    assert len(found.message) < 2000
    for word in words:
        assert word in found.message
    assert found.grown < BYTES, f"{found.grown / 2**20:.0f} MB"
    assert found.seconds < SECONDS * PATIENCE


def change(folder: Path, name: str, spoil: Callable[[Any], object]) -> None:
    """Changes the JSON of a file in place."""
    path = folder / name
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_sound_folder_loads(version: str, tmp_path: Path, loader: Loader) -> None:
    assert loader.load(make_checkpoint(tmp_path / "sound", version)).outcome == "works"


# -- config.json

VISION = [
    *[("image_size", value) for value in (16384, 10**9, 2**62, -1, 0, 60.5, True, "60", float("nan"), [60], 10**400)],
    *[("patch_size", value) for value in (0, 1, -1, 10**9, 1e999)],
    *[("layers", value) for value in (0, 3, 256, 10**6)],
    *[("width", value) for value in (0, 2**16, 10**7)],
    *[("head_width", value) for value in (0, 3, 64 * 4, 10**7)],
    *[("mlp_ratio", value) for value in (0, -1.0, 1e7, float("inf"))],
    ("pt_hw_seq_len", 0),
    ("embed_dim", 2**16),
]
TEXT = [
    *[("vocab_size", value) for value in (0, 2**40, 10**7, -5, "many")],
    *[("hidden_size", value) for value in (0, 2**16, 2**62, None)],
    *[("num_hidden_layers", value) for value in (3, 256, 10**6)],
    *[("num_attention_heads", value) for value in (0, 7, 2**16, 10**9)],
    *[("intermediate_size", value) for value in (0, 2**16, 10**12)],
    *[("type_vocab_size", value) for value in (0, 10**7)],
    *[("pad_token_id", value) for value in (-1, 300, 60_000)],
    ("layer_norm_eps", float("nan")),
]
ADAPTERS = [
    *[("rotary_emb_base", value) for value in (0, -1.0, float("nan"), float("inf"), 1e-300)],
    *[("lora_rank", value) for value in (0, -1, 2**16, 10**9, 1.5)],
    *[("lora_alpha", value) for value in (float("nan"), "x")],
    *[("lora_adaptations", value) for value in (["retrieval.query"] * 100_000, [[]], 5, {"a": 1})],
    *[("task_instructions", value) for value in (3, {"retrieval.query": 3})],
]


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "v1", "v1")


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "v2", "v2")


@pytest.mark.slow
@pytest.mark.parametrize(("key", "value"), VISION, ids=show)
def test_sizes_of_the_vision_tower(key: str, value: object, v2: Path, loader: Loader) -> None:
    change(v2, "config.json", lambda config: config["vision_config"].update({key: value}))
    check(loader.load(v2))


@pytest.mark.slow
@pytest.mark.parametrize(("key", "value"), TEXT, ids=show)
def test_sizes_of_the_text_tower(key: str, value: object, v1: Path, loader: Loader) -> None:
    change(v1, "config.json", lambda config: config["text_config"]["hf_model_config_kwargs"].update({key: value}))
    check(loader.load(v1))


@pytest.mark.parametrize(("key", "value"), ADAPTERS, ids=show)
def test_adapters_and_rotary_positions(key: str, value: object, v2: Path, loader: Loader) -> None:
    change(v2, "config.json", lambda config: config["text_config"]["hf_model_config_kwargs"].update({key: value}))
    check(loader.load(v2))


def test_sizes_that_keep_every_shape_and_only_swell_what_no_tensor_has(v2: Path, loader: Loader) -> None:
    """A grid of 4 x 4 patches of 4096 pixels has as many positions as one of 14."""
    vision = {"image_size": 4 * 16384, "patch_size": 16384}
    change(v2, "config.json", lambda config: config["vision_config"].update(vision))
    change(v2, "preprocessor_config.json", lambda config: config.update(size=4 * 16384))
    check(loader.load(v2), "image_size")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("matryoshka_dimensions", "all of them"),
        ("matryoshka_dimensions", 5),
        ("matryoshka_dimensions", [10**9]),
        ("matryoshka_dimensions", [0.5]),
        ("projection_dim", 10**30),
        ("text_config", {"hf_model_name_or_path": []}),
        ("text_config", {"hf_model_name_or_path": "x" * 500_000}),
        ("vision_config", []),
    ],
    ids=show,
)
def test_other_values_of_the_config(key: str, value: object, v2: Path, loader: Loader) -> None:
    change(v2, "config.json", lambda config: config.update({key: value, "add_projections": True}))
    check(loader.load(v2))


# -- files that are none


NESTED = b'{"text_config": ' + b"[" * 500_000
TWICE = b'{"text_config": {}, "text_config": {}}'
MANY = b'{"a": [' + b"{}," * (300 * 2**10) + b"{}]}"
CONTENTS = {"nested": NESTED, "twice": TWICE, "many": MANY, "digits": b'{"a": ' + b"9" * 500_000 + b"}"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_json_that_costs_much_to_read(name: str, content: str, v2: Path, loader: Loader) -> None:
    (v2 / name).write_bytes(CONTENTS[content])
    check(loader.load(v2), name.removesuffix(".json"))


@pytest.mark.parametrize("name", FILES)
def test_files_of_two_gigabytes_of_nothing(name: str, v2: Path, loader: Loader) -> None:
    with (v2 / name).open("r+b") as file:
        file.truncate(2 * 2**30)
    check(loader.load(v2), name)


def become_pipe(path: Path) -> None:
    os.mkfifo(path)


def become_folder(path: Path) -> None:
    path.mkdir()


def become_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def become_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.slow
@pytest.mark.parametrize("become", [become_pipe, become_folder, become_device, become_loop])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file(name: str, become: Callable[[Path], None], v2: Path, loader: Loader) -> None:
    (v2 / name).unlink()
    become(v2 / name)
    check(loader.load(v2), name)


def test_a_folder_of_links_loads_as_the_cache_of_the_hub_does(v2: Path, tmp_path: Path, loader: Loader) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in FILES:
        (snapshot / name).symlink_to(v2 / name)
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"logit_scale": "../../../etc/passwd"}}')
    assert loader.load(snapshot).outcome == "works"


# -- model.safetensors


def write_header(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    length = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + data)


def tensor(shape: object, offsets: object, kind: object = "F32") -> bytes:
    return json.dumps({"logit_scale": {"dtype": kind, "shape": shape, "data_offsets": offsets}}).encode()


HEADERS: dict[str, Callable[[], bytes]] = {
    "a product without end": lambda: tensor([2**62] * 50_000, [0, 4]),
    "many axes of one": lambda: tensor([1] * 50_000, [0, 4]),
    "a negative side": lambda: tensor([-1, -1], [0, 4]),
    "sides as text": lambda: tensor(["1"], [0, 4]),
    "sides that are true": lambda: tensor([True], [0, 4]),
    "offsets backwards": lambda: tensor([1], [4, 0]),
    "offsets that are no integers": lambda: tensor([1], [0.0, 4.0]),
    "an offset beyond 64 bits": lambda: tensor([2**70], [0, 2**72]),
    "a type that is a list": lambda: tensor([1], [0, 4], ["F32"]),
    "three offsets": lambda: tensor([1], [0, 2, 4]),
    "a name of half a megabyte": lambda: json.dumps(
        {"n" * 500_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode(),
    "a type of half a megabyte": lambda: tensor([1], [0, 4], "F" * 500_000),
    "a hundred thousand tensors": lambda: json.dumps({str(i): {} for i in range(100_000)}).encode(),
    "nested": lambda: b'{"a": ' + b"[" * 500_000,
    "twice": lambda: b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": {}}',
    "an overlap beside a gap": lambda: json.dumps(
        {
            name: {"dtype": "F32", "shape": [1], "data_offsets": [start, start + 4]}
            for name, start in (("a", 0), ("b", 0), ("c", 8))
        }
    ).encode(),
}


@pytest.mark.slow
@pytest.mark.parametrize("header", HEADERS)
def test_headers_of_weights(header: str, v2: Path, loader: Loader) -> None:
    write_header(v2, HEADERS[header](), bytes(12 if "overlap" in header else 4))
    check(loader.load(v2), "model.safetensors")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100 * 2**20, 17])
def test_lengths_of_headers(length: int, v2: Path, loader: Loader) -> None:
    write_header(v2, b"{}" + b" " * 100, length=length)
    check(loader.load(v2), "model.safetensors")


def test_a_header_of_a_hundred_megabytes(v2: Path, loader: Loader) -> None:
    write_header(v2, b"{}", length=100 * 2**20)
    with (v2 / "model.safetensors").open("r+b") as file:
        file.truncate(200 * 2**20)
    check(loader.load(v2), "header")


# -- tokenizer.json


def rule(kind: str, **values: object) -> dict[str, object]:
    return {"type": kind, **values}


def sequence(key: str, *rules: object) -> dict[str, object]:
    return {"type": "Sequence", key: rules}


def charsmap(*pieces: bytes, length: int = 4) -> dict[str, object]:
    blob = struct.pack("<I", length) + bytes(length) + b"\0".join(pieces) + b"\0"
    return rule("Precompiled", precompiled_charsmap=base64.b64encode(blob).decode())


def template(*pieces: object, ids: int = 1) -> dict[str, object]:
    known = {"id": "<s>", "ids": [0] * ids, "tokens": ["<s>"] * ids}
    return rule("TemplateProcessing", single=pieces, pair=[TEXT_A, TEXT_B], special_tokens={"<s>": known})


TEXT_A, TEXT_B = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
START = {"SpecialToken": {"id": "<s>", "type_id": 0}}
PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
TOKENIZERS: dict[str, Callable[[], dict[str, object]]] = {
    "padding to 10^8": lambda: {"padding": {"strategy": {"Fixed": 10**8}, **PADDING}},
    "replacing by more": lambda: {"normalizer": rule("Replace", pattern={"String": "a"}, content="a" * 10**6)},
    "doubling ten times": lambda: {
        "normalizer": sequence(
            "normalizers", *[rule("Replace", pattern={"String": "a"}, content="aa") for _ in range(10)]
        )
    },
    "replacing nothing": lambda: {"normalizer": rule("Replace", pattern={"String": ""}, content="")},
    "an expression without end": lambda: {"normalizer": rule("Replace", pattern={"Regex": "(a+)+$"}, content="")},
    "splitting without end": lambda: {
        "pre_tokenizer": rule("Split", pattern={"Regex": "(a|aa)+$"}, behavior="Isolated", invert=False)
    },
    "an expression of a megabyte": lambda: {
        "pre_tokenizer": rule("Split", pattern={"Regex": "a?" * 500_000}, behavior="Isolated", invert=False)
    },
    "a thousand rules": lambda: {"normalizer": sequence("normalizers", *[rule("NFKD")] * 1000)},
    "sequences in sequences": lambda: {
        "normalizer": sequence("normalizers", sequence("normalizers", *[rule("Strip")] * 20), rule("NFC"))
    },
    "bytes of bytes": lambda: {"normalizer": sequence("normalizers", *[rule("ByteLevel")] * 16)},
    "a long text before each": lambda: {"normalizer": rule("Prepend", prepend="x" * 10**6)},
    "a map to long texts": lambda: {"normalizer": charsmap(b"x" * 100_000)},
    "a map that is none": lambda: {"normalizer": rule("Precompiled", precompiled_charsmap="%%%")},
    "a map of nothing": lambda: {"normalizer": rule("Precompiled", precompiled_charsmap=None)},
    "a rule nobody knows": lambda: {"normalizer": rule("Exec", command="rm")},
    "a rule that is none": lambda: {"normalizer": [1]},
    "special tokens by the million": lambda: {"post_processor": template(*[START] * 300_000, TEXT_A)},
    "one special token of many ids": lambda: {"post_processor": template(START, TEXT_A, ids=100_000)},
    "the text again and again": lambda: {"post_processor": template(*[TEXT_A] * 10_000)},
    "added tokens without end": lambda: {
        "added_tokens": [
            {"id": i, "content": f"t{i}", "special": False, "normalized": True}
            | dict.fromkeys(["single_word", "lstrip", "rstrip"], False)
            for i in range(50_000)
        ]
    },
    "words without end": lambda: {
        "model": rule(
            "WordPiece",
            vocab={"a": 0, "##a": 1, "[UNK]": 2},
            unk_token="[UNK]",
            continuing_subword_prefix="##",
            max_input_chars_per_word=10**9,
        )
    },
    "chance": lambda: {"model": rule("BPE", dropout=0.5, vocab={"a": 0}, merges=[])},
    "a model nobody knows": lambda: {"model": rule("Nothing", vocab={})},
    "no model": lambda: {"model": None},
    "a token of a megabyte": lambda: {
        "model": rule("WordLevel", vocab={"a": 0, "b" * 10**6: 1, "u": 2}, unk_token="u")
    },
    "ids beyond the vocabulary": lambda: {"model": rule("WordLevel", vocab={"a": 0, "u": 2**31}, unk_token="u")},
    "more tokens than the word table has rows": lambda: {
        "model": rule("WordLevel", vocab={"u": 0} | {f"t{i}": i for i in range(1, 60_000)}, unk_token="u")
    },
    "lists by the hundred thousand": lambda: {
        "model": rule("Unigram", vocab=[[f"t{i}", -1.0] for i in range(300_000)], unk_id=0)
    },
    "a vocabulary that is a number": lambda: {"model": rule("WordLevel", vocab=5, unk_token="u")},
    "no token for a plain text": lambda: {
        "model": rule("WordLevel", vocab={"<pad>": 1}, unk_token="<pad>"),
        "post_processor": None,
        "pre_tokenizer": None,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_rules_of_tokenizers(kind: str, v2: Path, loader: Loader) -> None:
    change(v2, "tokenizer.json", lambda config: config.update(TOKENIZERS[kind]()))
    check(loader.load(v2), "tokenizer.json")


SOUND: dict[str, dict[str, object]] = {
    "padding and truncation": {
        "padding": {"strategy": {"Fixed": 512}, **PADDING},
        "truncation": {"max_length": 2, "stride": 0, "strategy": "LongestFirst", "direction": "Right"},
    },
    "the normalizer of XLM-R": {
        "normalizer": sequence(
            "normalizers",
            rule("NFKC"),
            rule("Strip", strip_left=False, strip_right=True),
            rule("Replace", pattern={"Regex": " {2,}"}, content="▁"),
        )
    },
    "no post-processor": {"post_processor": None},
    **{
        f"splitting at {regex}": {
            "pre_tokenizer": sequence(
                "pretokenizers",
                rule("Split", pattern={"Regex": regex}, behavior="Isolated", invert=False),
                rule("ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False),
            )
        }
        for regex in (r"[\p{Han}\p{Hiragana}\p{Katakana}ー]", r"\s+")
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOUND)
def test_rules_that_published_tokenizers_have(kind: str, v2: Path, loader: Loader) -> None:
    change(v2, "tokenizer.json", lambda config: config.update(SOUND[kind]))
    assert loader.load(v2).outcome == "works"


# -- preprocessor_config.json


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("size", value) for value in (10**9, 0, -60, 60.5, True, "60", [60, [60]], {"height": 60, "width": 61}, {})],
        *[("mean", value) for value in ([1], [1] * 100_000, "123", [float("nan")] * 3, [10**400] * 3, [True] * 3, 5)],
        *[("std", value) for value in ([0, 1, 1], [1e-300] * 3, [-1, 1, 1], [1e30] * 3, {"a": 1}, [None] * 3)],
        *[("fill_color", value) for value in (-1, 256, 1e999, [1, 2], "123", True)],
        *[("interpolation", value) for value in ([], "magic", 3)],
        *[("resize_mode", value) for value in ({}, "largest")],
    ],
    ids=show,
)
def test_values_of_the_preprocessing(key: str, value: object, v2: Path, loader: Loader) -> None:
    change(v2, "preprocessor_config.json", lambda config: config.update({key: value}))
    check(loader.load(v2), "preprocessor_config.json")


# -- anything


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 3, 7, 255, 2**16, 2**31, 2**63, 10**30, 1e999, -1e999, float("nan"), 0.5, 1e-300]),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places_of(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value where another could stand: what holds it, and its key there."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [place for key in keys[:50] for place in [(value, key), *places_of(value[key])]]


def mutate(folder: Path, data: st.DataObject) -> None:
    """Changes one to three values of one of the files, or bytes of it."""
    name = data.draw(st.sampled_from(FILES))
    path = folder / name
    raw = path.read_bytes()
    if name.endswith(".json") and data.draw(st.booleans()):
        content = json.loads(raw)
        for _ in range(data.draw(st.integers(1, 3))):
            holder, key = data.draw(st.sampled_from(places_of(content)))
            holder[key] = data.draw(VALUES)
        path.write_text(json.dumps(content))
        return
    some = random.Random(data.draw(st.integers(0, 2**32)))
    spoiled = bytearray(raw)
    for _ in range(some.choice([1, 2, 8])):
        spoiled[some.randrange(min(len(raw), some.choice([8, 200, 20_000, len(raw)])))] = some.randrange(256)
    path.write_bytes(spoiled[: some.choice([len(raw), len(raw), some.randrange(len(raw))])])


def load_mutated(version: str, folder: Path, loader: Loader, data: st.DataObject) -> None:
    """Only our own errors, or a model that works, at a bounded cost."""
    path = make_checkpoint(folder / str(len(list(folder.iterdir()))), version)
    mutate(path, data)
    found = loader.load(path)
    if found.outcome == "works":
        return
    assert found.outcome in ALLOWED, (found, path)
    assert found.grown < BYTES
    assert found.seconds < SECONDS * PATIENCE


QUICK = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
MANY_TIMES = settings(QUICK, max_examples=3000)


@pytest.mark.slow
@QUICK
@given(version=st.sampled_from(["v1", "v2"]), data=st.data())
def test_mutated_folders(version: str, data: st.DataObject, tmp_path: Path, loader: Loader) -> None:
    load_mutated(version, tmp_path, loader, data)


@pytest.mark.long
@MANY_TIMES
@given(version=st.sampled_from(["v1", "v2"]), data=st.data())
def test_many_mutated_folders(version: str, data: st.DataObject, tmp_path: Path, loader: Loader) -> None:
    load_mutated(version, tmp_path, loader, data)
