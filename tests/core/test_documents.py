"""Pages of PDF files, for whatever takes an image."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing

import numpy as np
import PIL.Image
import pypdfium2
import pytest

from jinaclip import Image, InputError
from jinaclip.errors import ConversionError
from jinaclip.images import Pages

COLOURS = {1: (254, 0, 0), 2: (0, 255, 1), 3: (0, 0, 254)}


@pytest.fixture
def pdf(tmp_path):
    """A file with a red, a green and a blue page."""
    first, *others = (PIL.Image.new("RGB", (60, 80), colour) for colour in ("red", "lime", "blue"))
    first.save(tmp_path / "pages.pdf", save_all=True, append_images=others)
    return Image.from_path(tmp_path / "pages.pdf")


@pytest.fixture
def pages():
    with Pages() as made:
        yield made


def test_a_page_is_rendered_at_300_dpi_or_as_large_as_allowed(pages, pdf) -> None:
    assert pages.find(pdf, 2).render(10**9).getpixel((5, 5)) == (0, 255, 1)
    with closing(pypdfium2.PdfDocument(pdf.source)) as file:
        wanted = tuple(-int(-side // (72 / 300)) for side in file[0].get_size())
    assert pages.find(pdf, 1).render(10**9).size == wanted
    small = pages.find(pdf, 1).render(10_000)
    assert 8_000 < small.width * small.height <= 10_000


@pytest.mark.parametrize("number", [None, "2", 0, -1, 1.0, True])
def test_what_is_no_number_of_a_page_is_refused(pages, pdf, number) -> None:
    with pytest.raises(InputError, match="whole number from 1"):
        pages.find(pdf, number)
    assert not pages


def test_a_page_beyond_the_last_is_refused_before_it_is_rendered(pages, pdf) -> None:
    with pytest.raises(ConversionError, match=r"page 4 of pages\.pdf cannot be rendered: the last page is 3"):
        pages.find(pdf, 4)


@pytest.mark.parametrize("data", [b"%PDF-1.4 and no more", b"no PDF"])
def test_what_pdfium_cannot_read_is_a_conversion_error(pages, data) -> None:
    with pytest.raises(ConversionError, match="page 1 of a PDF file in memory"):
        pages.find(Image.from_bytes(data), 1)


def test_each_file_is_opened_once_and_closed_at_the_end(pdf) -> None:
    with Pages() as pages:
        found = [pages.find(pdf, number) for number in (1, 2, 3)]
        again = pages.find(Image.from_bytes(pdf.source.read_bytes()), 3)
        assert len(pages) == 2
        assert again.render(100).size == found[2].render(100).size
    assert len(pages) == 0
    with pytest.raises(ConversionError, match="closed"):
        found[0].render(100)


def test_pages_are_rendered_from_many_threads(pdf) -> None:
    """PDFium itself would crash: all share one lock."""
    wrong = []

    def work() -> None:
        with Pages() as pages:
            for number in (1, 2, 3) * 5:
                seen = pages.find(pdf, number).render(10_000).getpixel((5, 5))
                if max(abs(a - b) for a, b in zip(seen, COLOURS[number], strict=True)) > 3:
                    wrong.append((number, seen))

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


async def test_a_page_is_embedded_as_the_picture_that_it_shows(clip, run, pages, pdf) -> None:
    """Alone, in a list, from an iterator, and as half of a pair, within the pixels that the policy allows."""
    made = clip(image_resize="none")
    shown = [pages.find(pdf, number).render(made.config.image_policy.max_pixels) for number in (1, 3)]
    given = [pages.find(pdf, number) for number in (1, 3)]
    wanted = await run(made, "embed_images", shown)
    for got in (
        await run(made, "embed_images", given),
        await run(made, "embed_images", iter(given)),
        np.stack([await run(made, "embed_image", page) for page in given]),
    ):
        assert np.abs(got - wanted).max() <= 2e-6
    pairs = [await run(made, "embed_pairs", [("a page", picture)]) for picture in (given[0], shown[0])]
    assert np.abs(pairs[0] - pairs[1]).max() <= 2e-6


async def test_a_page_that_fails_late_costs_only_itself(clip, run, pdf) -> None:
    """Of an iterator, the others get their vectors."""
    made = clip()
    gone = Pages()
    late = gone.find(pdf, 1)
    gone.close()
    with Pages() as pages, pytest.raises(ConversionError) as caught:
        await run(made, "embed_images", iter([pages.find(pdf, 1), late, pages.find(pdf, 2)]))
    assert caught.value.index == 1
    assert caught.value.partial.successes()[0].tolist() == [0, 2]


def test_rendering_leaves_the_loop_free(clip, pdf) -> None:
    """The loop goes on turning while pages are rendered in threads."""
    made, turns = clip(), 0

    async def embed() -> None:
        nonlocal turns
        with Pages() as pages:
            call = asyncio.gather(made.aembed_images(pages.find(pdf, 1) for _ in range(20)))
            while not call.done():
                turns += 1
                await asyncio.sleep(0)
            await call
        await made.aclose()

    asyncio.run(embed())
    assert turns > 100
