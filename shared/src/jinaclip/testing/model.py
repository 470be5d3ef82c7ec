"""Answers of a real model, so that the API's vectors can be compared with those of the same weights at home."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from jinaclip import Image, JinaClip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jinaclip.backends.api.wires.jina import RequestBody


@functools.cache
def _clip(folder: str) -> JinaClip:
    return JinaClip(
        folder, backend="local", device="cpu", normalized=False, image_resize="none", cache=False, show_progress=False
    )


def embed_inputs(folder: str, request: RequestBody) -> NDArray[np.float32]:
    """(n, dimensions): the model's vectors, cut or filled up with zeros, which change no angle.

    Args:
        folder: of the checkpoint.
        request: what is asked; images come with their bytes.
    """
    clip = _clip(folder)
    texts = {i: item.value for i, item in enumerate(request.inputs) if item.kind == "text"}
    images = {i: Image.from_base64(item.value) for i, item in enumerate(request.inputs) if item.kind == "image"}
    rows = np.zeros((len(request.inputs), max(request.dimensions, clip.dimensions)), np.float32)
    embed = _embed_queries if request.task else JinaClip.embed_documents
    rows[list(texts), : clip.dimensions] = embed(clip, list(texts.values()))
    rows[list(images), : clip.dimensions] = clip.embed_images(images.values())
    rows = rows[:, : request.dimensions]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if request.normalized else rows


def _embed_queries(clip: JinaClip, texts: list[str]) -> NDArray[np.float32]:
    return np.array([clip.embed_query(text) for text in texts], np.float32).reshape(len(texts), clip.dimensions)
