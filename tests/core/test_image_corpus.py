"""Every odd or hostile image gives a clear error or exactly the pixels people see."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from PIL import ImageFile

from jinaclip.errors import InputError
from jinaclip.images import check, open_image, size, upload
from jinaclip.inputs import as_image
from tests.core.corpus import Case, cases

CASES = cases()
corpus = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def open_case(case: Case, tmp_path):
    image = as_image(case.make(tmp_path))
    check(image, case.policy)
    return open_image(image, case.policy)


def expect(case: Case, tmp_path) -> None:
    if case.error:
        with pytest.raises(InputError, match=case.error) as caught:
            open_case(case, tmp_path)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a foreign error shows through"
        assert len(str(caught.value)) < 500
    else:
        pixels = open_case(case, tmp_path)
        wanted = case.pixels()
        assert pixels.mode == "RGB"
        assert pixels.size == wanted.shape[1::-1]
        assert np.abs(np.asarray(pixels).astype(int) - wanted).max() <= case.tolerance


@corpus
def test_an_image_gives_its_error_or_its_pixels(case, tmp_path):
    expect(case, tmp_path)


@corpus
def test_pillow_globals_set_by_others_change_nothing(case, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    expect(case, tmp_path)


@corpus
def test_an_image_is_uploaded_only_if_it_can_be_opened(case, tmp_path):
    options = {"policy": case.policy, "mode": "none", "side": 16, "quality": None}
    if case.error:
        with pytest.raises(InputError):
            upload(as_image(case.make(tmp_path)), **options)
    else:
        sent = upload(as_image(case.make(tmp_path)), **options)
        assert (sent.height, sent.width) == case.pixels().shape[:2]


@pytest.mark.parametrize("case", [case for case in CASES if case.pixels], ids=lambda case: case.id)
def test_the_size_is_known_without_decoding(case, tmp_path, monkeypatch):
    wanted = case.pixels().shape[1::-1]
    image = as_image(case.make(tmp_path))
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert size(image, case.policy) == wanted


def test_all_numbers_of_the_corpus_are_there():
    assert {case.number for case in CASES} == set(range(1, 62))
