"""A str reaches the allowed roots and nothing else, whatever is exchanged, linked, moved or named meanwhile."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.Image
import pytest

from jinaclip import ConfigError, Image, ImagePolicy, InputError, JinaClip
from jinaclip.images import Pages, check, open_image, outside_of, read_file, roots, size, take
from jinaclip.images.files import MAX_PATH
from jinaclip.inputs import as_image
from tests.core.corpus import colours, encoded
from tests.images import exchange

INSIDE, SECRET = encoded(colours(30, 40), "PNG"), encoded(colours(31, 41), "PNG")
LINUX = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc here")
PATIENCE = 60
"""Seconds that a test waits at most for what it needs to see, and reads."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with an image in it and in a folder of it; beside it a secret of the same names."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for root, data in ((here, INSIDE), (elsewhere, SECRET)):
        (root / "inner" / "most").mkdir(parents=True)
        for name in ("a.png", "inner/a.png", "inner/most/a.png"):
            (root / name).write_bytes(data)
    monkeypatch.chdir(here)
    return here


def read(name: str, policy: ImagePolicy | None = None) -> bytes:
    return read_file(as_image(name), policy or ImagePolicy())


@contextlib.contextmanager
def exchanging(one: Path, other: Path) -> Iterator[subprocess.Popen]:
    """A second process exchanges two names meanwhile."""
    command = [sys.executable, exchange.__file__, str(one), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "exchanging\n"
            yield process
        finally:
            process.kill()


# ---------------------------------------------------------------- files of PIL images


def fill(name: str, colour: str, form: str) -> None:
    PIL.Image.new("RGB", (20, 20), colour).save(name, form)


def shown(value) -> tuple[int, ...]:
    red, green, blue = open_image(as_image(value), ImagePolicy()).getpixel((3, 3))
    return red > 128, green > 128, blue > 128


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_of_a_pil_image_the_opened_file_is_read_and_not_what_took_its_name(form, folder):
    fill("a", "red", form)
    fill("inner/a", "lime", form)
    for change in (lambda: Path("other").replace("a"), Path("a").unlink, lambda: os.chdir("inner")):
        fill("a", "red", form)
        fill("other", "blue", form)
        with PIL.Image.open("a") as opened:
            change()
            assert shown(take(opened)) == (True, False, False)


def test_a_file_that_takes_the_name_later_is_refused(folder):
    fill("a", "red", "PNG")
    fill("other", "blue", "PNG")
    with PIL.Image.open("a") as opened:
        taken = take(opened)
        assert shown(taken) == (True, False, False)
        Path("other").replace("a")
        with pytest.raises(InputError, match="another one now"):
            shown(taken)


# ---------------------------------------------------------------- names that are exchanged

EXCHANGED = {
    "a file": ("a.png", "a.png", "a.png"),
    "a file in a folder": ("inner/most/a.png", "inner/most/a.png", "a.png"),
    "the folder": ("inner/most/a.png", "inner/most", "inner/most"),
    "a folder of folders": ("inner/most/a.png", "inner", "inner"),
}
"""What is asked for, which name of its path is exchanged, and what the link in its place leads to elsewhere."""


def read_often(look: Callable[[], bytes], times: int) -> tuple[set[bytes], set[str]]:
    """What came of reading so often, and on until it was once refused and once not."""
    found, refused = set(), set()
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and (times > 0 or not (found and refused)):
        times -= 1
        try:
            found.add(look())
        except InputError as error:
            refused.add(str(error))
    assert found and refused, f"{len(found)} read, {len(refused)} refused: nothing was exchanged"
    return found, refused


# where files cannot be opened relative to a folder, exchanged folders remain: see SECURITY.md
WAYS = [*((kind, True) for kind in EXCHANGED if roots.WALKS), ("a file", False), ("a file in a folder", False)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "walks"), WAYS)
def test_no_secret_is_read_while_names_are_exchanged(kind, walks, folder, monkeypatch):
    name, exchanged, target = EXCHANGED[kind]
    monkeypatch.setattr(roots, "WALKS", walks)
    (folder / "link").symlink_to(folder.parent / "elsewhere" / target)
    with exchanging(folder / exchanged, folder / "link"):
        found, refused = read_often(lambda: read(name), 1500)
    assert found == {INSIDE}
    assert not any("elsewhere" in message for message in refused)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["open_image", "size", "preview"])
