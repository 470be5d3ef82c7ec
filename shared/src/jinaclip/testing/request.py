"""Reads and validates a request as the service does."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson
import pybase64
from PIL import Image

from jinaclip.backends.api.wires.jina import write_answer
from jinaclip.call.estimate import image_tokens, text_tokens
from jinaclip.specs import SPECS, ModelSpec
from jinaclip.testing.model import embedded
from jinaclip.testing.refusals import RefusalError, flat, invalid, nested, page
from jinaclip.testing.vectors import HEAD, content_bytes, digest, vectors, write_fast

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from jinaclip.testing.settings import Settings

URL_SCHEMES = ("https://", "http://")
IMAGE_KEYS = ("image", "url", "bytes")  # the last two are what older clients send
MAX_PICTURES = 10_000
_pictures: dict[bytes, tuple[bytes, int, int]] = {}  # of a sent picture: digest of its pixels, width, height


@dataclass(slots=True)
class Batch:
    """A valid request, and its honest answer."""

    body: dict[str, Any]
    """Without its input."""
    inputs: list[Any]
    spec: ModelSpec
    task: str | None
    dimensions: int
    model: str = ""
    """Folder of the checkpoint that answers, if one does."""
    digests: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """By input; empty for a picture."""
    tokens: int = 0
    tiles: int = 0
    images: int = 0

    @property
    def normalized(self) -> bool:
        """Whether its vectors are to be of unit length."""
        return self.body.get("normalized") is not False

    def rows(self) -> NDArray[np.float32]:
        """One vector per input."""
        if self.model:
            return embedded(self.model, self.inputs, self.dimensions, asked=bool(self.task), normalized=self.normalized)
        return vectors(self.digests, self.spec, self.dimensions, normalized=self.normalized)

    def answer(self) -> dict[str, Any]:
        """The honest answer, to be spoilt or shuffled."""
        rows = self.rows()
        answer = write_answer(self.spec.name, rows, self.tokens)
        for cell, row in zip(answer["data"], rows, strict=True):
            cell["embedding"] = self.encode(row)
        return answer

    def encode(self, row: NDArray[np.float32]) -> str | list[float]:
        """A vector in the encoding that was asked for."""
        if self.body.get("embedding_type") == "base64":
            return pybase64.b64encode(row.astype("<f4").tobytes()).decode()
        return row.tolist()

    def written(self) -> bytes:
        """The honest answer as it is sent."""
        if self.body.get("embedding_type") == "base64" and self.dimensions > HEAD and not self.model:
            return write_fast(self.digests, self.spec, self.dimensions, self.tokens, normalized=self.normalized)
        return orjson.dumps(self.answer())


def check_key(headers: Mapping[str, str], settings: Settings) -> None:
    """Refuses a request without an acceptable key."""
    given = headers.get("authorization", "")
    scheme, _, key = given.partition(" ")
    if not given:
        code, text = "AUTH_MISSING_API_KEY", "No API key was given."
    elif scheme != "Bearer" or not key:
        code, text = "AUTH_INVALID_FORMAT", "The header must be 'Bearer <key>'."
    elif not key.startswith(settings.key):
        code, text = "AUTH_INVALID_API_KEY", f"The API key{' ' + key if settings.echo_key else ''} is invalid."
    else:
        return
    raise RefusalError(flat(401, text, code), code)


def read_request(raw: bytes, settings: Settings) -> Batch:
    """The request, valid and with its price.

    Raises:
        RefusalError: it is not valid.
    """
    if settings.max_bytes and len(raw) > settings.max_bytes:
        raise RefusalError(page(413, "Request Entity Too Large"), "too_large")
    body, inputs = _open(raw)
    spec = _model(body)
    _check_inputs(inputs, settings)
    batch = Batch(body, inputs, spec, _task(body, spec), _dimensions(body, spec), settings.model)
    _check_encoding(body)
    _name_inputs(batch, settings)
    return batch


def _open(raw: bytes) -> tuple[dict[str, Any], list[Any]]:
    try:
        body = orjson.loads(raw)
        inputs = body.pop("input")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise _invalid("body", "JSON decode error", "json_invalid", None) from None
    return body, inputs if isinstance(inputs, list) else [inputs]


def _invalid(place: str, message: str, kind: str, value: Any) -> RefusalError:
    return RefusalError(invalid(place, message, kind, value), kind)


def _model(body: dict[str, Any]) -> ModelSpec:
    name = body.get("model")
    spec = SPECS.get(name) if isinstance(name, str) else None
    if spec is None:
        code = "INPUT_MODEL_NOT_FOUND"
        raise RefusalError(nested(400, f"Model {name!r} was not found.", code), code)
    return spec


def _check_inputs(inputs: list[Any], settings: Settings) -> None:
    count, most = len(inputs), settings.max_inputs
    if not count:
        raise _invalid("body -> input", "List should have at least 1 item after validation, not 0", "too_short", [])
    if most and count > most:
        text = f"List should have at most {most} items after validation, not {count}"
        raise _invalid("body -> input", text, "too_long", inputs)


def _dimensions(body: dict[str, Any], spec: ModelSpec) -> int:
    asked = body.get("dimensions")
    if asked is None or spec.min_dimensions == spec.dimensions:
        return spec.dimensions
    if type(asked) is not int or not 1 <= asked <= spec.dimensions:
        text = f"Input should be between 1 and {spec.dimensions}"
        raise _invalid("body -> dimensions", text, "dimensions_range", asked)
    return asked


def _task(body: dict[str, Any], spec: ModelSpec) -> str | None:
    """The task, which v1 ignores."""
    task = body.get("task")
    if spec.query_task is None or task is None:
        return None
    if task != spec.query_task:
        raise _invalid("body -> task", f"Input should be '{spec.query_task}'", "literal_error", task)
    return task


def _check_encoding(body: dict[str, Any]) -> None:
    encoding = body.get("embedding_type", "float")
    if isinstance(encoding, list):
        raise RefusalError(nested(500, "Internal server error", "INTERNAL_ERROR"), "INTERNAL_ERROR")
    if encoding not in ("float", "base64"):
        raise _invalid("body -> embedding_type", "Input should be 'float' or 'base64'", "literal_error", encoding)


def _name_inputs(batch: Batch, settings: Settings) -> None:
    """Fills in digests, texts and price."""
    truncate = batch.body.get("truncate") is True
    for index, item in enumerate(batch.inputs):
        text = item if isinstance(item, str) else item.get("text") if isinstance(item, dict) else None
        if isinstance(text, str):
            _name_text(batch, text, settings.max_tokens, truncate=truncate)
        else:
            _name_image(batch, index, item)


def _name_text(batch: Batch, text: str, most: int, *, truncate: bool) -> None:
    tokens = text_tokens(batch.spec.query_instruction + text if batch.task else text)
    if tokens > most + 2:
        if not truncate:
            code = "INPUT_TOKEN_LIMIT_EXCEEDED"
            raise RefusalError(nested(400, f"An input has {tokens} tokens; the model takes {most}.", code), code)
        tokens = most + 2
    batch.tokens += tokens
    batch.texts.append(text)
    batch.digests.append(digest("text", text.encode("utf-8", "surrogatepass"), batch.spec.name, batch.task))


def _name_image(batch: Batch, index: int, item: Any) -> None:
    item_keys = item if isinstance(item, dict) else {}
    value = next((item_keys[key] for key in IMAGE_KEYS if isinstance(item_keys.get(key), str)), None)
    if value is None:
        raise _invalid(f"body -> input -> {index}", "Input should be a text or an image", "union_error", item)
    if value.startswith(URL_SCHEMES):  # stands for a picture of one tile
        content, kind, width, height = value.encode(), "url", 1, 1
    else:
        (content, width, height), kind = _picture(value, index), "image"
    tokens = image_tokens(width, height, batch.spec.name)
    batch.tokens += tokens
    batch.tiles += tokens // batch.spec.tokens_per_tile
    batch.images += 1
    batch.texts.append("")
    batch.digests.append(digest(kind, content, batch.spec.name, batch.task))


def _picture(value: str, index: int) -> tuple[bytes, int, int]:
    """Digest of the pixels, width and height of a sent picture."""
    try:
        return _decode(blake2b(value.encode(), digest_size=16).digest(), value)
    except (OSError, ValueError) as error:
        text = f"Cannot read the image: {type(error).__name__}"
        raise _invalid(f"body -> input -> {index}", text, "image_invalid", value) from None


def _decode(name: bytes, value: str) -> tuple[bytes, int, int]:
    if name not in _pictures:
        data = pybase64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
        if len(_pictures) >= MAX_PICTURES:
            _pictures.clear()
        _pictures[name] = (content_bytes("image", data), width, height)
    return _pictures[name]
