"""What a request asks, of Jina's wire and of OpenAI's, read strictly: a value that is not understood is refused.

Beside what is documented this takes the names that clients of either are known to send. No string is ever a path: an
image is base64, a `data:` URI, or an address where the server fetches.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from jinaclip.backends.api.wires.jina import ENCODINGS, Code, Encoding
from jinaclip.call.request import Draft, Held, Task
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Text, as_text
from jinaclip.numeric import is_whole
from jinaclip.server.refusals import Refused
from jinaclip.specs import ModelSpec
from jinaclip.uris import decode_data_uri, find_header, is_data_uri

INVALID = "INPUT_INVALID"
TOO_LARGE = "INPUT_TOO_LARGE"
ALIASES = {
    "input": ("content", "texts"),
    "embedding_type": ("encoding_format", "encoding_type", "embedding_types"),
    "task": ("task_type",),
    "truncate": ("truncation",),
    "dimensions": ("output_dimension", "output_dimensionality"),
}
"""Other names of fields that clients send; hosted services take them too."""
FIELDS = ("model", "user", "normalized", *ALIASES, *(other for own in ALIASES.values() for other in own))
"""What a request may hold. Other fields are ignored, as hosted services do, unless they look like one of these."""
ALIKE = 0.8
"""From how alike on, by `difflib`, a field is taken for one that was misspelt: "dimension", "normalize"."""
LATE = ("late_chunking", "return_multivector")
"""What other models of Jina's can do."""
TEXT_FIELDS = ("text",)
IMAGE_FIELDS = ("image", "url", "bytes", "image_url", "image_base64")
KINDS = ("text", "input_text", "image", "input_image", "image_url")
"""What `type` may say of an input, where a client sends one as a part of a chat message."""
DOCUMENT_TASKS = (None, "retrieval.passage")
"""What `task` may say of documents."""
ADDRESS = re.compile(r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
PATH, LONGEST_PATH = re.compile(r"[.\\]"), 4096
"""What names of files have and base64 has not."""
FEW_INPUTS = 8
"""Up to so many inputs are taken for something that somebody waits for."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it was sent: base64 or a `data:` URI."""

    letters: str


@dataclass(frozen=True, slots=True)
class ImageAddress:
    """An image that the server is to fetch."""

    url: str


Input = str | EncodedImage | ImageAddress


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets that does not say otherwise, and what it may ask for.

    Attributes:
        spec: facts of the model.
        names: what clients may call it; the first is its own.
        dimensions, normalized, truncate: where a request does not say.
        policy: what images may be.
        fetch: whether images may be addresses.
        max_inputs: most inputs of a request.
        max_text: most characters of a text.
    """

    spec: ModelSpec
    names: tuple[str, ...]
    dimensions: int
    normalized: bool
    truncate: bool
    policy: ImagePolicy
    fetch: bool
    max_inputs: int
    max_text: int


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """What a request asks.

    Attributes:
        model: as the client called it.
        inputs: texts and images, in order.
        task: whether texts are queries.
        dimensions: width of the vectors.
        normalized, truncate, encoding: as the client wants them.
        policy: what its images may be.
    """

    model: str
    inputs: list[Input]
    task: Task
    dimensions: int
    normalized: bool
    truncate: bool
    encoding: Encoding
    policy: ImagePolicy

    @property
    def kind(self) -> str:
        """What it holds: "text", "image" or "mixed"."""
        kinds = {"text" if isinstance(one, str) else "image" for one in self.inputs}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for it: it holds queries, or only a few inputs."""
        return self.task == "query" or self.is_small

    @property
    def is_small(self) -> bool:
        """Whether it holds only a few inputs."""
        return len(self.inputs) <= FEW_INPUTS

    def draft(self) -> Draft:
        """The same for a JinaClip; images are decoded when it is read."""
        return Draft(Held(self.inputs), self._read, "item", self.task, urgent=self.is_urgent)

    def _read(self, value: Input) -> Text | Image:
        """An input as the core takes it. Raises InputError."""
        if isinstance(value, str):
            return as_text(value)
        if isinstance(value, ImageAddress):
            return Image.from_url(value.url)
        header = find_header(value.letters)
        if header is None:
            if len(value.letters) <= LONGEST_PATH and PATH.search(value.letters):
                raise InputError("an image is the file itself, in base64; no string is a path of this server")
            return Image.from_base64(value.letters, max_bytes=self.policy.max_bytes)
        return Image("bytes", decode_data_uri(value.letters, header, self.policy.max_bytes))


def read_request(raw: bytes, defaults: Defaults) -> EmbeddingsRequest:
    """A request, understood as a whole. Images are not decoded, and texts not measured.

    Raises:
        Refused: it is not valid; 400, 413 or 422, naming the field and the index of the input.
    """
    fields = open_request(raw)
    check_names(fields)
    model = read_model(fields, defaults)
    inputs = read_inputs(pick(fields, "input"), defaults)
    return EmbeddingsRequest(
        model=model,
        inputs=inputs,
        task=read_task(pick(fields, "task"), defaults.spec),
        dimensions=read_dimensions(pick(fields, "dimensions"), defaults),
        normalized=read_flag(pick(fields, "normalized"), "normalized", defaults.normalized),
        truncate=read_flag(pick(fields, "truncate"), "truncate", defaults.truncate),
        encoding=read_encoding(pick(fields, "embedding_type")),
        policy=defaults.policy,
    )


def open_request(raw: bytes) -> dict[str, Any]:
    """The fields of a request."""
    try:
        fields = orjson.loads(raw)
    except ValueError:
        raise Refused(400, INVALID, "the body is not one JSON document in UTF-8") from None
    if not isinstance(fields, dict):
        raise Refused(400, INVALID, f"the body must be a JSON object, not {kind_of(fields)}")
    return fields


def check_names(fields: Mapping[str, Any]) -> None:
    """Refuses what would change the answer if it were understood: a misspelt field, or what jina-clip cannot do."""
    for name in fields:
        meant = [] if name in FIELDS else difflib.get_close_matches(name, FIELDS, 1, ALIKE)
        if meant:
            message = f"there is a field that looks like {meant[0]!r} and is none; write it so, or leave it out"
            raise Refused(400, INVALID, message, place=(meant[0],))
        if name in LATE and fields[name] is True:
            refuse(f"jina-clip has no {name}: each input gets one vector of its own", name)


def pick(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field under any of its names, None if it has none."""
    given = {own: fields[own] for own in (name, *ALIASES.get(name, ())) if fields.get(own) is not None}
    values = list(given.values())
    if any(value != values[0] for value in values[1:]):
        refuse(f"{' and '.join(given)} mean the same and differ; send one of them", name)
    return values[0] if values else None


def refuse(message: str, *place: str | int) -> NoReturn:
    """Raises a 422 about a place in the request."""
    raise Refused(422, INVALID, message, place=place)


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def read_model(fields: Mapping[str, Any], defaults: Defaults) -> str:
    """The name of the model, as the client writes it.

    Raises:
        Refused: another model is meant, or none.
    """
    name = fields.get("model")
    if name not in defaults.names:
        what = "names no model" if name is None else "names a model that is not served here"
        message = f"the request {what}; this is {defaults.names[0]!r}"
        raise Refused(400, Code.MODEL_NOT_FOUND, message, place=("model",))
    return str(name)


def read_inputs(value: Any, defaults: Defaults) -> list[Input]:
    """The inputs; a lone one is a list of one."""
    if value is None:
        refuse("input is missing: a text, an image such as {'image': '<base64>'}, or a list of them", "input")
    values = value if isinstance(value, list) else [value]
    if not values:
        refuse("input is an empty list", "input")
    if len(values) > defaults.max_inputs:
        message = f"input has {len(values)} items, and one request takes {defaults.max_inputs}; send several"
        raise Refused(413, TOO_LARGE, message, place=("input",))
    if is_whole(values[0]) or (isinstance(values[0], list) and all(map(is_whole, values[0]))):
        refuse("input holds token ids, and each model has its own; send the text itself", "input")
    return [read_input(one, index, defaults) for index, one in enumerate(values)]


def read_input(value: Any, index: int, defaults: Defaults) -> Input:
    """One input."""
    place = ("input", index)
    if isinstance(value, str):
        return read_encoded(value, place, defaults) if is_data_uri(value) else read_text(value, place, defaults)
    if not isinstance(value, dict):
        refuse(f"an input is a text or an object with a text or an image, not {kind_of(value)}", *place)
    names = [name for name in (*TEXT_FIELDS, *IMAGE_FIELDS) if value.get(name) is not None]
    if len(names) > 1:
        refuse(f"one input gives one vector, and this one has {' and '.join(names)}; send several inputs", *place)
    if not names or value.get("type", KINDS[0]) not in KINDS:
        refuse("an input has a 'text' or an 'image', in base64; nothing else is embedded here", *place)
    content = value[names[0]]
    if isinstance(content, dict) and names[0] == "image_url":
        content = content.get("url")  # as a part of a chat message has it
    if not isinstance(content, str):
        refuse(f"{names[0]!r} must be a string, not {kind_of(content)}", *place)
    return (read_text if names[0] in TEXT_FIELDS else read_image)(content, place, defaults)


def read_text(text: str, place: Sequence[str | int], defaults: Defaults) -> str:
    """A text that is not so long that counting its tokens would cost much."""
    if len(text) > defaults.max_text:
        message = f"the text has {len(text):,} characters, and {defaults.max_text:,} are the most; split it"
        raise Refused(400, Code.TEXT_TOO_LONG, message, place=place)
    return text


def read_image(text: str, place: Sequence[str | int], defaults: Defaults) -> EncodedImage | ImageAddress:
    """An image: an address, where the server fetches, or else what was encoded."""
    address = ADDRESS.match(text, 0, 64)
    if address is None:
        return read_encoded(text, place, defaults)
    if address["scheme"].lower() not in defaults.policy.schemes:
        refuse("an image is base64, a data: URI or an https URL, and this is another address", *place)
    if not defaults.fetch:
        refuse("this server fetches no images; send the file itself, in base64", *place)
    return ImageAddress(text.strip())


def read_encoded(text: str, place: Sequence[str | int], defaults: Defaults) -> EncodedImage:
    """What was encoded, if it is not too large; it is decoded later."""
    size, most = len(text) * 3 // 4, defaults.policy.max_bytes
    if size > 2 * most:  # what is closer is counted when it is decoded: it may hold line breaks
        raise Refused(413, TOO_LARGE, f"the image has about {size} bytes, and {most} are the most", place=place)
    return EncodedImage(text)


def read_task(task: Any, spec: ModelSpec) -> Task:
    """What texts are embedded as. A model that does not tell queries from documents ignores it, as Jina's does."""
    if spec.query_task is None or task in DOCUMENT_TASKS:
        return "document"
    if task != spec.query_task:
        refuse(f"task must be {spec.query_task!r} for queries, and left out for documents", "task")
    return "query"


def read_dimensions(dimensions: Any, defaults: Defaults) -> int:
    """The width. One that the model does not have is never answered with another."""
    spec = defaults.spec
    if dimensions is None:
        return defaults.dimensions
    if not is_whole(dimensions) or not spec.min_dimensions <= dimensions <= spec.dimensions:
        can_be_cut = spec.min_dimensions < spec.dimensions
        only = f"from {spec.min_dimensions} to {spec.dimensions}" if can_be_cut else str(spec.dimensions)
        refuse(f"dimensions must be a whole number, {only}", "dimensions")
    return int(dimensions)


def read_flag(value: Any, name: str, default: bool) -> bool:
    """A field that is true or false."""
    if value is None:
        return default
    if not isinstance(value, bool):
        refuse(f"{name} must be true or false, not {kind_of(value)}", name)
    return value


def read_encoding(value: Any) -> Encoding:
    """The form of the vectors."""
    encoding = value[0] if isinstance(value, list) and len(value) == 1 else value
    if encoding is None:
        return "float"
    if encoding not in ENCODINGS:
        words = "one of them" if isinstance(value, list) else ", ".join(map(repr, ENCODINGS))
        refuse(f"embedding_type must be {words}", "embedding_type")
    return encoding
