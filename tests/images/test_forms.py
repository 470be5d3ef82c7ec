"""Open files and uploads as images: what they hold, read at the call, no further than the policy allows."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import http.server
import io
import mmap
import os
import tarfile
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from starlette.datastructures import UploadFile

from jinaclip import Image, ImagePolicy, InputError, Pair, hosts
from jinaclip.images import open_image, read_stream
from jinaclip.inputs import as_image
from tests.needs import skip_without

PIXELS = np.random.default_rng(3).integers(0, 255, (32, 32, 3), np.uint8)
PICTURE = Pillow.fromarray(PIXELS)


def png():
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    return file.getvalue()


PNG = png()


class Named(io.BytesIO):
    """A buffer of somebody else's, as web frameworks have."""

    name = "a.png"


class Socket:
    """Gives a few bytes at a time, cannot seek, and counts what was taken of it."""

    def __init__(self, data=PNG):
        self.rest, self.taken = data, 0

    def read(self, size=-1):
        piece = self.rest[: min(100, size)]
        self.rest, self.taken = self.rest[len(piece) :], self.taken + len(piece)
        return piece


class OldUpload:
    """An upload as frameworks before asyncio have it: it hands on to the file that it keeps."""

    def __init__(self, file):
        self.stream = file

    def __getattr__(self, name):
        return getattr(self.stream, name)


def spooled(limit, keep):
    file = keep(tempfile.SpooledTemporaryFile(max_size=limit))  # noqa: SIM115
    file.write(PNG)  # and stands at its end
    return file


def temporary(folder, keep):
    file = keep(tempfile.NamedTemporaryFile(dir=folder))  # noqa: SIM115
    file.write(PNG)  # not flushed
    return file


def zipped(folder, keep):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/a.png", PNG)
    return keep(zipfile.ZipFile(folder / "a.zip")).open("inside/a.png")


def tarred(folder, keep):
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(folder / "a.png", "a.png")
    return keep(tarfile.open(folder / "a.tar")).extractfile("a.png")


def gzipped(folder, keep):
    with gzip.open(folder / "a.gz", "wb") as file:
        file.write(PNG)
    return keep(gzip.open(keep((folder / "a.gz").open("rb"))))


