"""Where the pictures of documents come from: blobs, files, pages of PDF files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import http.server
import signal
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pypdfium2
import pytest
from haystack import Document
from haystack.components.converters.image import ImageFileToDocument
from haystack.dataclasses import ByteStream

from haystack_jinaclip import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
)
from jinaclip import InputError
from jinaclip.errors import ConversionError
from jinaclip.images.resize import resize_pad
from tests.haystack.conftest import TimeLimit, alike, picture, png
from tests.images.pdfs import endless, pages
from tests.watching import auntil, until


def same(vector, other) -> bool:
    return np.allclose(vector, other, atol=2e-6)


def page(number, file="pages.pdf") -> Document:
    return Document(content="a page", meta={"file_path": file, "page_number": number})


@pytest.fixture(params=[JinaClipDocumentImageEmbedder, JinaClipFusedDocumentEmbedder])
def embedder(request, hosted, folder):
    """Both embedders of pictures, with the folder as their root."""
    policy = {"max_bytes": 100_000}
    return request.param(**hosted, root_path=str(folder), progress_bar=False, image_policy=policy)


UNUSABLE = [
    ({}, r"it has no image: neither a blob nor meta\['file_path'\]"),
    ({"file_path": None}, "file_path"),
    ({"file_path": 7}, "file_path"),
    ({"file_path": "missing.png"}, "missing.png"),
    ({"file_path": "http://example.org/a.png"}, "schemes"),
    ({"file_path": "file:///etc/passwd", "mime_type": "image/png"}, "allowed_roots"),
    ({"file_path": "https://example.org/a.html"}, "a.html.* MIME type"),
    ({"file_path": "nul\0.png"}, "NUL"),
    ({"file_path": "notes.txt"}, "notes.txt.* MIME type"),
    ({"file_path": "noname"}, "noname.* MIME type"),
    ({"file_path": "0.png", "mime_type": "text/html"}, "0.png.* MIME type"),
    ({"file_path": "../outside.png"}, "allowed_roots"),
    ({"file_path": "../not-even-there.png"}, "allowed_roots"),
    ({"file_path": "../outside.pdf", "page_number": 1}, "allowed_roots"),
    ({"file_path": "/etc/passwd", "mime_type": "image/png"}, "allowed_roots"),
    ({"file_path": "link.png"}, "allowed_roots"),
    ({"file_path": "elsewhere/outside.png"}, "allowed_roots"),
    ({"file_path": "elsewhere/outside.pdf", "page_number": 1}, "allowed_roots"),
    ({"file_path": "large.png"}, "max_bytes"),
    ({"file_path": "large.pdf", "page_number": 1}, "max_bytes"),
    ({"file_path": "pages.pdf"}, "page_number"),
    ({"file_path": "pages.pdf", "page_number": "two"}, "whole number"),
    ({"file_path": "pages.pdf", "page_number": 1.5}, "whole number"),
    ({"file_path": "pages.pdf", "page_number": 0}, "whole number"),
    ({"file_path": "pages.pdf", "page_number": True}, "whole number"),
]


async def test_a_document_without_usable_picture_is_a_value_error(embedder, server, folder, run) -> None:
    """Before anything is sent, and with the id of the document. The image policy holds for files and PDFs."""
    (folder.parent / "outside.png").write_bytes(png(1))
    (folder.parent / "outside.pdf").write_bytes((folder / "pages.pdf").read_bytes())
    (folder / "large.png").write_bytes(png(1, (400, 400)))
    (folder / "large.pdf").write_bytes((folder / "pages.pdf").read_bytes() + b"%" * 100_000)
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "elsewhere").symlink_to(folder.parent)
    fine = Document(content="fine", meta={"file_path": "0.png"})
    for meta, reason in UNUSABLE:
        bad = Document(meta=meta)
        with pytest.raises(ValueError, match=reason) as caught:
            await run(embedder, [fine, bad])
        assert isinstance(caught.value, InputError) and caught.value.index == 1
        assert bad.id in str(caught.value)
    assert server.ledger()["requests"] == 0


async def test_without_root_paths_stay_in_the_working_directory(hosted, folder, run, monkeypatch) -> None:
    """The path is metadata, which may come from anywhere; "/" lifts the limit."""
    given = [Document(meta={"file_path": str(folder / "0.png")})]
    with pytest.raises(ValueError, match="allowed_roots"):
        await run(JinaClipDocumentImageEmbedder(**hosted, progress_bar=False), given)
    vectors = []
    for more in ({"root_path": "/"}, {"image_policy": {"allowed_roots": [str(folder)]}}, {}):
        if not more:
            monkeypatch.chdir(folder)
        made = JinaClipDocumentImageEmbedder(**hosted, **more, progress_bar=False)
        vectors.append((await run(made, given))["documents"][0].embedding)
    assert same(vectors[0], vectors[1]) and same(vectors[0], vectors[2])


async def test_a_root_called_any_is_a_folder(hosted, folder, run, monkeypatch) -> None:
    """The core's word for "no limit" is no name of a folder here; `image_policy` has it, and "/" says the same."""
    (folder / "any").mkdir()
    (folder / "any" / "0.png").write_bytes(png(0))
    monkeypatch.chdir(folder)
    made = JinaClipDocumentImageEmbedder(**hosted, root_path="any", progress_bar=False)
    assert (await run(made, [Document(meta={"file_path": "0.png"})]))["documents"][0].embedding
    for name in ("../0.png", str(folder / "0.png"), "/etc/hostname"):
        with pytest.raises(ValueError, match="allowed_roots"):
            await run(made, [Document(meta={"file_path": name, "mime_type": "image/png"})])
    unlimited = {"allowed_roots": "any"}
    made = JinaClipDocumentImageEmbedder(**hosted, root_path="any", image_policy=unlimited, progress_bar=False)
    assert (await run(made, [Document(meta={"file_path": "../0.png"})]))["documents"][0].embedding


