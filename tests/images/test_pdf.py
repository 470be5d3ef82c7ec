"""PDF files: what is drawn of them, by whom, for how long, and what is said where something is not."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from jinaclip import ConfigError, Image, ImagePolicy, InputError, JinaClipError, Pair, Pdf, configure
from jinaclip.call import pool
from jinaclip.errors import ConversionError
from jinaclip.images import Pages, pdfium, renderers
from jinaclip.inputs import as_image, is_open_file
from tests.images.pdfs import (
    ENDLESS,
    annotated,
    endless,
    field,
    filled,
    locked,
    nested,
    pages,
    words,
)
from tests.needs import skip_without
from tests.watching import auntil, until

RED, GREEN = filled(1, 0, 0), filled(0, 1, 0)
LARGE = 10**7
posix = pytest.mark.skipif(os.name == "nt", reason="needs signals and ps")


@pytest.fixture(autouse=True)
def with_pdfium():
    skip_without("pypdfium2")


@pytest.fixture
def opened():
    """Opens PDF files that are closed at the end; then not one of their processes is left."""
    files = []

    def opened(source, **options):
        files.append(Pdf(source, **options))
        return files[-1]

    yield opened
    for file in files:
        file.close()
    until(lambda: not processes(), 30)


def processes(parent: int | None = None) -> list[int]:
    """Processes that draw pages, of this process or another."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    own = str(parent or os.getpid())
    return [int(pid) for pid, of, *args in rows if of == own and pdfium.__file__ in args[0]] if rows else []


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def runs(pid: int) -> bool:
    """Whether there is such a process and it is no zombie, which it stays where nobody cares for orphans."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


def draw(source, number=1, **options):
    """The pixels of a page."""
    with Pdf(source, **options) as file:
        return np.asarray(file.page(number).render(LARGE))


# -- a page that takes for ever


@posix
def test_a_page_that_draws_for_ever_is_given_up_and_the_next_is_drawn(opened) -> None:
    file = opened(endless(GREEN), render_timeout=1.0)
    with pytest.raises(ConversionError, match=r"page 1 of a PDF file in memory cannot be rendered: .* longer than 1 s"):
        file.page(1).render(LARGE)
    assert file.page(2).render(100).getpixel((2, 2)) == (0, 255, 0)


@posix
async def test_cancelling_ends_the_process_that_draws(clip, opened) -> None:
    """Without waiting for the time limit; and the thread that waited is free again."""
    made, file = clip(), opened(endless())
    page = file.page(1)
    call = asyncio.create_task(made.aembed_images([page]))
    (pid,) = await auntil(lambda: drawing_threads() and processes(), 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await auntil(lambda: not exists(pid), 30)  # it would draw on for as long as its time limit, and alone for days
    await auntil(lambda: not drawing_threads(), 30)


def drawing_threads() -> list[str]:
    """Threads that talk to a process."""
    return [thread.name for thread in threading.enumerate() if thread.name == "jinaclip-page"]


@posix
async def test_cancelling_the_count_of_pages_ends_the_process(opened) -> None:
    """As an adapter asks for it: in a thread, off the loop."""
    from jinaclip.hosts import run_in_thread

    page = opened(endless()).page(1)
    task = asyncio.create_task(run_in_thread(page.render, LARGE))
    (pid,) = await auntil(lambda: drawing_threads() and processes(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await auntil(lambda: not exists(pid), 30)


@posix
def test_closing_ends_what_is_drawn(opened) -> None:
    file = opened(endless())
    page, said = file.page(1), []

    def work() -> None:
        with pytest.raises(ConversionError, match="its file was closed") as caught:
            page.render(LARGE)
        said.append(caught.value)

    thread = threading.Thread(target=work)
    thread.start()
    until(drawing_threads, 30)
    file.close()
    thread.join(30)
    assert said and not processes()
    with pytest.raises(ConversionError, match="its file was closed"):
        file.page(1)


@posix
async def test_one_document_holds_up_nobody_else(clip, opened, monkeypatch) -> None:
    """Neither other files nor images, though more of its pages are drawn than there are threads and pixels."""
    configure(prepare_threads=1, pixel_budget=1_000_000)
    try:
        bad, good = opened(pages(ENDLESS, ENDLESS, ENDLESS, more=nested())), opened(pages(RED))
        first = asyncio.create_task(clip().aembed_images(bad))
        await auntil(drawing_threads, 30)
        assert (await clip().aembed_images([*good, PIL.Image.new("RGB", (900, 900))])).shape[0] == 2
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    finally:
        configure(prepare_threads=pool.available_cpus() + pool.SPARE_THREADS, pixel_budget=pool.PIXEL_BUDGET)


# -- the process


@posix
def test_a_process_that_breaks_down_costs_one_page(opened) -> None:
    """While it draws, that page; between pages, not even that."""
    file, said = opened(endless(GREEN)), []
    file.page(2).render(100)
    for pid in processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(), 30)
    assert file.page(2).render(100).getpixel((2, 2)) == (0, 255, 0)

    def work() -> None:
        with pytest.raises(ConversionError, match=r"page 1 .* broke down \(SIGSEGV\)") as caught:
            file.page(1).render(LARGE)
        said.append(caught.value)

    thread = threading.Thread(target=work)
    thread.start()
    until(drawing_threads, 30)
    for pid in processes():
        os.kill(pid, signal.SIGSEGV)
    thread.join(30)
    assert said
    assert file.page(2).render(100).getpixel((2, 2)) == (0, 255, 0)


PARENT = """
import os, sys, threading, time
from contextlib import suppress
from pathlib import Path
from jinaclip import JinaClipError, Pdf
pdf = Pdf(Path(sys.argv[1]))
def render():
    with suppress(JinaClipError):  # the end of the process ends it
        pdf.page(1).render(10**7)
