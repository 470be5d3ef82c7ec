"""What is tampered with, and what has to become of it: it is accepted, or refused with an error that is documented.

A subject makes inputs, which are bytes so that each can be kept in a file and tried again, and tries them.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image as Pillow

from jinaclip import Image, ImagePolicy, InputError, JinaClip, JinaClipError
from jinaclip.backends.api.steps import Reply
from jinaclip.backends.api.verdicts import Case, judge
from jinaclip.backends.api.wires import base, jina
from jinaclip.hosts import EmbedderConfig
from jinaclip.images import open_image, size, upload
from jinaclip.secret import Redactor
from tests.fuzz.faces import find_other_face, mutated_file, see
from tests.fuzz.mutate import dump, mutate_bytes, mutate_json, splice
from tests.needs import is_installed, skip_without
from tests.raw import Asked, RawServer, Sent, answer_body, http, refusal, serving

WIDTH = 8
SEEDS = st.integers(0, 2**63)
ITEMS = ["one", "two", "three"]
LONGEST_MESSAGE = 1000
"""Characters of an error, of which the service may have written at most 500 for each of its texts."""
MANY = 25
"""Inputs for one drawing of hypothesis, which takes longer than most of them."""


def several(make: Callable[[int], bytes], count: int = MANY) -> st.SearchStrategy[Iterator[bytes]]:
    """Inputs that a function makes of seeds that follow one another."""
    return SEEDS.map(lambda seed: (make(seed + number) for number in range(count)))


class Subject:
    """One kind of input.

    Attributes:
        name: of it.
        inputs: what hypothesis draws: several inputs to try, made as they are taken. Its seeds drive the mutator.
    """

    name: str
    inputs: st.SearchStrategy[Iterator[bytes]]

    def open(self, stack: ExitStack) -> None:
        """Sets up and loads what trying needs, for as long as `stack` lasts."""

    def try_input(self, data: bytes) -> bool:
        """Whether it is accepted; False is a refusal as documented, and any exception a finding."""
        raise NotImplementedError


# -- answers


def tampered_answer(seed: int) -> bytes:
    """The body of an answer or of a refusal, changed as JSON, as bytes, or as both."""
    draw = random.Random(seed)
    body = draw.choice([answer_body(ITEMS, width=WIDTH)] * 5 + REFUSALS)
    if body[:1] == b"{" and draw.random() < 0.7:
        body = dump(mutate_json(json.loads(body), draw))
    return mutate_bytes(body, draw) if draw.random() < 0.4 else body


REFUSALS = [
    dump({"detail": "no", "code": "RATE_TOKEN_LIMIT_EXCEEDED", "request_id": "r"}),
    dump({"detail": {"message": "no", "code": "AUTHZ_INSUFFICIENT_BALANCE", "request_id": "r"}}),
    dump({"detail": "Validation error", "errors": [{"field": "body -> input -> 2", "message": "no", "type": "t"}]}),
    dump({"detail": [{"loc": ["body", "input", 1], "msg": "no", "type": "t"}]}),
    b"<html><title>502 Bad Gateway</title></html>",
]


class Answers(Subject):
    """Bodies, as the wire reads them: a row for every item, finite or known to be bad."""

    name = "answers"
    inputs = several(tampered_answer)

    def try_input(self, data: bytes) -> bool:
        refused = jina.read_refusal(data)
        assert refused.index is None or refused.index >= 0
        try:
            answer = jina.read_answer(data, len(ITEMS), WIDTH)
        except (base.Malformed, base.WrongDimensions):
            return False
        assert answer.rows.shape == (len(ITEMS), WIDTH)
        assert answer.tokens >= 0
        good = np.delete(answer.rows, list(answer.bad), axis=0)
        assert np.isfinite(good).all()
        return True


# -- headers


NUMBERS = ["0", "-1", "1.5", "1e400", "nan", "inf", "٣", "1, 2", "", " 7 ", "0x10", "1_000", "9" * 400, "-0"]
DATES = [
    "Sun, 29 Nov 2026 08:00:00 GMT",
    "Sun, 29 Nov 9999 08:00:00 GMT",
    "Sun, 29 Nov 0001 08:00:00 -9999",
    "Sun, 99 Nov 2026 28:00:00 +2400",
    "2026-11-29T08:00:00Z",
    "Fri, 31 Feb 99999999999 00:00:00 ABC",
]
TEXTS = ["application/json", "text/html; charset=\xff", "close", "gzip", "chunked", "\xe9", "A" * 3000]
NAMES = [
    "retry-after",
    "date",
    "x-ratelimit-reset",
    "x-ratelimit-remaining",
    "ratelimit-reset",
    "content-type",
    "x-request-id",
]
STATUSES = [*range(200, 207), 301, 304, *range(400, 410), 413, 422, 425, 429, 500, 502, 503] + 4 * [200, 429]


def tampered_reply(seed: int) -> bytes:
    """A status, headers and a body, as JSON."""
    draw = random.Random(seed)
    values = NUMBERS + DATES + TEXTS
    chosen = {name: draw.choice(values) for name in draw.sample(NAMES, draw.randrange(len(NAMES)))}
    if "retry-after" in chosen and draw.random() < 0.5:
        chosen["retry-after"] = mutate_bytes(chosen["retry-after"].encode("latin-1", "replace"), draw).decode("latin-1")
    body = tampered_answer(draw.getrandbits(60)).decode("latin-1")
    return dump({"status": draw.choice([*STATUSES, draw.randrange(100, 999)]), "headers": chosen, "body": body})


class Headers(Subject):
    """Statuses and headers, as the judge takes them: some verdict, whose waits are finite and not negative, and whose
    message is short."""

    name = "headers"
    inputs = several(tampered_reply)
    case = Case(len(ITEMS), WIDTH, WIDTH, "http://localhost/v1/embeddings", jina, "refused", clean=Redactor(()).clean)

    def try_input(self, data: bytes) -> bool:
        told = json.loads(data)
        verdict = judge(self.case, Reply(told["status"], told["headers"], told["body"].encode("latin-1")))
        for name in ("seconds", "after"):
            wait = getattr(verdict, name, None)
            assert wait is None or (wait >= 0 and math.isfinite(wait)), verdict
        error = getattr(verdict, "error", None)
        assert error is None or len(str(error)) <= LONGEST_MESSAGE, error
        return isinstance(verdict, base.Answer)


# -- streams


def tampered_stream(seed: int) -> bytes:
    """The bytes of a whole HTTP answer; what comes behind them is the end of the connection."""
    draw = random.Random(seed)
    right = http(answer_body(["one"], width=WIDTH))
    chunked = right.replace(b"Content-Length:", b"Transfer-Encoding: chunked\r\nX-Length:")
    limited = refusal(429, "slow down", [("Retry-After", draw.choice(NUMBERS[:5]))])
    base = draw.choice([right, right, chunked, limited, refusal(500), b"HTTP/1.1 100 Continue\r\n\r\n" + right])
    return splice(base, right, draw) if draw.random() < 0.2 else mutate_bytes(base, draw)


class Streams(Subject):
    """Bytes of HTTP answers through the real transport: a row or an error of ours, within the deadline."""

    name = "streams"
    inputs = several(tampered_stream)

    def open(self, stack: ExitStack) -> None:
        self.bytes, self.count = b"", 0
        self.server: RawServer = stack.enter_context(serving(self._respond))
        self.clip: JinaClip | None = None
        stack.callback(lambda: self.clip and self.clip.close())

    def _respond(self, asked: Asked) -> Sent:
        return Sent([self.bytes], close=True)

    def _renew(self) -> JinaClip:
        """An object with a key of its own now and then, lest the limits that are learnt slow everything down."""
        if self.count % 20 == 0 or self.clip is None:
            self.clip and self.clip.close()
            self.server.asked.clear()
            self.clip = JinaClip(
                api_key=f"jina_fuzz_{self.count}",
                base_url=self.server.url,
                dimensions=WIDTH,
                max_retries=0,
                timeout=1,
                deadline=0.5,
                cache=False,
            )
        self.count += 1
        return self.clip

    def try_input(self, data: bytes) -> bool:
        self.bytes = data
        results = self._renew().embed(["one"])
        assert results.vectors.shape == (1, WIDTH)
        assert results.ok[0] or results.errors or results.stopped
        return bool(results.ok[0])


# -- configurations


OPTIONS: dict[str, Any] = {
    "model": "jina-clip-v2",
    "backend": "api",
    "dimensions": 256,
    "normalized": True,
    "truncate": False,
    "batch_size": 16,
    "max_concurrency": 4,
    "max_retries": 3,
    "timeout": 5.0,
    "deadline": 9.5,
    "base_url": "https://api.jina.ai/v1",
    "headers": {"X-Team": "red"},
    "space": "mine",
    "requests_per_minute": 100,
    "tokens_per_minute": 1000,
    "token_budget": 10**6,
    "cache": "vectors.sqlite",
    "engine": "torch",
    "device": "cpu",
    "dtype": "float32",
    "threads": 2,
    "image_resize": "model",
    "image_quality": 80,
    "image_decode": "fast",
    "url_mode": "fetch",
    "show_progress": False,
}
POLICY: dict[str, Any] = {"roots": ["/tmp"], "schemes": ["https"], "max_pixels": 10**6, "frame": 0, "ports": [443]}


def tampered_options(seed: int) -> bytes:
    draw = random.Random(seed)
    host = draw.choice(HOSTS)
    chosen = dict(draw.sample(sorted(OPTIONS.items()), draw.randrange(1, 8)))
    if draw.random() < 0.3:
        chosen["image_policy"] = dict(draw.sample(sorted(POLICY.items()), 2))
    return dump([host, mutate_json(chosen, draw)])


def make_config(options: dict[str, Any]) -> None:
    policy = options.get("image_policy")
    if isinstance(policy, dict):
        options = {**options, "image_policy": ImagePolicy(**policy)}
    EmbedderConfig(**options)


def make_clip(options: dict[str, Any]) -> None:
    JinaClip(**{**options, "api_key": "jina_fuzz"}).close()


def make_langchain(options: dict[str, Any]) -> None:
    from langchain_jinaclip import JinaClipEmbeddings

    JinaClipEmbeddings(**{**options, "api_key": "jina_fuzz"})


def make_llamaindex(options: dict[str, Any]) -> None:
    from llamaindex_jinaclip import JinaClipEmbedding

    JinaClipEmbedding.from_dict({**options, "api_key": "jina_fuzz"})


def make_haystack(options: dict[str, Any]) -> None:
    """By way of YAML, as a saved pipeline has it."""
    import yaml

    from haystack_integrations.components.embedders.jinaclip import JinaClipDocumentEmbedder

    made = JinaClipDocumentEmbedder()
    saved = made.to_dict()
    saved["init_parameters"].update(options)
    JinaClipDocumentEmbedder.from_dict(yaml.safe_load(yaml.safe_dump(saved)))


NEED = {"langchain": "langchain_jinaclip", "llamaindex": "llamaindex_jinaclip", "haystack": "haystack"}
MAKERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "config": make_config,
    "clip": make_clip,
    "langchain": make_langchain,
    "llamaindex": make_llamaindex,
    "haystack": make_haystack,
}
HOSTS = [name for name in MAKERS if NEED.get(name) is None or is_installed(NEED[name])]


NO_OPTION = ["unexpected keyword argument", "has no option"]


def is_documented(error: Exception) -> bool:
    """Ours and pydantic's are ValueErrors, Haystack has one of its own; a name that is no option is Python's affair."""
    return (
        isinstance(error, JinaClipError | ValueError)
        or type(error).__name__ == "DeserializationError"
        or (isinstance(error, TypeError) and any(words in str(error) for words in NO_OPTION))
    )


class Options(Subject):
    """Options as the core and the three hosts take them, also from dicts and YAML."""

    name = "options"
    inputs = several(tampered_options)

    def open(self, stack: ExitStack) -> None:
        for host in HOSTS:
            MAKERS[host]({})

    def try_input(self, data: bytes) -> bool:
        host, options = json.loads(data)
        if not isinstance(options, dict):
            return False
        try:
            MAKERS[host](options)
        except Exception as error:
            if not is_documented(error):
                raise
            return False
        return True


FILES = ["config.json", "tokenizer.json", "preprocessor_config.json", "tokenizer_config.json"]


class Folders(Subject):
    """Checkpoint folders of which one JSON file was changed: loaded and used, or refused with an error of ours."""

    name = "checkpoints"

    def __init__(self) -> None:
        self.inputs = several(self._tampered)

    @cached_property
    def _originals(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._folder.iterdir() if path.name in FILES}

    def open(self, stack: ExitStack) -> None:
        skip_without("torch")
        from tests.tiny import make_checkpoint

        self._folder = make_checkpoint(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tiny", "v2")
        assert self._use(self._folder)

    def _tampered(self, seed: int) -> bytes:
        draw = random.Random(seed)
        name = draw.choice(sorted(self._originals))
        original = self._originals[name]
        if draw.random() < 0.75:
            changed = dump(mutate_json(json.loads(original), draw))
        else:
            changed = mutate_bytes(original, draw)
        return name.encode() + b"\n" + changed

    def try_input(self, data: bytes) -> bool:
        name, _, content = data.partition(b"\n")
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "changed"
            shutil.copytree(self._folder, folder, copy_function=os.link)
            (folder / name.decode()).unlink(missing_ok=True)
            (folder / name.decode()).write_bytes(content)
            return self._use(folder)

    def _use(self, folder: Path) -> bool:
        try:
            with JinaClip(str(folder), backend="local", device="cpu", deadline=60, cache=False) as clip:
                clip.load()
                rows = clip.embed(["a dress", Image.from_array(np.full((9, 9, 3), 7, np.uint8))])
        except JinaClipError:
            return False
        return bool(rows.ok.all())


# -- images


@st.composite
def image_files(draw: st.DrawFn) -> bytes:
    """An image of a form, mode and size that hypothesis chooses."""
    form = draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))
    mode = draw(st.sampled_from({"JPEG": ["RGB", "L", "CMYK"], "GIF": ["P", "L"]}.get(form, ["RGB", "RGBA", "L", "P"])))
    shape = (draw(st.integers(1, 64)), draw(st.integers(1, 64)))
    pixels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (*shape, 3), np.uint8)
    made = Pillow.fromarray(pixels).convert("RGB" if form == "WEBP" and mode in ("L", "P") else mode)
    options: dict[str, Any] = draw(st.sampled_from(SAVED[form]))
    if options.get("save_all"):
        options = {**options, "append_images": [made.rotate(90), made.rotate(180)]}
    buffer = BytesIO()
    made.save(buffer, form, **options)
    return buffer.getvalue()


EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
SAVED: dict[str, list[dict[str, Any]]] = {
    "PNG": [{}, {"exif": EXIF}, {"save_all": True}, {"icc_profile": b"profile"}],
    "JPEG": [{}, {"progressive": True}, {"exif": EXIF}, {"quality": 5, "restart_marker_blocks": 1}],
    "GIF": [{}, {"save_all": True}],
    "WEBP": [{}, {"lossless": True}, {"save_all": True}, {"exif": EXIF}],
}


@st.composite
def tampered_images(draw: st.DrawFn) -> Iterator[bytes]:
    """Some that were mutated, or the beginning of one with the end of another."""
    random_numbers, first, second = random.Random(draw(SEEDS)), draw(image_files()), draw(image_files())

    def make() -> bytes:
        data = splice(first, second, random_numbers) if random_numbers.random() < 0.2 else first
        return mutate_bytes(data, random_numbers)

    return (make() for _ in range(MANY))


class Images(Subject):
    """Image files: an upload and a size, or an `InputError`, strict and lenient."""

    name = "images"
    inputs = tampered_images()
    policies = (ImagePolicy(max_pixels=10**7), ImagePolicy(max_pixels=10**7, truncated=True))

    def try_input(self, data: bytes) -> bool:
        seen = [self._open(Image.from_bytes(data), policy) for policy in self.policies]
        assert seen[1] or not seen[0], "the lenient policy refuses what the strict one takes"
        return seen[0]

    def _open(self, image: Image, policy: ImagePolicy) -> bool:
        try:
            width, height = size(image, policy)
            assert open_image(image, policy).size in ((width, height), (height, width))
            upload(image, policy=policy, mode="model", side=64, quality=None)
        except InputError as error:
            assert len(str(error)) < 300, error
            return False
        return True


# -- faces


class Faces(Subject):
    """Image files whose parts were moved, doubled or exchanged: our pixels are Pillow's, or an `InputError`."""

    name = "faces"
    inputs = several(lambda seed: mutated_file(random.Random(seed)))

    def try_input(self, data: bytes) -> bool:
        ours = see(data)
        problem = "" if ours is None else find_other_face(data)
        assert not problem, problem
        return ours is not None


SUBJECTS: list[Callable[[], Subject]] = [Answers, Headers, Streams, Options, Folders, Images, Faces]


def subjects() -> Iterator[Subject]:
    return (make() for make in SUBJECTS)