@pytest.mark.parametrize("options", [{"root_path": "inner"}, {"image_policy": {"allowed_roots": ["inner"]}}], ids=str)
async def test_relative_roots_are_those_of_the_moment_when_the_component_is_made(
    options, hosted, folder, run, monkeypatch
) -> None:
    """Not of its first call, which makes its JinaClip; a copy keeps them."""
    (folder / "inner").mkdir()
    (folder / "inner" / "0.png").write_bytes(png(0))
    monkeypatch.chdir(folder)
    made = JinaClipDocumentImageEmbedder(**hosted, **options, progress_bar=False)
    copies = made, copy.deepcopy(made)
    monkeypatch.chdir(folder.parent)
    for component in copies:
        given = [Document(meta={"file_path": str(folder / "inner" / "0.png")})]
        assert (await run(component, given))["documents"][0].embedding
        with pytest.raises(ValueError, match="allowed_roots"):
            await run(component, [Document(meta={"file_path": str(folder / "0.png")})])


async def test_a_path_of_half_a_megabyte_is_refused_before_it_is_looked_at(embedder, run) -> None:
    """It would take half a minute."""
    began = time.process_time()
    with pytest.raises(InputError, match=r"is no path|cannot be read"):
        await run(embedder, [Document(content="a", meta={"file_path": "a/" * 250_000 + "a.png"})])
    assert time.process_time() - began < 5