def test_no_door_shows_a_secret_while_names_are_exchanged(door, folder):
    """The secret is one pixel wider and higher."""
    clip, policy = JinaClip(api_key="none", backend="api"), ImagePolicy()
    doors: dict[str, Callable[[], object]] = {
        "open_image": lambda: open_image(as_image("inner/a.png"), policy).size,
        "size": lambda: size(as_image("inner/a.png"), policy),
        "preview": lambda: open_image(as_image(clip.preview("inner/a.png")), policy).size,
    }
    (folder / "link").symlink_to(folder.parent / "elsewhere" / "inner")
    with clip, exchanging(folder / "inner", folder / "link"):
        found, _ = read_often(doors[door], 300)
    assert found == {(40, 30)}


def test_the_check_tells_nothing_of_a_secret_while_names_are_exchanged(folder):
    """Whether it is too large, say."""
    (folder.parent / "elsewhere" / "inner" / "a.png").write_bytes(bytes(100_000))
    (folder / "link").symlink_to(folder.parent / "elsewhere" / "inner")
    policy, image = ImagePolicy(max_bytes=50_000), as_image("inner/a.png")
    with exchanging(folder / "inner", folder / "link"):
        _, refused = read_often(lambda: bytes(check(image, policy) or b""), 1500)
    assert not any("max_bytes" in message for message in refused)


def pdf_of(width: int) -> bytes:
    """A PDF file of one page, so many points wide."""
    import pypdfium2

    with contextlib.closing(pypdfium2.PdfDocument.new()) as document, io.BytesIO() as buffer:
        document.new_page(width, 100)
        document.save(buffer)
        return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("exchanged", ["a.pdf", "inner"])
def test_no_page_of_a_secret_is_drawn_while_names_are_exchanged(exchanged, folder):
    """The secret's page is wider. PDFium is never given a name."""
    elsewhere = folder.parent / "elsewhere"
    for root, width in ((folder, 100), (elsewhere, 200)):
        for name in ("a.pdf", "inner/a.pdf"):
            (root / name).write_bytes(pdf_of(width))
    (folder / "link").symlink_to(elsewhere / exchanged)
    name = "a.pdf" if exchanged == "a.pdf" else "inner/a.pdf"

    def draw() -> tuple[int, int]:
        with Pages() as pages:
            return pages.find(as_image(name), 1).render(10_000).size

    with exchanging(folder / exchanged, folder / "link"):
        found, _ = read_often(draw, 25)
    assert len(found) == 1, "there are pages of two widths"
    assert found.pop()[0] < 110


# ---------------------------------------------------------------- what is no file under the roots


def test_links_are_followed_within_the_roots_and_not_out_of_them(folder):
    (folder / "in.png").symlink_to("inner/a.png")
    (folder / "most").symlink_to(folder / "inner" / "most")
    (folder / "out.png").symlink_to("../elsewhere/a.png")
    (folder / "out").symlink_to(folder.parent / "elsewhere")
    (folder / "self").symlink_to("self")
    assert {read(name) for name in ("in.png", "most/a.png", "most/../a.png", "inner/../a.png")} == {INSIDE}
    for name in ("out.png", "out/a.png", "most/../../../elsewhere/a.png", "../elsewhere/a.png", "in.png/../../out.png"):
        with pytest.raises(InputError, match="outside the current working directory"):
            read(name)
    with pytest.raises(InputError, match="link to itself"):
        read("self")


def test_a_root_may_be_a_link_that_is_set_anew(folder):
    """As deployments do it: `current` leads to this release, then to the next."""
    current = folder / "current"
    current.symlink_to(folder / "inner")
    policy = ImagePolicy(allowed_roots=(current,))
    assert read("current/a.png", policy) == read(str(folder / "inner" / "a.png"), policy) == INSIDE
    (folder / "next").symlink_to(folder / "inner" / "most")
    (folder / "next").replace(current)
    assert read("current/a.png", policy) == INSIDE
    with pytest.raises(InputError, match=r"outside image_policy\.allowed_roots"):
        read(str(folder / "inner" / "a.png"), policy)


