"""Answers of a real model, so that the API's vectors can be compared with those of the same weights at home."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip import Image, JinaClip

if TYPE_CHECKING:
    from numpy.typing import NDArray


@functools.cache
def _clip(folder: str) -> JinaClip:
    return JinaClip(folder, backend="local", device="cpu", normalized=False, image_resize="none", show_progress=False)


def embedded(folder: str, inputs: list[Any], dimensions: int, *, asked: bool, normalized: bool) -> NDArray[np.float32]:
    """(n, dimensions): the model's vectors, cut or filled up with zeros, which change no angle.

    Args:
        folder: of the checkpoint.
        inputs: as the request has them; a picture must come with its bytes.
        dimensions: wanted width.
        asked: whether texts are queries.
        normalized: whether the rows are to be of unit length.
    """
    clip = _clip(folder)
    texts = {i: text for i, item in enumerate(inputs) if (text := _text(item)) is not None}
    pictures = {i: Image.from_base64(item["image"]) for i, item in enumerate(inputs) if i not in texts}
    rows = np.zeros((len(inputs), max(dimensions, clip.dimensions)), np.float32)
    embed = _queries if asked else JinaClip.embed_documents
    rows[list(texts), : clip.dimensions] = embed(clip, list(texts.values()))
    rows[list(pictures), : clip.dimensions] = clip.embed_images(pictures.values())
    rows = rows[:, :dimensions]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalized else rows


def _text(item: Any) -> str | None:
    return item if isinstance(item, str) else item.get("text")


def _queries(clip: JinaClip, texts: list[str]) -> NDArray[np.float32]:
    return np.array([clip.embed_query(text) for text in texts], np.float32).reshape(len(texts), clip.dimensions)