async def test_other_roots_may_be_allowed_beside_the_one_where_paths_start(
    hosted, folder, run, tmp_path_factory
) -> None:
    """`image_policy["allowed_roots"]` has the last word."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "3.png").write_bytes(png(3))
    both = {"allowed_roots": [str(folder), str(elsewhere)]}
    made = JinaClipDocumentImageEmbedder(**hosted, root_path=str(folder), image_policy=both, progress_bar=False)
    given = [Document(meta={"file_path": name}) for name in ("0.png", str(elsewhere / "3.png"))]
    got = (await run(made, given))["documents"]
    assert all(document.embedding for document in got)


async def test_a_path_that_leads_outside_is_told_what_helps(hosted, server, folder, run, caplog) -> None:
    """`meta` holds no Path, and an ImagePolicy is no option here; in the error and in the log."""
    given = [Document(content="a", meta={"file_path": str(folder / "0.png")})]
    helps = "; set root_path to its folder, or allow that with image_policy={'allowed_roots': [...]}"
    for kind in (JinaClipDocumentImageEmbedder, JinaClipFusedDocumentEmbedder):
        with pytest.raises(InputError, match="lies outside the current working directory") as caught:
            await run(kind(**hosted, progress_bar=False), given)
        assert str(caught.value).endswith(helps) and "Path" not in str(caught.value)
        await run(kind(**hosted, progress_bar=False, raise_on_failure=False), given)
        assert caplog.messages.pop().endswith(helps)
        for more in ({"root_path": str(folder)}, {"image_policy": {"allowed_roots": [str(folder)]}}):
            assert (await run(kind(**hosted, **more, progress_bar=False), given))["documents"][0].embedding


async def test_the_policy_holds_for_blobs(embedder, server, run, folder) -> None:
    """Size, and what they claim to be."""
    pdf = (folder / "pages.pdf").read_bytes() + b"%" * 100_000
    for blob, reason in (
        (ByteStream(png(1, (400, 400))), "max_bytes"),
        (ByteStream(pdf, mime_type="application/pdf"), "max_bytes"),
        (ByteStream(b"a text", mime_type="text/plain"), "MIME type"),
        (ByteStream(b""), "empty"),
    ):
        with pytest.raises(ValueError, match=reason):
            await run(embedder, [Document(blob=blob, meta={"page_number": 1})])
    assert server.ledger()["requests"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("bad", [page(4), page(1, "broken.pdf"), page(1, "fake.pdf")])
async def test_a_page_that_cannot_be_rendered_is_a_runtime_error(embedder, server, folder, run, bad) -> None:
    """A ValueError of the core's family too, before anything is paid; it says which page of which file."""
    (folder / "broken.pdf").write_bytes((folder / "pages.pdf").read_bytes()[:100])
    (folder / "fake.pdf").write_bytes(png(1))
    with pytest.raises(RuntimeError, match=f"page {bad.meta['page_number']} of {bad.meta['file_path']}") as caught:
        await run(embedder, [Document(content="fine", meta={"file_path": "0.png"}), bad])
    assert isinstance(caught.value, ConversionError) and isinstance(caught.value, InputError)
    assert caught.value.index == 1
    assert bad.id in str(caught.value)
    assert server.ledger()["requests"] == 0


@pytest.mark.slow
async def test_pictures_and_pages_keep_their_places(make, folder, run) -> None:
    """Files, blobs and pages in any order; each gets the vector of the page it names."""
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
    with closing(pypdfium2.PdfDocument(folder / "pages.pdf")) as pdf:
        red, green, blue = (pdf[i].render(scale=300 / 72).to_pil() for i in range(3))
        clip = make(JinaClipDocumentImageEmbedder).handle.get()
        side = clip.spec.image_size
        red, green, blue = (resize_pad(image, side, fill=(255, 255, 255)) for image in (red, green, blue))
        wanted = clip.embed_images([blue, picture(1), red, picture(2), green, green, blue])
    assert all(same(document.embedding, vector) for document, vector in zip(got, wanted, strict=True))


async def test_without_pypdfium2_the_extra_is_named(hosted, folder, run, monkeypatch) -> None:
    """And it is no fault of the document, so that leniency does not hide it."""
    monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
    for lenient in (False, True):
        made = JinaClipDocumentImageEmbedder(
            **hosted, root_path=str(folder), progress_bar=False, raise_on_failure=not lenient
        )
        with pytest.raises(ImportError, match=r"jinaclip\[pdf\]"):
            await run(made, [page(1)])


async def test_a_lenient_embedder_puts_documents_without_usable_picture_apart(embedder, folder, run, caplog) -> None:
    """Missing files, damaged pictures, pages that are not there; the others get their vectors."""
    (folder / "damaged.png").write_bytes(png(1)[:-200])
    names = ["0.png", "missing.png", "damaged.png", "2.png"]
    given = [Document(content=name, meta={"file_path": name}) for name in names]
    given[2:2] = [page(9), page(2), Document()]
    lenient = type(embedder)(**embedder.options.by_name() | {"raise_on_failure": False})
    result = await run(lenient, given)
    done, failed = result["documents"], result["failed_documents"]
    assert [document.id for document in done] == [given[place].id for place in (0, 3, 6)]
    assert [document.id for document in failed] == [given[place].id for place in (1, 2, 4, 5)]
    assert all(document.meta["embedding_error"] and "embedding_source" not in document.meta for document in failed)
    assert len(caplog.records) == 4
    (alone,) = (await run(embedder, [given[6]]))["documents"]
    assert same(alone.embedding, done[2].embedding)