threading.Thread(target=render, daemon=True).start()
if sys.argv[2] == "fork":
    while not [thread for thread in threading.enumerate() if thread.name == "jinaclip-page"]:
        pass
    if os.fork() == 0:
        time.sleep(120)
print("on", flush=True)
sys.stdin.readline()
if sys.argv[2] == "end":
    sys.exit()
"""


@posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["kill", "end", "fork"])
def test_the_process_ends_with_its_parent(tmp_path, how) -> None:
    """Killed in the middle of a page, ended in the middle, killed with a forked child left; stderr stays clean."""
    (tmp_path / "endless.pdf").write_bytes(endless())
    (tmp_path / "main.py").write_text(PARENT)  # with nothing like `if __name__ == "__main__"`
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, tmp_path / "main.py", tmp_path / "endless.pdf", how]
    with subprocess.Popen(command, **pipes, start_new_session=True) as parent:
        try:
            assert parent.stdout.readline() == "on\n", parent.stderr.read()
            (pid,) = until(lambda: processes(parent.pid), 60)
            if how == "end":
                parent.stdin.write("\n")
                parent.stdin.flush()
                assert (parent.wait(60), parent.stderr.read()) == (0, "")
            else:
                parent.kill()
            until(lambda: not runs(pid), 60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


FORK = """
import os, sys
from pathlib import Path
from jinaclip import Pdf
pdf = Pdf(Path(sys.argv[1]))
pdf.page(1).render(1000)
child = os.fork()
assert pdf.page(1).render(1000).getpixel((2, 2)) == (255, 0, 0)
if child == 0:
    pdf.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert pdf.page(1).render(1000).getpixel((2, 2)) == (255, 0, 0)
pdf.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_processes_of_its_own(tmp_path) -> None:
    (tmp_path / "red.pdf").write_bytes(pages(RED))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, tmp_path / "red.pdf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


