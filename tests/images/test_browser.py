"""What Chromium shows of each crafted file, we show, or we refuse the file."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from jinaclip import Image, ImagePolicy, InputError
from jinaclip.images import open_image
from tests.images.cases import DIFFERENT, REFUSED, SAME, Crafted
from tests.images.crafted import crafted_files
from tests.images.expected import read_expected

FILES = crafted_files()
EXPECTED = read_expected()


def see(file: Crafted):
    return np.asarray(open_image(Image.from_bytes(file.data), ImagePolicy(frame=file.frame)))


def of(claim: str):
    return pytest.mark.parametrize("file", [file for file in FILES if file.ours == claim], ids=lambda file: file.id)


@of(SAME)
def test_the_pixels_are_those_that_the_browser_shows(file):
    assert EXPECTED.is_shown(file)
    ours, theirs = see(file), EXPECTED.pixels_of(file)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= file.tolerance


@of(REFUSED)
def test_a_file_that_programs_may_show_in_two_ways_is_refused(file):
    with pytest.raises(InputError) as caught:
        see(file)
    assert len(str(caught.value)) < 300


@of(DIFFERENT)
def test_where_we_differ_on_purpose_there_is_a_reason(file):
    assert file.reason
    assert EXPECTED.is_shown(file)
    assert (see(file) != EXPECTED.pixels_of(file)).any(), "it is no longer different"


def test_the_browser_was_asked_about_these_files_and_no_others():
    """Else ask it again: `make browser`."""
    assert {file.id for file in FILES if not EXPECTED.is_of(file)} == set()
    assert set(EXPECTED.files) == {file.id for file in FILES}
    assert EXPECTED.browser.startswith("Chromium ")


def test_what_the_browser_refuses_we_refuse():
    shown = {file.id for file in FILES if file.ours != REFUSED}
    assert not shown & {file.id for file in FILES if not EXPECTED.is_shown(file)}


def test_each_format_has_files_that_are_shown():
    """So that the suite would notice if we refused everything."""
    counts = Counter(file.form for file in FILES if file.ours == SAME)
    assert set(counts) == {"PNG", "JPEG", "GIF", "WEBP"}
    assert min(counts.values()) >= 50