async def test_an_error_names_the_document_and_its_file(embedder, folder, run) -> None:
    """Whether the file is missing, truncated, or at an address; of that no password, and no query."""
    (folder / "damaged.png").write_bytes(png(1)[:-200])
    places = {
        "missing.png": "missing.png",
        "damaged.png": "damaged.png",
        "http://anna:word@example.org/a.png?token=word": "http://example.org/a.png",
        "data:image/png;base64," + base64.b64encode(png(1)[:-200]).decode(): "[image]",
        "https://127.0.0.1/a.png": "https://127.0.0.1/a.png",
    }
    for place, shown in places.items():
        bad = Document(meta={"file_path": place})
        with pytest.raises(InputError) as caught:
            await run(embedder, [Document(meta={"file_path": "0.png"}), bad])
        named, _, reason = str(caught.value).partition("): ")
        assert named.startswith(f"Document with ID '{bad.id}' ({shown}") and reason
        assert "word" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, "2", " 2 ", 2.0, np.int64(2), np.uint8(2)], ids=repr)
async def test_a_page_number_is_taken_in_any_form_that_converters_write(make, folder, run, number) -> None:
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    (got,) = (await run(made, [Document(meta={"file_path": Path("pages.pdf"), "page_number": number})]))["documents"]
    assert same(got.embedding, (await run(made, [page(2)]))["documents"][0].embedding)