ANSWERS = """
import os, struct, sys
frame = struct.Struct("<cIIQ")
def send(kind, first=0, second=0, data=b"", length=None):
    os.write(1, frame.pack(kind, first, second, len(data) if length is None else length) + data)
def receive():
    kind, first, second, length = frame.unpack(os.read(0, frame.size))
    while length:
        length -= len(os.read(0, length))
send(b"r")
receive()
"""
HOSTILE = {
    "of a huge size": ("send(b'k', 1); receive(); send(b'k', 2**31, 2**31, length=2**62)", "does not hold"),
    "with fewer pixels": ("send(b'k', 1); receive(); send(b'k', 10, 10, b'123')", "does not hold"),
    "with more pixels": ("send(b'k', 1); receive(); send(b'k', 1, 1, length=2**40)", "does not hold"),
    "without pixels": ("send(b'k', 1); receive(); send(b'k', 0, 10, b'1')", "does not hold"),
    "of no kind": ("send(b'k', 1); receive(); send(b'?', 1)", "does not hold"),
    "too late": ("send(b'k', 1); receive(); receive()", "longer than 1 s"),
    "cut short": ("send(b'k', 1); receive(); send(b'k', 10, 10, b'1', length=301)", "exit code 0"),
    "a long reason": ("send(b'f', data=b'x' * 5000)", "does not hold"),
    "a coloured reason": ("send(b'f', data=b'\\x1b[31mred')", r"cannot be rendered: \[31mred"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_process_answers_is_not_believed(opened, tmp_path, monkeypatch, case) -> None:
    """A file may have taken it over."""
    answers, problem = HOSTILE[case]
    (tmp_path / "taken_over.py").write_text(f"{ANSWERS}\n{answers}\n")
    monkeypatch.setattr(pdfium, "__file__", str(tmp_path / "taken_over.py"))
    with pytest.raises(ConversionError, match=problem):
        opened(pages(RED), render_timeout=1.0 if case == "too late" else 10.0).page(1).render(1000)


def test_a_process_that_does_not_start_is_nobody_s_bad_file(opened, tmp_path, monkeypatch) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.setattr(pdfium, "__file__", str(tmp_path / "broken.py"))
    with pytest.raises(JinaClipError, match="does not start") as caught:
        opened(pages(RED)).page(1)
    assert not isinstance(caught.value, InputError)


def test_a_process_is_told_no_secrets(opened, tmp_path, monkeypatch) -> None:
    program = f"{ANSWERS}\nsend(b'f', data=','.join(sorted(os.environ)).encode()[:900])"
    (tmp_path / "curious.py").write_text(program)
    monkeypatch.setattr(pdfium, "__file__", str(tmp_path / "curious.py"))
    monkeypatch.setenv("JINA_API_KEY", "jina_test")
    with pytest.raises(ConversionError) as caught:
        opened(pages(RED)).page(1)
    assert "PATH" in str(caught.value) and "JINA" not in str(caught.value)


@pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", "", None])
def test_an_interpreter_is_found_where_python_is_part_of_another_program(opened, monkeypatch, executable) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert opened(pages(RED)).page_count == 1


def test_a_frozen_program_is_told_what_is_missing(opened, monkeypatch) -> None:
    """It would start itself again."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(JinaClipError, match="no Python interpreter"):
        _ = opened(pages(RED)).page_count


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory")
def test_memory_is_limited(opened) -> None:
    """2.7 GB of pixels; the next page is drawn."""
    file = opened(pages(filled(0, 1, 0, b"0 0 20000 20000"), size=(14400, 14400)))
    with pytest.raises(ConversionError, match="MemoryError"):
        file.page(1).render(10**9)
    assert file.page(1).render(1000).getpixel((2, 2)) == (0, 255, 0)


@posix
def test_few_processes_are_kept(opened) -> None:
    """Of many files that stay open, each of which was drawn."""
    files = [opened(pages(RED)) for _ in range(renderers.IDLE + 2)]
    assert {file.page_count for file in files} == {1}
    assert len(processes()) <= renderers.IDLE
    assert files[0].page(1).render(100).getpixel((2, 2)) == (255, 0, 0)


@posix
def test_a_file_that_nobody_holds_leaves_no_process() -> None:
    assert Pdf(pages(RED)).page_count == 1
    until(lambda: not processes(), 30)


# -- what is drawn


@pytest.mark.slow
@pytest.mark.parametrize("need", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_fields_of_forms_are_drawn_as_they_are_filled_in(drawn, need) -> None:
    """With an appearance in the file or without: one filled in two ways, and empty, give three images."""
    seen = [
        draw(field(b"(%s)" % value if value else b"", appearance=value if drawn else None, need=need))
        for value in (b"", b"Anna", b"Otto")
    ]
    assert (seen[0] == 255).all()
    assert not np.array_equal(seen[1], seen[2])
    assert all((pixels < 100).any() for pixels in seen[1:])


@pytest.mark.parametrize(
    ("kind", "on", "off"),
    [
        (b"/FT /Btn /AS /Yes /MK << /CA (4) >>", b"/Yes", b"/Off"),
        (b"/FT /Ch /Ff 131072 /Opt [(one) (two)]", b"(two)", b""),
    ],
    ids=["a box that is checked", "a choice"],
)
def test_other_fields_are_drawn_too(kind, on, off) -> None:
    assert (draw(field(on, kind=kind)) < 100).any()
    assert not np.array_equal(draw(field(off, kind=kind.replace(b"/Yes", b"/Off"))), draw(field(on, kind=kind)))


def test_annotations_are_drawn() -> None:
    square = b"<< /Type /Annot /Subtype /Square /Rect [20 20 200 100] /C [1 0 0] /IC [1 0 0] /F 4 >>"
    assert (draw(annotated(square)) == (255, 0, 0)).all(2).any()


def test_pages_are_drawn_as_they_are_turned_and_cut() -> None:
    left = filled(1, 0, 0, b"0 0 50 100")
    turned = draw(pages(left, size=(100, 100), entries=b"/Rotate 90"))
    assert turned[10, 200].tolist() == [255, 0, 0] and turned[-10, 200].tolist() == [255, 255, 255]
    cut = draw(pages(left, size=(100, 100), entries=b"/CropBox [50 0 100 100]"))
    assert (cut == 255).all() and cut.shape[0] > 1.9 * cut.shape[1]


@pytest.mark.parametrize("size", [(14400, 14400), (14400, 0.1), (0.01, 0.01), (10_000_000, 0.001), (72, 100_000)])
def test_pages_of_any_size_have_as_many_pixels_as_allowed(opened, size) -> None:
    page = opened(pages(RED, size=size)).page(1)
    for most in (100_000, 999):
        drawn = page.render(most)
        assert 1 <= drawn.width * drawn.height <= most


# -- the whole page


def letter(head: bytes) -> bytes:
    """A page whose head alone is coloured."""
    return pages(head + b" 0 395 298 25 re f")


async def test_the_model_sees_the_whole_page(clip, run) -> None:
    """By default, on white: what differs in the head alone has two vectors, and that of the page on white."""
    red, green = Pdf(letter(b"1 0 0 rg")), Pdf(letter(b"0 1 0 rg"))
    with red, green:
        seen = await run(clip(), "embed_images", [*red, *green])
        assert np.abs(seen[0] - seen[1]).max() > 1e-3
        shown = red.page(1).render(50_000_000)
        for mode in ("model", "pad"):
            assert same(await run(clip(image_resize=mode), "embed_images", red), [seen[0]])
    side = 512
    width = round(shown.width * side / shown.height)
    canvas = PIL.Image.new("RGB", (side, side), (255, 255, 255))
    canvas.paste(shown.resize((width, side), PIL.Image.Resampling.BICUBIC), ((side - width) // 2, 0))
    assert same(await run(clip(), "embed_images", [canvas]), [seen[0]])


@pytest.mark.slow
async def test_pages_are_cropped_where_that_is_asked_for(clip, run) -> None:
    """By `padded=False` as images are; `image_resize` "squash" and "none" are what they are."""
    with Pdf(letter(b"1 0 0 rg"), padded=False) as red, Pdf(letter(b"0 1 0 rg"), padded=False) as green:
        seen = await run(clip(), "embed_images", [*red, *green])
        assert same(seen[:1], seen[1:])
        bare = red.page(1).render(50_000_000)
        assert same(await run(clip(), "embed_images", [bare]), [seen[0]])
    with Pdf(letter(b"1 0 0 rg")) as red:
        for mode in ("squash", "none"):
            made = clip(image_resize=mode)
            assert same(await run(made, "embed_images", red), await run(made, "embed_images", [bare]))


def same(rows, others) -> bool:
    return np.abs(np.asarray(rows) - np.asarray(others)).max() <= 2e-6


async def test_both_backends_see_the_same_page(clip, tmp_path) -> None:
    """The tile that is sent is the square that the local model sees, to the last bit."""
    skip_without("torch")
    from jinaclip import JinaClip
    from tests.tiny import make_checkpoint

    folder = make_checkpoint(tmp_path / "tiny", "v2")
    with JinaClip(str(folder), backend="local", device="cpu") as local, Pdf(letter(b"1 0 0 rg")) as red:
        side = local.spec.image_size
        shown = red.page(1).render(50_000_000)
        width = round(shown.width * side / shown.height)
        canvas = PIL.Image.new("RGB", (side, side), (255, 255, 255))
        canvas.paste(shown.resize((width, side), PIL.Image.Resampling.BICUBIC), ((side - width) // 2, 0))
        assert same(local.embed_images(red), local.embed_images([canvas]))


async def test_other_drawables_are_cropped_as_before(clip) -> None:
    class Drawn:
        def render(self, max_pixels):
            return PIL.Image.linear_gradient("L").resize((300, 100))

    made = clip()
    assert same(made.embed_images([Drawn()]), made.embed_images([Drawn().render(1)]))


# -- files


def test_a_file_is_a_path_bytes_or_open(opened, tmp_path, monkeypatch) -> None:
    content = pages(RED, GREEN)
    (tmp_path / "a.pdf").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "a.pdf").open("rb") as file:
        for source in ("a.pdf", Path("a.pdf"), content, bytearray(content), memoryview(content), file):
            pdf = opened(source)
            assert (pdf.page_count, len(pdf), [page.number for page in pdf]) == (2, 2, [1, 2])
            assert pdf.page(np.int64(2)).render(100).getpixel((2, 2)) == (0, 255, 0)
    later = opened("a.pdf")
    monkeypatch.chdir(tmp_path.parent)
    assert opened(Image.from_path(tmp_path / "a.pdf")).page_count == later.page_count == 2


class Uploaded:
    """As frameworks keep what was uploaded: its own `read` is a coroutine."""

    def __init__(self, content) -> None:
        self.file = io.BytesIO(content)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def test_an_open_file_is_taken_as_for_images(opened, tmp_path) -> None:
    """From its beginning, wherever it stands; an upload; in an Image; one that gives little at a time."""
    content = pages(RED, GREEN)
    (tmp_path / "a.pdf").write_bytes(content)
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    with (tmp_path / "a.pdf").open("rb") as file, os.fdopen(reader, "rb", buffering=0) as pipe:
        file.seek(7)
        for source in (file, Image.from_bytes(file), Uploaded(content), pipe):
            assert opened(source, render_timeout=np.float32(30)).page_count == 2
        assert file.tell() == 7
    with pytest.raises(InputError, match="closed"):
        opened(file)


def test_a_str_stays_where_strings_may_lead(opened, tmp_path, monkeypatch) -> None:
    """A file outside, a link to one that is put there once the file is known, a missing one, an address."""
    (tmp_path / "in").mkdir()
    for name in ("out.pdf", "in/a.pdf"):
        (tmp_path / name).write_bytes(pages(RED))
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(InputError, match="outside the current working directory"):
        opened("../out.pdf").page(1)
    known = opened("a.pdf")
    (tmp_path / "in/a.pdf").unlink()
    (tmp_path / "in/a.pdf").symlink_to(tmp_path / "out.pdf")
    with pytest.raises(InputError, match="outside"):
        known.page(1)
    allowed = ImagePolicy(allowed_roots=[tmp_path])
    assert opened("../out.pdf", image_policy=allowed).page_count == 1
    with pytest.raises(InputError, match="does not exist"):
        opened(Path("missing.pdf")).page(1)
    with pytest.raises(InputError, match="fetch"):
        opened("https://example.org/a.pdf")


@pytest.mark.parametrize("source", [7, None, np.zeros((3, 3), np.uint8), PIL.Image.new("RGB", (3, 3)), open])
def test_what_is_no_file_is_refused(source) -> None:
    with pytest.raises(InputError):
        Pdf(source)


def test_an_upload_is_read_from_its_beginning(opened) -> None:
    skip_without("starlette")
    from starlette.datastructures import UploadFile

    upload = UploadFile(BytesIO(pages(RED, GREEN)))
    upload.file.seek(7)
    assert opened(upload).page_count == 2


def test_a_file_itself_is_several_images_and_no_open_file(opened) -> None:
    pdf = opened(pages(RED))
    assert not is_open_file(pdf)
    with pytest.raises(InputError, match="Pdf is no image but several items"):
        as_image(pdf)


def test_options_of_other_types_are_refused() -> None:
    for options in ({"padded": "no"}, {"render_timeout": "1"}, {"render_timeout": True}, {"render_timeout": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Pages(**options)
    assert Pdf(b"%PDF", render_timeout=np.float32(3)).name == "a PDF file in memory"


def test_a_file_that_was_opened_for_text_is_refused(tmp_path) -> None:
    (tmp_path / "a.pdf").write_bytes(pages(b""))
    with (tmp_path / "a.pdf").open() as file, pytest.raises(InputError, match="rb"):
        Pdf(file)


def test_large_files_need_a_policy(opened, tmp_path) -> None:
    """By default more than an image may have, and no more than the policy says; also of a file that is open."""
    content = pages(RED) + b"%" * 30_000_000
    (tmp_path / "large.pdf").write_bytes(content)
    small = ImagePolicy()
    assert opened(content).page_count == 1
    with (tmp_path / "large.pdf").open("rb") as file:
        for source in (content, tmp_path / "large.pdf", file):
            with pytest.raises(InputError, match="max_bytes=20971520"):
                opened(source, image_policy=small).page(1)


@pytest.mark.parametrize("number", [0, -1, 1.0, "1", None, True, np.int64(0), np.float32(1)])
def test_what_is_no_number_of_a_page_is_named(opened, number) -> None:
    with pytest.raises(InputError, match="whole number from 1") as caught:
        opened(pages(RED)).page(number)
    assert repr(number) in str(caught.value)


def test_a_page_beyond_the_last_is_named(opened) -> None:
    with pytest.raises(ConversionError, match=r"page 10000000000 of .*: the last page is 2"):
        opened(pages(RED, GREEN)).page(10**10)


def test_passwords(opened) -> None:
    """Needed, wrong, right; shown nowhere."""
    file = locked(b"sesame", words(b"Hello"))
    with pytest.raises(ConversionError, match="needed: pass password="):
        opened(file).page(1)
    with pytest.raises(ConversionError, match="password is wrong") as caught:
        _ = opened(file, password="the wrong one").page_count
    assert "the wrong one" not in str(caught.value)
    right = opened(file, password="sesame")
    assert right.page(1).text == "Hello" and "sesame" not in repr(right.page(1))
    assert opened(pages(words(b"Hello")), password="needless").page(1).text == "Hello"
    with Pages() as several, pytest.raises(ConversionError, match="wrong"):
        assert several.find(file, 1, password="sesame").text == "Hello"
        several.find(file, 1, password="wrong")


@pytest.mark.parametrize(
    "options",
    [
        {"password": b"bytes"},
        {"password": "a\0b"},
        {"render_timeout": 0},
        {"render_timeout": True},
        {"render_timeout": float("inf")},
        {"image_policy": {"max_bytes": 7}},
    ],
    ids=str,
)
def test_wrong_options_are_named(options) -> None:
    with pytest.raises(ConfigError) as caught:
        Pdf(b"%PDF", **options)
    assert caught.value.option in options


@pytest.mark.slow
async def test_a_file_is_embedded_page_by_page(clip, run) -> None:
    """It is several items, of `embed` too; what is wrong with it is raised."""
    made = clip()
    with Pdf(pages(RED, GREEN)) as file:
        rows = await run(made, "embed_images", file)
        assert same(rows, await run(made, "embed_images", [file.page(1), file.page(2)]))
        assert same((await run(made, "embed", file)).vectors, rows)
        assert made.estimate(file).tokens == 8000
    with Pdf(b"%PDF-1.4") as broken, pytest.raises(ConversionError, match="a PDF file in memory cannot be rendered"):
        await run(made, "embed_images", broken)


# -- texts


@pytest.mark.slow
async def test_pages_are_pairs_of_their_text_and_their_image(clip, run) -> None:
    made = clip()
    with Pdf(pages(words(b"Hello"), words(b"World"))) as file:
        wanted = await run(
            made, "embed_pairs", [Pair(text, page, 0.3) for text, page in zip(["Hello", "World"], file, strict=True)]
        )
        assert same(await run(made, "embed_pairs", file, weight=0.3), wanted)
        assert same(await run(made, "embed_pairs", [page.pair(0.3) for page in file]), wanted)


async def test_a_page_without_text_is_no_pair(clip, run) -> None:
    """Said, at its index, before anything is sent; others of an iterator get their vectors."""
    made = clip()
    with Pdf(pages(words(b"Hello"), RED)) as file:
        with pytest.raises(InputError, match=r"page 2 .* no text layer, .* embed it as an image") as caught:
            await run(made, "embed_pairs", [*file])
        assert caught.value.index == 1
        with pytest.raises(InputError) as caught:
            await run(made, "embed_pairs", file)
        assert caught.value.partial.successes()[0].tolist() == [0]


def test_the_text_has_lines(opened) -> None:
    lines = b"BT /F 24 Tf 30 TL 40 200 Td (one) Tj T* (two) Tj ET"
    assert opened(pages(lines)).page(1).text == "one\ntwo"


# -- what is not drawn


@pytest.mark.parametrize("kind", [b"RichMedia", b"3D", b"Movie", b"Screen", b"Sound"])
def test_what_moves_is_said_to_be_left_out(caplog, kind) -> None:
    draw(annotated(b"<< /Type /Annot /Subtype /%s /Rect [20 20 200 100] /F 4 >>" % kind))
    assert "page 1 of a PDF file in memory holds a video, a sound or a 3D model" in caplog.text


def test_a_portfolio_is_said_to_be_one(caplog) -> None:
    names = b"/PageMode /UseAttachments /Names << /EmbeddedFiles << /Names [(a) 200 0 R] >> >>"
    files = {200: b"<< /Type /Filespec /F (a) /EF << /F 201 0 R >> >>", 201: b"<< /Length 1 >>\nstream\na\nendstream"}
    draw(pages(RED, catalog=names, more=files))
    assert "carries other files" in caplog.text


def test_an_ordinary_page_says_nothing(caplog) -> None:
    draw(pages(RED))
    assert caplog.text == ""


def test_forms_that_are_programs_are_refused() -> None:
    """XFA: what the file has as its page says "Please wait"."""
    program = b"/AcroForm << /XFA (program) /Fields [] >> /NeedsRendering true"
    with pytest.raises(ConversionError, match="XFA"):
        draw(pages(words(b"Please wait"), catalog=program))
