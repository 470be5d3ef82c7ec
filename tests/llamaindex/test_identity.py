"""What names vectors: the ingestion cache's hash, namespaces and `space`, over all options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from jinaclip import ImagePolicy
from llamaindex_jinaclip import JinaClipEmbedding
from llamaindex_jinaclip.calls import collections
from tests.llamaindex.test_settings import OTHER, UNSAVED
from tests.needs import skip_without

OPTIONS = {
    **OTHER,
    "api_key": "jina_test_another",
    "headers": {"X-Team": "shop"},
    "transport": dict,
    "num_workers": 3,
    "fusion_weight": 0.2,
    "embeddings_cache": SimpleKVStore(),
}
"""A value of every option of ours that is not its default, but for `on_error`."""
SPACE = {
    "model",
    "dimensions",
    "normalized",
    "base_url",
    "space",
    "image_resize",
    "image_quality",
    "image_decode",
    "url_mode",
}
"""Those that make other vectors, or may: of another endpoint nobody knows."""
CUT, FUSED = {"truncate"}, {"fusion_weight"}
"""What makes a vector where there was an error, and what makes other vectors of nodes alone."""


def node_hash(made):
    return get_transformation_hash([TextNode(text="red")], made)


def test_every_option_is_tried():
    own = set(JinaClipEmbedding.model_fields) - {"callback_manager", "rate_limiter", "on_error"}
    core = {"model_name": "model", "embed_batch_size": "batch_size"}
    assert {core.get(name, name) for name in own} == OPTIONS.keys()
    assert OPTIONS.keys() >= UNSAVED


@pytest.mark.parametrize("name", OPTIONS)
def test_names_follow_what_the_vectors_are_and_nothing_else(name):
    """An option that changes none of them finds everything again; one that does finds nothing of the others."""
    if OPTIONS[name] == "local":
        skip_without("torch")
    usual, made = JinaClipEmbedding(), JinaClipEmbedding(**{name: OPTIONS[name]})
    assert (made.clip.space != usual.clip.space) == (name in SPACE)
    assert (collections(made.clip) != collections(usual.clip)) == (name in SPACE | CUT)
    assert (node_hash(made) != node_hash(usual)) == (name in SPACE | CUT | FUSED)
    assert node_hash(made) == node_hash(JinaClipEmbedding.from_dict(made.to_dict()))


@pytest.mark.parametrize(
    ("policy", "another"),
    [
        (ImagePolicy(allowed_roots=("/srv",)), False),
        (ImagePolicy(max_bytes=1000), False),
        (ImagePolicy(orient=False), True),
        (ImagePolicy(background=(0, 0, 0)), True),
    ],
    ids=["roots", "bytes", "orientation", "background"],
)
def test_of_the_image_policy_only_what_changes_pixels_counts(policy, another):
    assert (node_hash(JinaClipEmbedding(image_policy=policy)) != node_hash(JinaClipEmbedding())) == another


def test_an_embedding_that_skips_is_found_in_no_ingestion_cache():
    """What a run skipped would be missing in the nodes that the cache gives; other names stay."""
    usual, made = JinaClipEmbedding(), JinaClipEmbedding(on_error="skip")
    assert len({node_hash(usual), node_hash(made), node_hash(made)}) == 3
    assert made.clip.space == usual.clip.space
    assert collections(made.clip) == collections(usual.clip)


def test_no_module_reads_the_frames_of_its_caller():
    """What is asked of a transformation is known from its arguments, or from what nodes carry."""
    peeking = re.compile(r"_getframe|currentframe|inspect\.stack|f_locals|f_back|tb_frame")
    files = list((Path(__file__).parents[2] / "packages" / "llamaindex_jinaclip" / "src").rglob("*.py"))
    assert len(files) > 10
    assert [file.name for file in files if peeking.search(file.read_text())] == []