@pytest.mark.slow
async def test_a_place_and_a_blob_are_taken_in_any_form_that_converters_write(make, folder, run) -> None:
    """A Path, a `file://` address, a data: URI; blobs and files whose MIME type says nothing, also of a PDF file."""
    unsaid = "application/octet-stream"
    pdf = (folder / "pages.pdf").read_bytes()
    given = [
        Document(meta={"file_path": Path("1.png")}),
        Document(meta={"file_path": folder / "1.png"}),
        Document(meta={"file_path": (folder / "1.png").as_uri()}),
        Document(meta={"file_path": "data:image/png;base64," + base64.b64encode(png(1)).decode()}),
        Document(meta={"file_path": "1.png", "mime_type": unsaid}),
        Document(blob=ByteStream(png(1), mime_type=unsaid)),
        Document(blob=ByteStream(png(1), mime_type="")),
    ]
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    wanted = made.handle.get().embed_image(picture(1))
    got = (await run(made, given))["documents"]
    assert len(got) == 7 and all(same(document.embedding, wanted) for document in got)
    blobs = [Document(blob=ByteStream(pdf, mime_type=kind), meta={"page_number": 3}) for kind in (unsaid, None)]
    red = (await run(made, [page(3)]))["documents"][0].embedding
    assert all(same(document.embedding, red) for document in (await run(made, blobs))["documents"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["IMAGE/PNG", "image/png; charset=binary", "Application/Octet-Stream; x=1"])
async def test_a_mime_type_is_taken_as_servers_write_it(make, folder, run, kind) -> None:
    """In upper case and with parameters; of a PDF file too, which is no image."""
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    of_pdf = kind.lower().replace("image/png", "Application/PDF")
    pdf = ByteStream((folder / "pages.pdf").read_bytes(), mime_type=of_pdf)
    given = [
        Document(blob=ByteStream(png(1), mime_type=kind)),
        Document(meta={"file_path": "1.png", "mime_type": kind}),
        Document(blob=pdf, meta={"page_number": 3}),
    ]
    first, second, third = (await run(made, given))["documents"]
    assert same(first.embedding, second.embedding)
    assert same(third.embedding, (await run(made, [page(3)]))["documents"][0].embedding)


@pytest.mark.parametrize("hold", [bytes, bytearray, lambda data: {"data": data}, lambda data: [data]], ids=range(4))
async def test_no_message_shows_what_meta_holds_in_place_of_a_path(make, folder, run, hold) -> None:
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    with pytest.raises(InputError, match="MIME type of an image") as caught:
        await run(made, [Document(meta={"file_path": hold(png(1))})])
    assert "PNG" not in str(caught.value) and type(hold(b"")).__name__ in str(caught.value)


async def test_an_address_is_fetched_under_the_policy(hosted, server, run) -> None:
    """Of an image that its document names; `forward` leaves fetching to the service, as for queries."""
    with serving(png(1)) as url:
        host = urlsplit(url)
        policy = {"schemes": ["http"], "ports": [host.port], "allow_networks": ["127.0.0.1/32"]}
        given = [Document(meta={"file_path": f"{url}/{name}"}) for name in ("a.png", "noname?size=3")]
        made = JinaClipDocumentImageEmbedder(**hosted, progress_bar=False, image_policy=policy)
        got = (await run(made, given))["documents"]
        wanted = made.handle.get().embed_image(picture(1))
        assert all(same(document.embedding, wanted) for document in got)
        with pytest.raises(InputError, match="schemes"):
            await run(JinaClipDocumentImageEmbedder(**hosted, progress_bar=False), given)


@contextlib.contextmanager
def serving(data):
    """The address of a host that answers whatever is asked with this image."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{host.server_port}"
        host.shutdown()
        thread.join()


async def test_the_source_of_the_embedding_is_told(make, folder, run) -> None:
    """As the peers do, and for text and picture together by another name; texts tell none."""
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
    """Even where `meta` names another file, or one that is not there."""
    blob = ByteStream(png(1), mime_type="image/png")
    given = [Document(blob=blob, meta={"file_path": name}) for name in ("0.png", "missing.png")]
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    got = (await run(made, given))["documents"]
    wanted = made.handle.get().embed_image(picture(1))
    assert all(same(document.embedding, wanted) for document in got)


async def test_documents_of_haystacks_own_converter_are_embedded(make, folder, run) -> None:
    """`ImageFileToDocument` keeps the name of the file alone, which `root_path` completes."""
    converted = ImageFileToDocument().run(sources=[folder / "0.png", folder / "1.png"])["documents"]
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    got = (await run(made, converted))["documents"]
    wanted = made.handle.get().embed_images([picture(0), picture(1)])
    assert all(same(document.embedding, vector) for document, vector in zip(got, wanted, strict=True))


async def test_the_way_of_resizing_is_an_option(make, folder, run) -> None:
    (folder / "wide.png").write_bytes(png(5, (400, 160)))
    given = [Document(meta={"file_path": "wide.png"})]
    vectors = []
    for mode in ("model", "pad", "squash"):
        made = make(JinaClipDocumentImageEmbedder, root_path=str(folder), image_resize=mode)
        vectors.append((await run(made, given))["documents"][0].embedding)
    assert not same(vectors[0], vectors[1]) and not same(vectors[1], vectors[2])


def test_sync_and_async_agree_on_pages(make, folder) -> None:
    """Pages are rendered off the loop, over several loops."""
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    given = [page(2), Document(meta={"file_path": "0.png"}), page(1)]
    wanted = made.run(given)
    assert all(alike(asyncio.run(made.run_async(given)), wanted) for _ in range(2))
    assert replace(wanted["documents"][0], embedding=None, meta=given[0].meta) == given[0]


async def test_a_page_that_draws_for_ever_leaves_the_loop_free(hosted, folder) -> None:
    """And other runs too; cancelled, it ends at once, and the next run gets its page."""
    (folder / "endless.pdf").write_bytes(endless())
    made = JinaClipDocumentImageEmbedder(**hosted, root_path=str(folder), progress_bar=False)
    batch = asyncio.create_task(made.run_async([page(1, "endless.pdf")]))
    await auntil(is_drawing, 30)
    assert (await made.run_async([page(1)]))["documents"][0].embedding
    assert not batch.done()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    await auntil(lambda: not is_drawing(), 30)
    assert (await made.run_async([page(1)]))["documents"][0].embedding
    await made.close_async()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_time_limit_of_the_host_ends_a_run_that_waits_for_pdfium(make, folder, time_limit) -> None:
    """With the host's own exception, also where it is none of ours to convert; the next run gets its page."""
    (folder / "endless.pdf").write_bytes(endless())
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder), raise_on_failure=False)
    with pytest.raises(TimeLimit):
        time_limit(0.5)
        made.run([page(1, "endless.pdf")])
    until(lambda: not is_drawing(), 30)
    assert made.run([page(1)])["documents"][0].embedding


def is_drawing() -> bool:
    """Whether a thread waits for a page."""
    return any(thread.name == "jinaclip-page" for thread in threading.enumerate())


async def test_pages_are_seen_whole(make, folder, run) -> None:
    """Head and foot are not cut."""
    for name, colour in (("red", b"1 0 0 rg"), ("green", b"0 1 0 rg")):
        (folder / f"{name}.pdf").write_bytes(pages(colour + b" 0 395 298 25 re f"))
    made = make(JinaClipDocumentImageEmbedder, root_path=str(folder))
    red, green = (await run(made, [page(1, "red.pdf"), page(1, "green.pdf")]))["documents"]
    assert not same(red.embedding, green.embedding)