@LINUX
def test_paths_of_proc_lead_where_they_lead(folder):
    with (folder.parent / "elsewhere" / "a.png").open("rb") as secret, (folder / "a.png").open("rb") as own:
        for name in (f"/proc/self/fd/{secret.fileno()}", f"/dev/fd/{secret.fileno()}", "/proc/self/root/etc/passwd"):
            with pytest.raises(InputError, match="outside"):
                read(name)
        assert read(f"/proc/self/fd/{own.fileno()}") == read("/proc/self/cwd/a.png") == INSIDE


def test_a_folder_that_may_be_entered_and_not_listed_is_no_hindrance(folder):
    (folder / "inner").chmod(0o311)
    try:
        assert read("inner/a.png") == INSIDE
    finally:
        (folder / "inner").chmod(0o755)


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.mkdir()], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(make, folder):
    make(folder / "odd.png")
    for image in (as_image("odd.png"), as_image(folder / "odd.png")):
        with pytest.raises(InputError, match="not a regular file"):
            read_file(image, ImagePolicy())


def test_a_device_is_not_even_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *_, **__: opened.append(path))
    with pytest.raises(InputError, match="a device"):
        read_file(Image.from_path(os.devnull), ImagePolicy())
    assert opened == []


def test_a_file_that_grows_is_read_up_to_the_limit(folder):
    """And one that says that it is empty, as those under /proc do."""
    policy = ImagePolicy(max_bytes=1000)
    with (folder / "growing").open("wb", buffering=0) as file:
        for size_now in (999, 1001):
            file.write(bytes(size_now - file.tell()))
            if size_now <= policy.max_bytes:
                assert len(read("growing", policy)) == size_now
    with pytest.raises(InputError, match="max_bytes=1000"):
        read("growing", policy)


def target_of(link: Path) -> Path:
    """Where a link leads; nowhere if it is gone, as descriptors of other threads may be."""
    try:
        return link.readlink()
    except OSError:
        return Path()


@LINUX
def test_no_descriptor_stays_open(folder):
    for name in ("inner/most/a.png", "inner/most", "inner/missing/a.png", "a.png/a.png", "../elsewhere/a.png"):
        with contextlib.suppress(InputError):
            read(name)
    assert [path for path in map(target_of, Path("/proc/self/fd").iterdir()) if path.is_relative_to(folder)] == []


def test_a_hard_link_is_a_file_of_its_folder(folder):
    """SECURITY.md says so: no name of a file is more its own than another."""
    os.link(folder.parent / "elsewhere" / "a.png", folder / "hard.png")
    assert read("hard.png") == SECRET


# ---------------------------------------------------------------- which roots


def test_relative_roots_are_those_of_the_moment_when_the_policy_is_made(folder, monkeypatch):
    policies = [ImagePolicy(allowed_roots=given) for given in ("inner", Path("inner"), ["inner"], ("./inner",))]
    copies = [pickle.loads(pickle.dumps(policy)) for policy in policies]
    monkeypatch.chdir(folder.parent / "elsewhere")
    for policy in policies + copies:
        assert read(str(folder / "inner" / "a.png"), policy) == INSIDE
        with pytest.raises(InputError, match=r"outside image_policy\.allowed_roots"):
            read("inner/a.png", policy)


@pytest.mark.parametrize("root", ["a\0b", "/a\0b"])
def test_a_root_that_no_folder_can_be_is_a_wrong_option(root):
    with pytest.raises(ConfigError, match="no name of a folder"):
        ImagePolicy(allowed_roots=[root])


def test_no_roots_are_the_working_directory_of_the_call(folder, monkeypatch):
    policy = ImagePolicy()
    assert read("a.png", policy) == INSIDE
    monkeypatch.chdir(folder / "inner")
    assert read("most/a.png", policy) == INSIDE
    with pytest.raises(InputError, match="outside the current working directory"):
        read("../a.png", policy)


