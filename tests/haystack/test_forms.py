"""Odd names and `file://` URIs through Haystack's components, texts that show nothing, and numbers of NumPy."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ImageContent
from haystack.utils import Secret
from PIL import Image as Pillow

from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
)

KEY = Secret.from_env_var("JINA_API_KEY", strict=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with an image in it under two names."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(3).integers(0, 255, (16, 16, 3), np.uint8)
    for name in ("a.png", "IMG:001.png"):
        Pillow.fromarray(pixels).save(tmp_path / name, "PNG")
    return tmp_path


def test_a_name_with_a_colon_is_a_path(hosted, folder):
    embedder = JinaClipImageEmbedder(**hosted)
    wanted = embedder.run(image=folder / "a.png")["embedding"]
    for name in ("IMG:001.png", (folder / "IMG:001.png").as_uri()):
        assert embedder.run(image=name)["embedding"] == wanted
    documents = [Document(meta={"file_path": "IMG:001.png", "mime_type": "image/png"})]
    (found,) = JinaClipDocumentImageEmbedder(**hosted).run(documents)["documents"]
    assert found.embedding == wanted
    with pytest.raises(ValueError, match="lies outside"):
        embedder.run(image="file:///etc/passwd")


def test_base64_of_an_image_content_is_held_against_the_cap(hosted, server, folder):
    embedder = JinaClipImageEmbedder(**hosted, image_policy={"max_bytes": 1000})
    content = ImageContent(base64_image=base64.b64encode(bytes(5000)).decode(), mime_type="image/png", validation=False)
    with pytest.raises(ValueError, match=r"image_policy\.max_bytes=1000"):
        embedder.run(image=content)
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", "\0", "\u2060\u00ad"])
def test_a_text_that_shows_nothing_is_blank(hosted, server, text):
    with pytest.raises(ValueError, match="blank"):
        JinaClipTextEmbedder(**hosted).run(text)
    with pytest.raises(ValueError, match="no text to embed"):
        JinaClipDocumentEmbedder(**hosted).run([Document(content=text)])
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("component", [JinaClipTextEmbedder, JinaClipImageEmbedder, JinaClipDiversityRanker])
def test_numbers_of_numpy_are_saved_as_pythons(component):
    options = {"dimensions": np.int64(64), "timeout": np.float32(30), "token_budget": np.int32(9)}
    if component is not JinaClipTextEmbedder:
        options["image_policy"] = {"max_pixels": np.int64(1000), "background": [np.uint8(1), 2, 3]}
    if component is JinaClipDiversityRanker:
        options["top_k"] = np.int64(3)
    made = component(api_key=KEY, **options)
    saved = json.loads(json.dumps(made.to_dict()))
    assert saved["init_parameters"]["dimensions"] == 64
    assert component.from_dict(saved).to_dict() == made.to_dict()
