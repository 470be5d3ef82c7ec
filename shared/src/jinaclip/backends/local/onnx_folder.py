"""A folder made by `jinaclip export`: its manifest, and that its files are those of the manifest."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jinaclip.backends.local.checkpoint_config import read_json
from jinaclip.backends.local.files import show
from jinaclip.backends.local.source import COPIED, EXPORT_FILES, MANIFEST, FileState
from jinaclip.errors import CheckpointError
from jinaclip.space import Weights

FORMAT = 1
"""Of the manifest and of what the graphs take and give; another is another program's."""
TEXT_INPUTS, IMAGE_INPUT, OUTPUT = ("input_ids", "attention_mask"), "pixel_values", "embeddings"
"""Names in the graphs."""
TEXT_GRAPH, VISION_GRAPH = "text.onnx", "vision.onnx"
INT8_SCHEME = "int8-1"
"""How weights become int8; raised when that changes vectors, which then lie in another space."""
Precision = Literal["float32", "int8"]
MAX_ID, MAX_WIDTH, MAX_SIDE = 10**7, 2**16, 2**10


@dataclass(frozen=True, slots=True)
class Answers:
    """What the graphs gave when they were made, to be asked again at each load.

    Attributes:
        texts: token ids of two texts.
        text_vectors, image_vectors: float32 (2, d), of these texts and of `probe_pixels`.
    """

    texts: tuple[tuple[int, ...], ...]
    text_vectors: NDArray[np.float32]
    image_vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of an exported folder.

    Attributes:
        precision: of the weights in the graphs.
        source: name and facts of the weights that were exported, from which the space follows.
        dimensions, image_size, vocab_size, pad_id, logit_scale: facts of the model, as in `Runner`.
        files: the SHA-256 of every other file by name.
        answers: for the test at each load.
    """

    precision: Precision
    source: Weights
    dimensions: int
    image_size: int
    vocab_size: int
    pad_id: int
    logit_scale: float
    files: Mapping[str, str]
    answers: Answers

    @property
    def weights(self) -> Weights:
        """Those of the source; in int8 others, since their vectors are others."""
        if self.precision == "float32":
            return self.source
        return Weights(self.source.name, {**self.source.facts, "quantized": INT8_SCHEME})

    @property
    def graphs(self) -> list[str]:
        """SHA-256 of what computes: exports of other versions may round differently."""
        return [self.files[name] for name in sorted(self.files) if name not in COPIED]

    def write(self, folder: Path) -> None:
        """Writes the file."""
        values = dataclasses.asdict(self)
        values["answers"] = {
            "texts": self.answers.texts,
            "text_vectors": pack(self.answers.text_vectors),
            "image_vectors": pack(self.answers.image_vectors),
        }
        (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, **values}, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an exported folder; the other files are not looked at.

    Raises:
        CheckpointError: it is damaged, or of a later version.
    """
    path = folder / MANIFEST
    raw = read_json(path)
    if raw.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has the format {show(raw.get('format'))}, and this version of jinaclip reads {FORMAT}; update "
            "jinaclip, or export the checkpoint again with this version"
        )
    try:
        return parse_manifest(raw)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path} is no manifest of an export ({reason[:100]}); export it again") from None


def parse_manifest(raw: Mapping[str, Any]) -> Manifest:
    """A manifest from its JSON.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    precision, files, source = raw["precision"], raw["files"], raw["source"]
    if precision not in get_args(Precision):
        raise ValueError(f"precision {show(precision)}")
    if not isinstance(files, dict) or sorted(files) != sorted(set(EXPORT_FILES) - {MANIFEST}):
        raise ValueError(f"files are not {', '.join(EXPORT_FILES)}")
    if not isinstance(source, dict) or not isinstance(source["name"], str) or not isinstance(source["facts"], dict):
        raise TypeError("source is no name with facts")
    dimensions, vocab_size = whole(raw, "dimensions", 1, MAX_WIDTH), whole(raw, "vocab_size", 1, MAX_ID)
    return Manifest(
        precision=precision,
        source=Weights(source["name"], source["facts"]),
        dimensions=dimensions,
        image_size=whole(raw, "image_size", 1, MAX_SIDE),
        vocab_size=vocab_size,
        pad_id=whole(raw, "pad_id", 0, vocab_size - 1),
        logit_scale=float(raw["logit_scale"]),
        files={name: str(digest) for name, digest in files.items()},
        answers=parse_answers(raw["answers"], dimensions, vocab_size),
    )


def parse_answers(raw: Mapping[str, Any], dimensions: int, vocab_size: int) -> Answers:
    """The known answers of a manifest.

    Raises:
        KeyError, TypeError, ValueError: they are none.
    """
    texts = tuple(tuple(ids) for ids in raw["texts"])
    if len(texts) != 2 or not all(type(i) is int and 0 <= i < vocab_size for ids in texts for i in ids) or () in texts:
        raise ValueError("answers.texts are not the ids of two texts")
    return Answers(texts, unpack(raw["text_vectors"], dimensions), unpack(raw["image_vectors"], dimensions))


def whole(raw: Mapping[str, Any], key: str, low: int, high: int) -> int:
    """A whole number of a manifest.

    Raises:
        KeyError, ValueError: there is none from `low` to `high`.
    """
    value = raw[key]
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{key} = {show(value)}")
    return value


def pack(vectors: NDArray[np.float32]) -> str:
    """Vectors as text."""
    return base64.b64encode(np.ascontiguousarray(vectors, "<f4").tobytes()).decode()


def unpack(text: str, dimensions: int) -> NDArray[np.float32]:
    """(2, d) vectors from text.

    Raises:
        TypeError, ValueError: it holds others.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(2, dimensions).astype(np.float32)
    except binascii.Error as error:
        raise ValueError(f"vectors: {error}") from None


def check_files(files: Sequence[FileState], manifest: Manifest) -> None:
    """Compares the files of an exported folder with its manifest; each is read once in a process, as long as it stays.

    Raises:
        CheckpointError: one is missing, or another one than was exported.
    """
    for file in files:
        wanted = manifest.files.get(file.path.name)
        if wanted is not None and file.digest() != wanted:
            raise CheckpointError(
                f"{file.path} is not the file that was exported (SHA-256 {file.digest()[:12]}..., the manifest says "
                f"{wanted[:12]}...); copy the folder again, or export it again"
            )


def probe_pixels(size: int) -> NDArray[np.float32]:
    """Two different pictures, (2, 3, S, S): a black one, and stripes."""
    pixels = np.zeros((2, 3, size, size), np.float32)
    pixels[1] = np.arange(size) % 7 / 7
    return pixels
