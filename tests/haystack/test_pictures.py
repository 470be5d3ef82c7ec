"""Where the pictures of documents come from: blobs, files, pages of PDF files."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pypdfium2
import pytest
from haystack import Document
from haystack.components.converters.image import ImageFileToDocument
from haystack.dataclasses import ByteStream

from haystack_integrations.components.embedders.jinaclip._pages import Page, Pages
from haystack_jinaclip import (
    ConversionError,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
)
from jinaclip import InputError
from tests.haystack.conftest import picture, png


def same(vector, other) -> bool:
    return np.allclose(vector, other, atol=2e-6)


def page(number, file="pages.pdf") -> Document:
    return Document(content="a page", meta={"file_path": file, "page_number": number})


@pytest.fixture(params=[JinaClipDocumentImageEmbedder, JinaClipFusedDocumentEmbedder])
def embedder(request, hosted, folder):
    """Both embedders of pictures, with the folder as their root."""
    return request.param(**hosted, root_path=str(folder), progress_bar=False)


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({}, "file_path"),
        ({"file_path": None}, "file_path"),
        ({"file_path": 7}, "int"),
        ({"file_path": "missing.png"}, "invalid file path"),
        ({"file_path": "https://example.org/a.png"}, "invalid file path"),
        ({"file_path": "nul\0.png"}, "null"),
        ({"file_path": "notes.txt"}, "MIME type 'text/plain'"),
        ({"file_path": "0.png", "mime_type": "text/html"}, "MIME type 'text/html'"),
        ({"file_path": "../outside.png"}, "escapes"),
        ({"file_path": "/etc/passwd"}, "escapes"),
        ({"file_path": "link.png"}, "escapes"),
        ({"file_path": "pages.pdf"}, "page_number"),
        ({"file_path": "pages.pdf", "page_number": "2"}, "whole number"),
        ({"file_path": "pages.pdf", "page_number": 0}, "whole number"),
    ],
)
async def test_a_document_without_usable_picture_is_a_value_error(embedder, server, folder, run, meta, reason) -> None:
    """H15: before anything is sent, and with the id of the document."""
    (folder.parent / "outside.png").write_bytes(png(1))
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    bad = Document(content="bad", meta=meta)
    with pytest.raises(ValueError, match=reason) as caught:
        await run(embedder, [Document(content="fine", meta={"file_path": "0.png"}), bad])
    assert isinstance(caught.value, InputError) and caught.value.index == 1
    assert bad.id in str(caught.value)
    assert server.ledger()["requests"] == 0


async def test_without_root_paths_stay_in_the_working_directory(hosted, folder, run, monkeypatch) -> None:
    """4, 22: the path is metadata, which may come from anywhere; "/" lifts the limit."""
    given = [Document(meta={"file_path": str(folder / "0.png")})]
    with pytest.raises(ValueError, match="escapes"):
        await run(JinaClipDocumentImageEmbedder(**hosted, progress_bar=False), given)
    anywhere = JinaClipDocumentImageEmbedder(**hosted, progress_bar=False, root_path="/")
    (wanted,) = (await run(anywhere, given))["documents"]
    monkeypatch.chdir(folder)
    (got,) = (await run(JinaClipDocumentImageEmbedder(**hosted, progress_bar=False), given))["documents"]
    assert got.embedding == wanted.embedding


@pytest.mark.parametrize("bad", [page(4), page(1, "broken.pdf"), page(1, "fake.pdf")])
async def test_a_page_that_cannot_be_rendered_is_a_runtime_error(embedder, folder, run, bad) -> None:
    """H15: a ValueError of the core's family too, and it says which page of which file."""
    (folder / "broken.pdf").write_bytes((folder / "pages.pdf").read_bytes()[:100])
    (folder / "fake.pdf").write_bytes(png(1))
    with pytest.raises(RuntimeError, match=f"page {bad.meta['page_number']} of {bad.meta['file_path']}") as caught:
        await run(embedder, [Document(content="fine", meta={"file_path": "0.png"}), bad])
    assert isinstance(caught.value, ConversionError) and isinstance(caught.value, InputError)
    assert caught.value.index == 1
    assert bad.id in caught.value.__notes__[0]


