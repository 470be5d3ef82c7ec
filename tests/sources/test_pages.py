"""PDF files in a folder: a row for each page, wherever it is drawn."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from jinaclip import ImagePolicy, InputError
from jinaclip.bulk.items import items_of
from jinaclip.images import open_image
from jinaclip.sources import close_documents, open_source
from tests.images.pdfs import filled, locked, pages
from tests.images.test_pdf import processes
from tests.needs import skip_without
from tests.sources.conftest import png

RED, GREEN = filled(1, 0, 0), filled(0, 1, 0)


@pytest.fixture(autouse=True)
def with_pdfium():
    skip_without("pypdfium2")
    yield
    close_documents()
    assert processes() == []


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.pdf").write_bytes(pages(RED, GREEN))
    (tmp_path / "broken.PDF").write_bytes(b"%PDF-1.7 and nothing more")
    (tmp_path / "locked.pdf").write_bytes(locked(b"sesame", RED))
    (tmp_path / "z.png").write_bytes(png())
    return tmp_path


def middle(image) -> tuple[int, ...]:
    pixels = np.asarray(open_image(image, ImagePolicy()))
    return tuple(pixels[len(pixels) // 2, pixels.shape[1] // 2])


def test_each_page_is_a_row_and_a_file_that_does_not_open_is_one_with_an_error(folder):
    rows = {row.id: row for row in open_source(folder).rows()}
    assert list(rows) == ["broken.PDF", "locked.pdf", "sub/two.pdf#page=1", "sub/two.pdf#page=2", "z.png"]
    assert "cannot be opened" in str(rows["broken.PDF"].error)
    assert "encrypted" in str(rows["locked.pdf"].error)
    [item] = items_of(rows["broken.PDF"], None, 0.5, ImagePolicy())
    assert (item.kind, item.content) == ("image", None)
    assert open_source(folder).count() is None
    assert [row.id for row in open_source(folder / "sub" / "two.pdf").rows()] == ["two.pdf#page=1", "two.pdf#page=2"]


def test_a_page_is_drawn_by_whoever_it_was_sent_to(folder):
    items = [item for row in open_source(folder / "sub").rows() for item in items_of(row, None, 0.5, ImagePolicy())]
    assert [middle(item.content) for item in items] == [(255, 0, 0), (0, 255, 0)]
    assert items[0].digest != items[1].digest
    code = "import pickle, sys; p = pickle.load(sys.stdin.buffer); print(p.render(10**6).getpixel((9, 9)))"
    sent = pickle.dumps(items[1].content.source)
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.split() == b"(0, 255, 0)".split()


def test_a_page_of_a_file_that_has_changed_is_not_drawn(folder):
    """Its vector would be stored under the digest of another."""
    [row, _] = open_source(folder / "sub").rows()
    close_documents()
    (folder / "sub" / "two.pdf").write_bytes(pages(GREEN, RED))
    with pytest.raises(InputError, match="changed while it was embedded"):
        open_image(row.image.read(ImagePolicy()), ImagePolicy())


def test_of_many_files_few_are_kept_open(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.pdf").write_bytes(pages(RED if i % 2 else GREEN))
    rows = list(open_source(tmp_path).rows())
    assert len(rows) == 5
    assert len(processes()) <= 4
    assert [middle(row.image.read(ImagePolicy()))[0] for row in rows] == [255 * (i % 2) for i in range(5)]
