"""The programs of the pages run as they stand, one after the other, but for addresses and weights.

`tests/test_docs.py` says which pages are run here, and holds that there is no other without a test of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jinaclip.testing import Server
from tests.docs.pages import ROOT, programs
from tests.images.pdfs import pages, words
from tests.needs import skip_without

LOCAL = re.compile(r'JinaClip\("jina-clip-v2", backend="local"(, device="cuda")?')
HOSTED = re.compile(r'(JinaClip(?:Embedding)?\("jina-clip-v2")(?!, base_url)')
CHECKPOINT = ROOT / "examples" / "catalogue" / "checkpoint"
ADDRESSES = {"http://127.0.0.1:8000": "{url}", "https://example.com/coat.png": "coat.png"}
"""What stands in pages, and what is asked instead."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of who tries the programs, with the files that they name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_docs")
    for name, colour in {"dress.jpg": "red", "dress_again.jpg": "darkred", "coat.png": "blue"}.items():
        Image.new("RGB", (64, 64), colour).save(name)
    Path("damaged.jpg").write_bytes(noisy_jpeg()[:-400])
    Path("report.pdf").write_bytes(pages(words(b"one"), words(b"two"), words(b"three")))
    Path("products.csv").write_text("id,title\n1,a red dress\n2,a blue coat\n")
    return tmp_path


def noisy_jpeg() -> bytes:
    """A file whose end holds part of the image."""
    from io import BytesIO

    buffer = BytesIO()
    Image.effect_noise((128, 128), 90).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


class Reader:
    """Who goes through a page from top to bottom, and keeps the names."""

    def __init__(self, server: Server) -> None:
        self.server, self.names = server, dict[str, Any]()

    def run(self, path: str, *places: int) -> dict[str, Any]:
        """Runs the programs of a page, or those of these places."""
        code = programs(ROOT / path)
        for place in places or range(len(code)):
            exec(compile(self.adapt(code[place]), f"{path}, program {place}", "exec"), self.names)
        return self.names

    def adapt(self, code: str) -> str:
        """The code with our addresses, and with the model of the catalogue for the published one."""
        if LOCAL.search(code):
            skip_without("torch")
        code = LOCAL.sub(f'JinaClip({str(CHECKPOINT)!r}, backend="local", device="cpu"', code)
        code = HOSTED.sub(rf'\1, base_url="{self.server.url}"', code)
        code = code.replace('embed("products.csv", ', f'embed("products.csv", base_url="{self.server.url}", out=')
        for address, ours in ADDRESSES.items():
            code = code.replace(address, ours.format(url=self.server.url))
        return code


@pytest.fixture
def reader(server: Server, folder: Path) -> Reader:
    return Reader(server)