def mapped(folder, keep):
    with (folder / "a.png").open("rb") as file:
        return keep(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def piped(folder, keep):
    reader, writer = os.pipe()

    def fill():
        with os.fdopen(writer, "wb") as file:
            file.write(PNG)

    threading.Thread(target=fill, daemon=True).start()
    return keep(os.fdopen(reader, "rb"))


FORMS = {
    "open(rb)": lambda folder, keep: keep((folder / "a.png").open("rb")),
    "open(rb), raw": lambda folder, keep: keep((folder / "a.png").open("rb", buffering=0)),
    "open(r+b)": lambda folder, keep: keep((folder / "a.png").open("r+b")),
    "a subclass of BytesIO": lambda folder, keep: Named(PNG),
    "SpooledTemporaryFile in memory": lambda folder, keep: spooled(10**6, keep),
    "SpooledTemporaryFile on disk": lambda folder, keep: spooled(1, keep),
    "NamedTemporaryFile": temporary,
    "UploadFile": lambda folder, keep: UploadFile(spooled(10**6, keep), filename="a.png"),
    "UploadFile of a BytesIO": lambda folder, keep: UploadFile(io.BytesIO(PNG)),
    "an upload that hands on": lambda folder, keep: OldUpload(io.BytesIO(PNG)),
    "a member of a zip file": zipped,
    "a member of a tar file": tarred,
    "GzipFile": gzipped,
    "mmap": mapped,
    "a pipe": piped,
    "a socket": lambda folder, keep: Socket(),
    "from_bytes": lambda folder, keep: Image.from_bytes(keep((folder / "a.png").open("rb"))),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opened(folder):
    """Makes one form; what it leaves open is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda form: FORMS[form](folder, stack.enter_context)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["embed_image", "embed_images", "embed_pairs", "embed", "Pair", "hosts"])
async def test_an_open_file_is_an_image_wherever_one_is_taken(clip, run, opened, form, way):
    one, file = clip(image_resize="squash"), opened(form)
    if way == "embed_image":
        row = await run(one, way, file)
    elif way == "embed_images":
        (row,) = await run(one, way, [file])
    elif way == "embed_pairs":
        (row,) = await run(one, way, [("text", file)], weight=0)
    elif way == "embed":
        (row,) = (await run(one, way, [file])).vectors
    elif way == "Pair":
        (row,) = (await run(one, "embed", [Pair("text", file, 0)])).vectors
    else:
        (row,) = hosts.embed(one, [file], lambda item: item, kind="image").vectors
    np.testing.assert_allclose(row, one.embed_image(PNG), atol=1e-6)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("a pipe", "a socket", "from_bytes")])
def test_a_file_that_can_seek_is_read_from_its_beginning_and_stands_where_it_stood(opened, form):
    file = opened(form)
    inner = file.file if isinstance(file, UploadFile) else file
    inner.seek(7)
    assert read_stream(file, ImagePolicy()) == PNG
    assert inner.tell() == 7


async def test_a_file_is_read_at_the_call_and_may_be_closed_then(clip, folder):
    one = clip()
    with (folder / "a.png").open("rb") as file:
        waiting = one.aembed_images([file])
    assert (await waiting == one.embed_images([PNG])).all()


async def test_files_of_a_generator_are_read_when_their_turn_comes(clip, run, folder):
    def files():
        for _ in range(5):
            with (folder / "a.png").open("rb") as file:
                yield file

    one = clip()
    assert (await run(one, "embed_images", files()) == one.embed_image(PNG)).all()


def test_what_only_looks_at_an_image_takes_files_too(clip, folder):
    one = clip()
    with (folder / "a.png").open("rb") as file:
        one.validate([file])
        assert one.estimate([file]).tokens == 4000
        assert one.preview(file) == one.preview(PNG)
        image = one.resolve_image(file)
        assert (image.kind, image.source) == ("bytes", PNG)
        assert open_image(as_image(file), ImagePolicy()).size == (32, 32)


# -- how far


@pytest.mark.parametrize("size", [1000, 1001, 50_000])
def test_not_more_is_read_than_one_byte_over_the_cap(clip, size):
    endless = Socket(bytes(size))
    policy = ImagePolicy(max_bytes=1000)
    if size <= 1000:
        assert read_stream(endless, policy) == bytes(size)
    else:
        with pytest.raises(InputError, match=r"image_policy\.max_bytes=1000"):
            read_stream(endless, policy)
    assert endless.taken <= 1001
    results = clip(image_policy=policy).embed([again := Socket(bytes(size))])
    assert again.taken <= 1001
    assert ("max_bytes" in str(results.errors[0])) is (size > 1000)


def test_a_small_file_that_unpacks_to_a_large_one_is_not_unpacked(clip, folder):
    with gzip.open(folder / "bomb.gz", "wb") as file:
        file.write(bytes(30_000_000))
    with gzip.open(folder / "bomb.gz") as file:
        counted = Counted(file)
        with pytest.raises(InputError, match=r"image_policy\.max_bytes=5000"):
            clip(image_policy=ImagePolicy(max_bytes=5000)).embed_image(counted)
    assert counted.taken == 5001


class Counted:
    """A file that counts what is taken of it."""

    def __init__(self, file):
        self.file, self.taken = file, 0

    def read(self, size):
        data = self.file.read(size)
        self.taken += len(data)
        return data


def test_the_cap_of_the_clip_counts_and_not_the_default(clip):
    data = PNG + bytes(21 * 2**20)  # over the default; Pillow does not mind what follows the image
    one = clip(image_policy=ImagePolicy(max_bytes=22 * 2**20))
    assert (one.embed_image(OldUpload(io.BytesIO(data))) == one.embed_image(PNG)).all()
    assert len(hosts.take(OldUpload(io.BytesIO(data)), one)) == len(data)


# -- what is refused, and how


class Broken:
    """A file whose library has its own errors."""

    def read(self, size):
        raise ZeroDivisionError("of a library")


class Nothing:
    """A file that is not ready, as a socket that does not block."""

    def read(self, size):
        return None


class Coroutines:
    """A file of an asyncio library."""

    async def read(self, size=-1):
        return PNG


REFUSED = {
    "open(r)": (lambda folder: (folder / "a.txt").open(), 'opened as text; open it in mode "rb"'),
    "StringIO": (lambda folder: io.StringIO("text"), 'opened as text; open it in mode "rb"'),
    "SpooledTemporaryFile": (lambda _: tempfile.SpooledTemporaryFile(mode="w+"), 'in mode "rb"'),  # noqa: SIM115
    "NamedTemporaryFile as text": (lambda _: tempfile.NamedTemporaryFile("w+"), 'in mode "rb"'),  # noqa: SIM115
    "open(wb)": (lambda folder: (folder / "b.png").open("wb"), "cannot be read"),
    "an empty file": (lambda folder: (folder / "empty").open("rb"), "empty"),
    "no image": (lambda folder: (folder / "a.txt").open("rb"), None),
    "broken": (lambda folder: Broken(), "ZeroDivisionError: of a library"),
    "not ready": (lambda folder: Nothing(), "gave nothing"),
    "coroutines": (lambda folder: Coroutines(), "await its read"),
}


@pytest.mark.parametrize("form", REFUSED)
async def test_what_cannot_be_read_fails_its_own_item_in_words(clip, run, folder, form):
    (folder / "a.txt").write_text("some text")
    (folder / "empty").touch()
    make, message = REFUSED[form]
    file = make(folder)
    try:
        results = await run(clip(), "embed", [PNG, file])
        assert results.ok.tolist() == [True, False]
        assert isinstance(results.errors[1].reason, InputError)
        if message:
            assert message in str(results.errors[1])
            with pytest.raises(InputError, match="image 1"):
                await run(clip(), "embed_images", [PNG, file])
    finally:
        if hasattr(file, "close"):
            file.close()


def test_a_closed_file_is_refused(clip, folder):
    with (folder / "a.png").open("rb") as file:
        pass
    with pytest.raises(InputError, match="closed"):
        clip().embed_image(file)


@pytest.mark.parametrize("method", ["embed_images", "embed_pairs", "embed"])
async def test_a_lone_file_is_one_and_not_its_lines(server, clip, run, folder, method):
    with (folder / "a.png").open("rb") as file:
        with pytest.raises(InputError, match="must be several items, not one BufferedReader"):
            await run(clip(), method, file)
        assert file.tell() == 0
    assert server.ledger()["requests"] == 0


async def test_the_lines_of_a_text_file_are_texts(clip, run, folder):
    (folder / "texts.txt").write_text("one\ntwo\n")
    one = clip()
    with (folder / "texts.txt").open() as file:
        rows = await run(one, "embed_documents", file)
    assert (rows == one.embed_documents(["one\n", "two\n"])).all()
    with (folder / "texts.txt").open() as file, pytest.raises(InputError, match="must be several items"):
        await run(one, "embed_images", file)


class Folder(os.PathLike):
    """A path of a library whose paths can read themselves, as py.path's do."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)

    def read(self, mode="r"):
        raise AssertionError("it is a path")


def test_a_path_that_can_read_itself_is_a_path(clip, folder):
    one = clip()
    assert (one.embed_image(Folder(folder / "a.png")) == one.embed_image(PNG)).all()


def test_a_response_of_a_server_is_an_open_file(clip):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.handle_request, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", running.server_port)
        connection.request("GET", "/")
        one = clip()
        row = one.embed_image(connection.getresponse())
        connection.close()
    assert (row == one.embed_image(PNG)).all()


def test_files_of_fsspec(clip, folder):
    skip_without("fsspec")
    import fsspec

    one, memory = clip(), fsspec.filesystem("memory")
    memory.pipe("/a.png", PNG)
    with memory.open("/a.png") as held, fsspec.open(f"file://{folder}/a.png") as local:
        rows = one.embed_images([held, local])
    assert (rows == one.embed_image(PNG)).all()


# -- other forms that people have


def test_strings_and_paths_of_other_types(clip, folder):
    one = clip()
    rows = one.embed_images([np.str_("a.png"), Path("a.png"), *folder.iterdir()])
    assert (rows == one.embed_image(PNG)).all()


async def test_many_callers_with_files_of_their_own(clip, folder):
    one = clip()

    async def call():
        with (folder / "a.png").open("rb") as file:
            return await one.aembed_image(file)

    rows = await asyncio.gather(*(call() for _ in range(20)))
    assert (np.stack(rows) == one.embed_image(PNG)).all()


class GatedFile(io.BytesIO):
    """A file whose pixels are not read before its gate is open."""

    gate: threading.Event | None = None

    def read(self, *size: int | None) -> bytes:
        """What is in it."""
        if self.gate is not None:
            assert self.gate.wait(30)
        return super().read(*size)


def test_a_slow_file_of_the_caller_s_holds_up_no_other_image() -> None:
    """Hundreds are opened while it is read, so that one would meet any lock that it holds."""
    slow_file = GatedFile(PNG)
    slow = Pillow.open(slow_file)
    slow_file.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(open_image, Image.from_pil(slow), ImagePolicy())
        for _ in range(300):
            open_image(Image.from_bytes(PNG), ImagePolicy())
        slow_file.gate.set()
        np.testing.assert_array_equal(np.asarray(read.result()), PIXELS)
