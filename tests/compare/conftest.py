"""Sources that differ in one thing: other weights, another instruction, another image, one row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pybase64
import pytest

from jinaclip import JinaClip
from jinaclip.compare import Sample, read_sample
from tests.needs import skip_without
from tests.tiny import make_checkpoint

Change = Callable[[Any], None]
"""Changes the JSON of a request, or of an answer, in place."""


class Between(httpx.AsyncBaseTransport):
    """A transport that changes what goes to the real service, or what comes back."""

    def __init__(self, *, ask: Change | None = None, answer: Change | None = None) -> None:
        self.ask, self.answer = ask, answer
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(await request.aread())
        if self.ask is not None:
            self.ask(body)
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        url, extensions = request.url, request.extensions
        sent = httpx.Request(request.method, url, headers=headers, json=body, extensions=extensions)
        response = await self.inner.handle_async_request(sent)
        answer = json.loads(await response.aread())
        await response.aclose()
        if self.answer is not None:
            self.answer((body, answer))
        return httpx.Response(response.status_code, json=answer, extensions={})

    async def aclose(self) -> None:
        await self.inner.aclose()


def as_documents(body: Any) -> None:
    """A service that does not know what a query is."""
    body.pop("task", None)


class TurnOne:
    """Turns the row of one text, and no other."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, exchange: Any) -> None:
        body, answer = exchange
        for row in answer["data"]:
            if body["input"][row["index"]] in (self.text, {"text": self.text}) and "task" not in body:
                vector = np.frombuffer(pybase64.b64decode(row["embedding"]), np.float32)
                row["embedding"] = pybase64.b64encode(np.roll(vector, 1).tobytes()).decode()


def reseed(folder: Path) -> Path:
    """Other weights of the same shapes."""
    from safetensors.numpy import load_file, save_file

    draw = np.random.default_rng(1)
    weights = load_file(folder / "model.safetensors")
    for name, value in sorted(weights.items()):
        if value.ndim > 1:
            weights[name] = (draw.standard_normal(value.shape) * max(value.std(), 1e-3)).astype(value.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny v2."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "v2", "v2")


@pytest.fixture(scope="session")
def other(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another seed."""
    folder = tmp_path_factory.mktemp("other") / "v2"
    shutil.copytree(tiny, folder)
    return reseed(folder)


@pytest.fixture(scope="session")
def own_files(catalogue: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Texts on lines and a folder of images of a user's own: 30 titles, 22 images."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "titles.txt").write_text("\n\n".join(article.title for article in catalogue[:40]), "utf-8")
    (folder / "photos").mkdir()
    for article in catalogue[:22]:
        shutil.copy(article.picture, folder / "photos")
    return [folder / "titles.txt", folder / "photos"]


@pytest.fixture(scope="session")
def titles(own_files: list[Path]) -> Sample:
    """The texts alone."""
    return read_sample(own_files[:1])


@pytest.fixture(scope="session")
def sample(own_files: list[Path]) -> Sample:
    return read_sample(own_files)


@pytest.fixture(scope="session")
def home(catalogue_checkpoint: str) -> JinaClip:
    """The catalogue's model on this machine."""
    return JinaClip(catalogue_checkpoint, backend="local", device="cpu")


@pytest.fixture
def served(modelled: Any, clip: Callable[..., JinaClip]) -> Callable[..., JinaClip]:
    """Makes JinaClips over a service with the catalogue's model, at its width."""
    skip_without("torch")
    return lambda **options: clip(base_url=modelled.url, dimensions=128, **options)
