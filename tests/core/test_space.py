"""Names of vector spaces: equal where vectors can be compared, different where they cannot, the same for ever."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from jinaclip import ConfigError, ImagePolicy, JinaClip
from jinaclip.backends.api.route import Endpoint
from jinaclip.config import EmbedderConfig
from jinaclip.secret import KEY_SHAPE
from jinaclip.space import Weights, name_space
from tests.needs import skip_without

GPU_BOX = {"base_url": "http://gpu-box:8000"}

# Whoever changes a value here renames the collections and empties the caches of all users with these settings. A new
# option must not: leave it out of the digest where it is at its default. See docs/decisions/0016.
KNOWN: list[tuple[dict[str, Any], str]] = [
    ({}, "jina_clip_v2_1024_c41d1e0588cc"),
    ({"model": "jina-clip-v1"}, "jina_clip_v1_768_bde5ab92be76"),
    ({"dimensions": 64}, "jina_clip_v2_64_ffe39e764fe6"),
    ({"dimensions": 256}, "jina_clip_v2_256_06d2c71fa705"),
    ({"dimensions": 512}, "jina_clip_v2_512_5dab2d63b26f"),
    ({"normalized": False}, "jina_clip_v2_1024_897a3ab79280"),
    ({"image_resize": "none"}, "jina_clip_v2_1024_bbc97dd739e3"),
    ({"image_resize": "pad"}, "jina_clip_v2_1024_e29c3a850e04"),
    ({"image_resize": "squash"}, "jina_clip_v2_1024_17020c7461cf"),
    ({"image_quality": 90}, "jina_clip_v2_1024_87653513db50"),
    ({"url_mode": "forward"}, "jina_clip_v2_1024_9e7634bf7fa6"),
    ({"image_policy": ImagePolicy(orient=False)}, "jina_clip_v2_1024_d5421643d7e7"),
    ({"image_policy": ImagePolicy(background=(0, 0, 0))}, "jina_clip_v2_1024_f281ed733aee"),
    ({"image_policy": ImagePolicy(frame=1)}, "jina_clip_v2_1024_1cf0bd4262e9"),
    (GPU_BOX, "jina_clip_v2_1024_6bda457cfc9f"),
    ({**GPU_BOX, "model": "jina-clip-v1"}, "jina_clip_v1_768_b05c83e651e9"),
    ({"base_url": "https://eu.example/prefix"}, "jina_clip_v2_1024_0319e5b5fe76"),
    (
        {"model": "jina-clip-v1", "normalized": False, "image_resize": "none", "image_quality": 80},
        "jina_clip_v1_768_b3bab39e7e59",
    ),
]
SAME: list[dict[str, Any]] = [
    {"dimensions": 1024},
    {"dimensions": np.int64(1024)},
    {"model": "jinaai/jina-clip-v2"},
    {"truncate": True},
    {"batch_size": 1},
    {"max_concurrency": 1},
    {"max_retries": 0},
    {"timeout": 1},
    {"deadline": 1},
    {"api_key": "jina_x"},
    {"headers": {"X-Team": "shop"}},
    {"transport": list},
    {"requests_per_minute": 1},
    {"tokens_per_minute": 1},
    {"token_budget": 1},
    {"engine": "onnx"},  # of weights on this machine; nothing over the API
    {"device": "cpu"},
    {"dtype": "float16"},
    {"revision": "0" * 40},  # the same
    {"threads": 2},
    {"show_progress": True},
    {"base_url": "api.jina.ai"},
    {"base_url": "https://API.jina.ai:443/v1/"},
    {"image_policy": ImagePolicy(max_bytes=5, allowed_roots="any", ports=(1,), truncated=True)},
    {"image_policy": ImagePolicy(background=[255, 255, 255])},
]


@pytest.mark.parametrize(("options", "name"), KNOWN, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_known_spaces_keep_their_names(options: dict[str, Any], name: str) -> None:
    assert JinaClip(**options).space == name


def test_what_changes_vectors_changes_the_space() -> None:
    names = [JinaClip(**options).space for options, _ in KNOWN]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("options", SAME, ids=repr)
def test_nothing_else_does(options: dict[str, Any]) -> None:
    assert JinaClip(**options).space == JinaClip().space


@pytest.mark.parametrize("options", [options for options, _ in KNOWN if "base_url" not in options], ids=repr)
@pytest.mark.parametrize("way", [{}, {"device": "cpu", "dtype": "bfloat16"}, GPU_BOX], ids=repr)
def test_an_index_survives_the_switch_to_the_published_weights_at_home(
    options: dict[str, Any], way: dict[str, Any]
) -> None:
    skip_without("torch")
    assert JinaClip(backend="local", **options, **way).space == JinaClip(**options).space


@pytest.mark.parametrize("options", [options for options, _ in KNOWN], ids=repr)
def test_a_space_is_a_name_for_every_store(options: dict[str, Any]) -> None:
    """Pinecone takes 45 characters, PostgreSQL 63; not all tell cases apart, and some allow no hyphen."""
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,34}", JinaClip(**options).space)


def test_it_reads_as_model_and_width() -> None:
    assert re.fullmatch(r"jina_clip_v2_256_[0-9a-f]{12}", JinaClip(dimensions=256).space)
    assert re.fullmatch(r"jina_clip_v1_768_[0-9a-f]{12}", JinaClip("jina-clip-v1", **GPU_BOX).space)


@pytest.mark.parametrize("url", ["http://GPU-BOX:8000/", "http://gpu-box:8000/v1", "http://gpu-box:8000/v1/embeddings"])
def test_an_endpoint_counts_however_it_is_written(url: str) -> None:
    assert JinaClip(base_url=url).space == JinaClip(**GPU_BOX).space


def test_a_named_space_is_taken_as_it_is() -> None:
    served = JinaClip(**GPU_BOX, space=JinaClip().space)
    assert served.space == JinaClip().space != JinaClip(**GPU_BOX).space
    assert served.fingerprint == JinaClip(**GPU_BOX).fingerprint, "a name changes no bit"
    assert JinaClip(space="Shop_2024", dimensions=64).space == "Shop_2024"


def test_a_space_is_not_taken_for_a_key_in_messages() -> None:
    endpoint = Endpoint.of(EmbedderConfig(api_key="jina_test_space"))
    text = f"got {JinaClip().space} for jina_0123456789abcdef"
    assert endpoint.clean(text) == f"got {JinaClip().space} for ***"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Someone's Clip", "someone_s_clip"),
        ("4clip", "model_4clip"),
        ("\u00fc", "model"),
        ("jina-shop", "jinashop"),
        ("a-very-long-name-of-a-model", "a_very_long_name"),
    ],
)
def test_models_of_any_name_give_names_for_every_store(name: str, word: str) -> None:
    space = name_space(Weights(name, {"commit": "1"}), 1024, EmbedderConfig())
    assert re.fullmatch(rf"{word}_1024_[0-9a-f]{{12}}", space)
    assert not KEY_SHAPE.search(space)


@pytest.mark.parametrize("name", ["", "1shop", "_shop", "my-shop", "my shop", "sh\u00f6p", "shop\n", "s" * 37])
def test_a_name_that_some_store_refuses_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="space"):
        JinaClip(space=name)


@pytest.mark.slow
def test_names_are_the_same_in_every_process() -> None:
    code = "from jinaclip import JinaClip; c = JinaClip(dimensions=64, image_quality=80); print(c.space, c.fingerprint)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    one = JinaClip(dimensions=64, image_quality=80)
    assert found == {f"{one.space} {one.fingerprint}"}


def test_asking_for_it_opens_no_connection_and_loads_no_torch() -> None:
    skip_without("torch")
    code = (
        "import sys; from jinaclip import JinaClip\n"
        "clips = [JinaClip(), JinaClip(backend='local')]\n"
        "sys.addaudithook(lambda name, args: sys.exit(name) if name.startswith('socket.') else None)\n"
        "print({clip.space for clip in clips}, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(f"{{'{JinaClip().space}'}} False")


# Fingerprints


def test_fingerprints_change_with_the_space_and_with_the_backend() -> None:
    names = [JinaClip(**options).fingerprint for options, _ in KNOWN]
    assert len(set(names)) == len(names)
    skip_without("torch")
    local = [JinaClip(backend="local", device="cpu", dtype=dtype).fingerprint for dtype in ("float32", "bfloat16")]
    assert len({*names, *local}) == len(names) + 2


@pytest.mark.parametrize("options", SAME, ids=repr)
def test_fingerprints_do_not_change_with_the_rest(options: dict[str, Any]) -> None:
    assert JinaClip(**options).fingerprint == JinaClip().fingerprint