async def test_pictures_and_pages_keep_their_places(make, folder, run) -> None:
    """H16, H18: files, blobs and pages in any order; each gets the vector of the page it names."""
    blob = ByteStream((folder / "pages.pdf").read_bytes(), mime_type="application/pdf")
    given = [
        page(3),
        Document(meta={"file_path": "1.png"}),
        page(1),
        Document(blob=ByteStream(png(2))),
        page(2),
        Document(blob=blob, meta={"page_number": 2}),
        page(3),
    ]
    got = (await run(make(JinaClipDocumentImageEmbedder, root_path=str(folder)), given))["documents"]
    assert [document.id for document in got] == [document.id for document in given]
    with pypdfium2.PdfDocument(folder / "pages.pdf") as pdf:
        red, green, blue = (pdf[i].render(scale=300 / 72).to_pil() for i in range(3))
        clip = make(JinaClipDocumentImageEmbedder).warm_up()
        wanted = clip.embed_images([blue, picture(1), red, picture(2), green, green, blue])
    assert all(same(document.embedding, vector) for document, vector in zip(got, wanted, strict=True))


async def test_each_file_is_opened_once(make, folder, run, monkeypatch) -> None:
    """H16"""
    opened = []

    class Counted(pypdfium2.PdfDocument):
        def __init__(self, source) -> None:
            opened.append(source)
            super().__init__(source)

    monkeypatch.setattr(pypdfium2, "PdfDocument", Counted)
    (folder / "more.pdf").write_bytes((folder / "pages.pdf").read_bytes())
    given = [page(1), page(1, "more.pdf"), page(2), page(3), page(3, "more.pdf")]
    await run(make(JinaClipDocumentImageEmbedder, root_path=str(folder)), given)
    assert sorted(path.name for path in opened) == ["more.pdf", "pages.pdf"]