@pytest.mark.slow
def test_the_first_five_minutes(reader: Reader, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The first program runs in the checkout, with the small model itself."""
    skip_without("torch")
    monkeypatch.chdir(ROOT)
    reader.run("docs/start.md", 0)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert all("garment='dress'" in line for line in shown)
    assert "colour='red', pattern='striped', second_colour='white'" in shown[0]
    reader.run("docs/start.md", 1)
    assert capsys.readouterr().out.startswith("(2, 1024)\n")


def test_plain_python(reader: Reader, capsys: Any) -> None:
    reader.run("docs/python.md")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("(3, 1024) {} ")
    assert lines[2] == "3"


def test_images(reader: Reader) -> None:
    skip_without("pypdfium2")
    names = reader.run("docs/images.md")
    assert names["vectors"].shape == names["images"].shape == (3, 1024)
    assert (names["third"].shape, names["pairs"].shape) == ((1024,), (1, 1024))


def test_errors(reader: Reader, capsys: Any) -> None:
    """What is printed is what the page says."""
    names = reader.run("docs/errors.md")
    (printed,) = re.findall(r"^```\n(image 2.*?)\n```$", (ROOT / "docs" / "errors.md").read_text(), re.M | re.S)
    first, second = capsys.readouterr().out.splitlines()
    assert first == printed
    assert second.startswith("0 image 0: the JPEG file is cut short")
    assert names["places"].tolist() == [1]


def test_spaces(reader: Reader, capsys: Any) -> None:
    reader.run("docs/spaces.md")
    assert capsys.readouterr().out.startswith("jina_clip_v2_1024_")


def test_options(reader: Reader, capsys: Any) -> None:
    reader.run("docs/options.md")
    assert "dimensions" in capsys.readouterr().out.splitlines()[1]


def test_diversity_and_classes(reader: Reader, capsys: Any) -> None:
    skip_without("sklearn")
    names = reader.run("docs/retrieval.md")
    assert len(names["order"]) >= 2
    assert len(names["found"].best) == 2
    assert names["found"].probabilities.shape == (2, 3)


def test_how_it_works(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="jinaclip"):
        reader.run("docs/how-it-works.md")
    assert caplog.records


def test_watching(reader: Reader) -> None:
    from jinaclip import JinaClip, telemetry

    try:
        names = reader.run("docs/watching.md", 0, 1)  # the third is run by tests/telemetry/test_tracing.py
        JinaClip("jina-clip-v2", base_url=reader.server.url).embed_documents(["a red dress"])
        assert names["billed"] > 0
    finally:
        telemetry.set_hooks(None)


def test_serving(reader: Reader) -> None:
    """Four clients of one server, and they agree."""
    for module in ("langchain_jinaclip", "llamaindex_jinaclip", "haystack_jinaclip"):
        skip_without(module)
    names = reader.run("docs/serving.md")
    expected = names["clip"].embed_query("a red dress").tolist()
    assert names["embeddings"].embed_query("a red dress") == pytest.approx(expected)
    assert names["embed_model"].get_query_embedding("a red dress") == pytest.approx(expected)
    assert names["embedder"].run("a red dress")["embedding"] == pytest.approx(expected)


def test_a_gpu(reader: Reader) -> None:
    names = reader.run("docs/gpu.md")
    assert names["clip"].embed_query("a red dress").shape == (128,)


def test_two_folders_of_one_model(reader: Reader, folder: Path, catalogue_checkpoint: str) -> None:
    import shutil

    for name in ("before", "after"):
        shutil.copytree(catalogue_checkpoint, folder / "models" / name)
    (folder / "photos").mkdir()
    shutil.copy("dress.jpg", folder / "photos")
    Path("wishes.txt").write_text("a red dress\na blue coat\n")
    assert reader.run("docs/compare.md")["comparison"].verdict.one_space


def test_small_vectors(reader: Reader, model: Any, tmp_path: Path) -> None:
    """A store as docs/stores.md introduces it, and its vectors at a byte and a bit."""
    skip_without("faiss")
    from examples.stores.faiss_files import FaissStore

    Image.new("RGB", (64, 64), "green").save("seen_in_the_street.jpg")
    reader.names["store"] = FaissStore(model, tmp_path / "faiss")
    reader.run("docs/stores.md", 0)
    names = reader.names | {"clip": model, "titles": ["a red dress", "a blue coat"] * 10, "query": "red"}
    reader.names = names
    assert reader.run("docs/stores.md", 1)["hits"].indices.shape == (10,)


@pytest.fixture(scope="module")
def model(catalogue_checkpoint: str) -> Any:
    from jinaclip import JinaClip

    with JinaClip(catalogue_checkpoint, backend="local", device="cpu") as clip:
        yield clip


def test_the_readme(reader: Reader, capsys: Any) -> None:
    skip_without("pyarrow")
    reader.run("README.md")
    assert "done 2, failed 0" in capsys.readouterr().out


def test_the_core_s_readme(reader: Reader) -> None:
    """Its other programs are run by tests/api/test_testing.py."""
    assert reader.run("shared/README.md", 0)["images"].shape == (2, 1024)


def test_the_readme_of_the_other_name(reader: Reader) -> None:
    skip_without("llamaindex_jinaclip")
    names = reader.run("packages/llama_index_embeddings_jinaclip/README.md")
    assert len(names["embed"].get_query_embedding("a red dress")) == 1024


def test_the_card_of_the_small_model(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("torch")
    monkeypatch.chdir(ROOT)
    assert reader.run("examples/catalogue/checkpoint/README.md")["clip"].embed_query("red").shape == (128,)
