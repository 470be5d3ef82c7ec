"""A request as the service sees it: its inputs by digest, their price, and the honest answer."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson
from PIL import Image

from jinaclip.backends.api.wires import jina as wire
from jinaclip.call.estimate import image_tokens, text_tokens
from jinaclip.testing.model import embed_inputs
from jinaclip.testing.responses import RefusalError, html_page
from jinaclip.testing.vectors import HEAD, content_bytes, digest, vectors, write_fast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jinaclip.testing.settings import Settings

MAX_IMAGES = 10_000
SPECIAL_TOKENS = 2
_images: dict[bytes, tuple[bytes, int, int]] = {}
"""By the digest of an image as sent: the digest of its pixels, width and height."""


@dataclass(slots=True)
class Batch:
    """What a valid request sends together, and the honest answer to it."""

    request: wire.RequestBody
    model: str = ""
    """Folder of the checkpoint that answers, if one does."""
    digests: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """By input; empty for an image."""
    tokens: int = 0
    tiles: int = 0
    images: int = 0

    def __len__(self) -> int:
        return len(self.request.inputs)

    def rows(self) -> NDArray[np.float32]:
        """(n, dimensions): one vector per input."""
        request = self.request
        if self.model:
            return embed_inputs(self.model, request)
        return vectors(self.digests, request.spec, request.dimensions, normalized=request.normalized)

    def answer(self) -> dict[str, Any]:
        """The honest answer, to be spoilt or shuffled."""
        return wire.write_answer(self.request.spec.name, self.rows(), self.tokens, self.request.encoding)

    def answer_bytes(self) -> bytes:
        """The honest answer as it is sent."""
        request = self.request
        if request.encoding == "base64" and request.dimensions > HEAD and not self.model:
            return write_fast(
                self.digests, request.spec, request.dimensions, self.tokens, normalized=request.normalized
            )
        return orjson.dumps(self.answer())


def check_key(authorization: str, settings: Settings) -> None:
    """Refuses a request without an acceptable key.

    Raises:
        wire.InvalidRequest: the header has no key, or another one.
    """
    key = wire.read_key(authorization)
    if not key.startswith(settings.key):
        message = f"The API key{f' {key}' if settings.echo_key else ''} is invalid."
        raise wire.InvalidRequest(401, wire.write_refusal(message, wire.Code.INVALID_KEY), wire.Code.INVALID_KEY)


def read_batch(raw: bytes, settings: Settings) -> Batch:
    """The request, valid and with its price.

    Raises:
        wire.InvalidRequest: it is not valid.
        RefusalError: it is too large.
    """
    if settings.max_bytes and len(raw) > settings.max_bytes:
        raise RefusalError(html_page(413, "Request Entity Too Large"), "too_large")
    batch = Batch(wire.read_request(raw, max_inputs=settings.max_inputs), settings.model)
    for index, item in enumerate(batch.request.inputs):
        if item.kind == "text":
            _add_text(batch, item.value, settings.max_tokens)
        else:
            _add_image(batch, item, index)
    return batch


def _add_text(batch: Batch, text: str, max_tokens: int) -> None:
    spec, task = batch.request.spec, batch.request.task
    tokens = text_tokens(spec.query_instruction + text if task else text)
    most = max_tokens + SPECIAL_TOKENS
    if tokens > most and not batch.request.truncate:
        body = wire.write_nested_refusal(
            f"An input has {tokens} tokens; the model takes {max_tokens}.", wire.Code.TEXT_TOO_LONG
        )
        raise wire.InvalidRequest(400, body, wire.Code.TEXT_TOO_LONG)
    batch.tokens += min(tokens, most)
    batch.texts.append(text)
    batch.digests.append(digest("text", text.encode("utf-8", "surrogatepass"), spec.name, task))


def _add_image(batch: Batch, item: wire.Input, index: int) -> None:
    spec, task = batch.request.spec, batch.request.task
    content, width, height = _read_url(batch, item, index) if item.kind == "url" else _read_image(batch, item, index)
    tokens = image_tokens(width, height, spec.name)
    batch.tokens += tokens
    batch.tiles += tokens // spec.tokens_per_tile
    batch.images += 1
    batch.texts.append("")
    batch.digests.append(digest(item.kind, content, spec.name, task))


def _read_url(batch: Batch, item: wire.Input, index: int) -> tuple[bytes, int, int]:
    """An image that is not downloaded, and stands for one tile."""
    if batch.model:
        raise _unreadable(batch, index, "its bytes were not sent")
    return item.value.encode(), 1, 1


def _read_image(batch: Batch, item: wire.Input, index: int) -> tuple[bytes, int, int]:
    """Digest of the pixels, width and height of an image."""
    try:
        return _decode(item.value)
    except (OSError, ValueError) as error:
        raise _unreadable(batch, index, type(error).__name__) from None


def _unreadable(batch: Batch, index: int, reason: str) -> wire.InvalidRequest:
    value = batch.request.raw_inputs[index]
    return wire.invalid_field(("input", index), f"Cannot read the image: {reason}", "image_invalid", value)


def _decode(letters: str) -> tuple[bytes, int, int]:
    name = blake2b(letters.encode(), digest_size=16).digest()
    if name not in _images:
        data = wire.read_image(letters)
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        if len(_images) >= MAX_IMAGES:
            _images.clear()
        _images[name] = (content_bytes("image", data), width, height)
    return _images[name]