def test_a_working_directory_that_holds_everything_allows_nothing(folder, monkeypatch):
    monkeypatch.chdir("/")
    for name in (str(folder / "a.png"), "etc/passwd", "missing.png"):
        with pytest.raises(InputError, match=r"allowed_roots, which must be set where the working directory is '/'"):
            check(as_image(name), ImagePolicy())
    assert read(str(folder / "a.png"), ImagePolicy(allowed_roots=("/",))) == INSIDE
    assert read(str(folder / "a.png"), ImagePolicy(allowed_roots="any")) == INSIDE
    for given in (".", "", "..", "tmp/.."):
        with pytest.raises(ConfigError, match="is '/' here"):
            ImagePolicy(allowed_roots=(given,))


def test_a_working_directory_that_is_gone_is_said(folder, monkeypatch):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    with pytest.raises(InputError, match="does not exist"):
        check(as_image("a.png"), ImagePolicy())
    assert read(str(folder / "a.png"), ImagePolicy(allowed_roots=(folder,))) == INSIDE
    with pytest.raises(ConfigError, match="no working directory"):
        ImagePolicy(allowed_roots="inner")


def test_a_folder_called_any_is_a_folder(folder):
    (folder / "any").mkdir()
    (folder / "any" / "a.png").write_bytes(INSIDE)
    for given in (["any"], ("any",), Path("any"), [Path("any")]):
        policy = ImagePolicy(allowed_roots=given)
        assert read("any/a.png", policy) == INSIDE
        with pytest.raises(InputError, match=r"outside image_policy\.allowed_roots"):
            read("a.png", policy)
    assert read("../elsewhere/a.png", ImagePolicy(allowed_roots="any")) == SECRET


def test_what_a_host_says_of_the_limit(folder):
    assert outside_of(as_image("../elsewhere/a.png"), ImagePolicy()) == "the current working directory"
    assert outside_of(as_image("../elsewhere/a.png"), ImagePolicy(allowed_roots=".")) == "image_policy.allowed_roots"
    for image in (as_image("missing.png"), as_image("x" * 5000), as_image(folder.parent), Image.from_path("/x")):
        assert outside_of(image, ImagePolicy()) is None


# ---------------------------------------------------------------- whether a file exists elsewhere


def test_of_a_path_outside_nothing_is_told(folder):
    """Whether there is a file, a folder, a pipe, one that may not be read, or nothing."""
    elsewhere = folder.parent / "elsewhere"
    os.mkfifo(elsewhere / "pipe")
    (elsewhere / "locked").mkdir(mode=0)
    (elsewhere / "large.png").write_bytes(bytes(30 * 2**20))
    (elsewhere / "loop").symlink_to("loop")
    names = ("a.png", "inner", "pipe", "locked/a.png", "large.png", "loop", "missing", "a.png/b.png", "missing/b.png")
    messages = set()
    for name in names:
        for step in (check, read_file, open_image, size):
            with pytest.raises(InputError) as caught:
                step(as_image(f"../elsewhere/{name}"), ImagePolicy())
            messages.add(str(caught.value).replace(name, ""))
    assert len(messages) == 1


# ---------------------------------------------------------------- long paths


def cost_of(name: str) -> tuple[str, float]:
    began = time.process_time()
    with JinaClip(api_key="none") as clip, pytest.raises(InputError) as caught:
        clip.resolve_image(name)
    return str(caught.value), time.process_time() - began


@pytest.mark.parametrize("name", ["a/" * 250_000, "../" * 170_000, "x" * 500_000, "\u00e9/" * 250_000, "a\n" * 250_000])
def test_a_path_of_half_a_megabyte_is_refused_before_it_is_looked_at(name, monkeypatch):
    """It took 27 s; it takes hundredths of a second, most of them for Python to make a Path of it."""
    monkeypatch.setattr(os, "lstat", None)
    monkeypatch.setattr(os, "open", None)
    message, seconds = cost_of(name)
    assert "is no path" in message or "cannot be read" in message
    assert len(message) < 200
    assert seconds < 3


def test_the_longest_path_is_looked_at(folder):
    with pytest.raises(InputError, match=r"does not exist|too long"):
        check(as_image("a/" * (MAX_PATH // 2)), ImagePolicy())