def test_a_page_is_rendered_at_300_dpi_or_as_large_as_allowed(folder) -> None:
    """H16"""
    pages = Pages()
    assert pages.render(Page(folder / "pages.pdf", 2), 10**9).getpixel((5, 5)) == (0, 255, 1)
    width, height = pages.render(Page(folder / "pages.pdf", 1), 10**9).size
    with pypdfium2.PdfDocument(folder / "pages.pdf") as pdf:
        assert (width, height) == tuple(-int(-side // (72 / 300)) for side in pdf[0].get_size())
    small = pages.render(Page(folder / "pages.pdf", 1), 10_000)
    assert 8_000 < small.width * small.height <= 10_000
    pages.close()


def test_pages_are_rendered_from_many_threads(folder) -> None:
    """H20: PDFium itself would crash; embedders of different pipelines share one lock."""
    colours = {1: (254, 0, 0), 2: (0, 255, 1), 3: (0, 0, 254)}
    wrong = []

    def work() -> None:
        pages = Pages()
        for number in (1, 2, 3) * 5:
            seen = pages.render(Page(folder / "pages.pdf", number), 10_000).getpixel((5, 5))
            if max(abs(a - b) for a, b in zip(seen, colours[number], strict=True)) > 3:
                wrong.append((number, seen))
        pages.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


async def test_without_pypdfium2_the_extra_is_named(hosted, folder, run, monkeypatch) -> None:
    """H15: and it is no fault of the document, so that leniency does not hide it."""
    monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
    for lenient in (False, True):
        made = JinaClipDocumentImageEmbedder(
            **hosted, root_path=str(folder), progress_bar=False, raise_on_failure=not lenient
        )
        with pytest.raises(ImportError, match=r"haystack-jinaclip\[pdf\]"):
            await run(made, [page(1)])


async def test_a_lenient_embedder_keeps_documents_without_picture(embedder, server, folder, run, caplog) -> None:
    """H15, H16: missing files, damaged pictures, pages that are not there; the others get their vectors."""
    (folder / "damaged.png").write_bytes(png(1)[:-200])
    names = ["0.png", "missing.png", "damaged.png", "2.png"]
    given = [Document(content=name, meta={"file_path": name}) for name in names]
    given[2:2] = [page(9), page(2), Document(content="no path")]
    embedder.raise_on_failure = False
    got = (await run(embedder, given))["documents"]
    assert [document.id for document in got] == [document.id for document in given]
    assert [document.embedding is None for document in got] == [False, True, True, False, True, True, False]
    assert len(caplog.records) == 4
    embedder.raise_on_failure = True
    (alone,) = (await run(embedder, [given[6]]))["documents"]
    assert same(alone.embedding, got[6].embedding)


async def test_the_source_of_the_embedding_is_told(make, folder, run) -> None:
    """H17: as the peers do, and for text and picture together by another name; texts tell none."""
    given = [Document(content="a", meta={"path": "0.png", "kept": 1})]
    place = {"root_path": str(folder), "file_path_meta_field": "path"}
    kinds = {
        JinaClipDocumentImageEmbedder: ({"type": "image", "file_path_meta_field": "path"}, place),
        JinaClipFusedDocumentEmbedder: ({"type": "text+image", "file_path_meta_field": "path"}, place),
    }
    for kind, (source, more) in kinds.items():
        (got,) = (await run(make(kind, **more), given))["documents"]
        assert got.meta == {"path": "0.png", "kept": 1, "embedding_source": source}
    (plain,) = (await run(make(JinaClipDocumentEmbedder), given))["documents"]
    assert plain.meta == given[0].meta


async def test_the_blob_comes_first(make, folder, run) -> None:
    """H18: even where `meta` names another file, or one that is not there."""
    blob = ByteStream(png(1), mime_type="image/png")
    given = [Document(blob=blob, meta={"file_path": name}) for name in ("0.png", "missing.png")]
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    got = (await run(made, given))["documents"]
    wanted = made.warm_up().embed_image(picture(1))
    assert all(same(document.embedding, wanted) for document in got)


async def test_documents_of_haystacks_own_converter_are_embedded(make, folder, run) -> None:
    """3.3: `ImageFileToDocument` keeps the name of the file alone, which `root_path` completes."""
    converted = ImageFileToDocument().run(sources=[folder / "0.png", folder / "1.png"])["documents"]
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    got = (await run(made, converted))["documents"]
    wanted = made.warm_up().embed_images([picture(0), picture(1)])
    assert all(same(document.embedding, vector) for document, vector in zip(got, wanted, strict=True))


async def test_the_way_of_resizing_is_an_option(make, folder, run) -> None:
    (folder / "wide.png").write_bytes(png(5, (400, 160)))
    given = [Document(meta={"file_path": "wide.png"})]
    vectors = []
    for mode in ("model", "pad", "squash"):
        made = make(JinaClipDocumentImageEmbedder, root_path=str(folder), image_resize=mode)
        vectors.append((await run(made, given))["documents"][0].embedding)
    assert not same(vectors[0], vectors[1]) and not same(vectors[1], vectors[2])


async def test_a_fused_document_needs_both_halves(embedder, run) -> None:
    if isinstance(embedder, JinaClipFusedDocumentEmbedder):
        with pytest.raises(ValueError, match="no text to embed"):
            await run(embedder, [Document(meta={"file_path": "0.png"})])
    with pytest.raises(ValueError, match="file_path"):
        await run(embedder, [Document(content="text alone")])


def test_sync_and_async_agree_on_pages(make, folder) -> None:
    """H19: pages are rendered off the loop, over several loops."""
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    given = [page(2), Document(meta={"file_path": "0.png"}), page(1)]
    wanted = made.run(given)
    assert [asyncio.run(made.run_async(given)) for _ in range(2)] == [wanted, wanted]
    assert replace(wanted["documents"][0], embedding=None, meta=given[0].meta) == given[0]
