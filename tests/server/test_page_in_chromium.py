"""The page to try the server, used as people use it: by keyboard, with files, with and without a key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.catalogue.scores import CHECKPOINT
from jinaclip import JinaClip
from jinaclip.server.keys import make_key
from tests.images.chromium import find_browser
from tests.server.chromium import Page, open_browser
from tests.server.processes import serving

pytestmark = pytest.mark.browser
LOCAL = ("--model", str(CHECKPOINT), "--device", "cpu")
TEXTS = ["a red dress", "ein grauer Pullover"]
DONE = "!document.getElementById('results').hidden || !document.getElementById('problem').hidden"
MATRIX = "[...document.querySelectorAll('#matrix tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"


@pytest.fixture(scope="module", autouse=True)
def chromium():
    """These are asked for by name, so that a missing browser is a failure."""
    assert find_browser() is not None, "Chromium is not installed: apt-get install chromium, say"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("log") / "log", *LOCAL) as running:
        yield running


@pytest.fixture
def page(server):
    with open_browser() as opened:
        go(opened, server)
        yield opened
        assert opened.problems == []
        hosts = {address.split("/")[2] for address in opened.addresses if address.startswith("http")}
        assert hosts <= {"{}:{}".format(*server.address)}


def go(page: Page, server) -> None:
    page.show_as(width=1200)
    page.open(server.url)
    page.wait_for("document.querySelectorAll('#width option').length > 1")


def tab_to(page: Page, wanted: str) -> list[str]:
    """Presses the tabulator until this has the focus; gives what had it on the way."""
    passed = []
    while not passed or passed[-1] != wanted:
        page.press("Tab")
        passed.append(page.focused())
        assert len(passed) < 30, passed
    return passed


@pytest.fixture
def pictures(catalogue) -> list[Path]:
    return [catalogue[7].picture, catalogue[8].picture]


def fill(page: Page, pictures: list[Path]) -> None:
    """Two texts, typed, and two pictures."""
    tab_to(page, "texts")
    page.type("\n".join([TEXTS[0], "", f"  {TEXTS[1]} "]))
    page.choose_files("#files", pictures)
    page.wait_for(f"document.querySelectorAll('#pictures li').length === {len(pictures)}")


def test_by_keyboard_two_texts_and_two_pictures_give_the_matrix_of_the_model(page, pictures):
    fill(page, pictures)
    way = tab_to(page, "compare")
    assert way[:3] == ["document", "files", f"Remove {pictures[0].name}"]
    page.press("Enter")
    page.wait_for(DONE)
    with JinaClip(str(CHECKPOINT), backend="local", device="cpu") as clip:
        vectors = np.concatenate([clip.embed_documents(TEXTS), clip.embed_images(pictures)])
    expected = vectors @ vectors.T
    shown = page.run(MATRIX)
    assert [row[0] for row in shown] == [*TEXTS, "", ""]
    for row in range(4):
        assert shown[row][1 + row].endswith("itself")
        for column in {*range(4)} - {row}:
            assert abs(float(shown[row][1 + column]) - expected[row, column]) < 2e-3
    nearest = page.run("document.querySelector('#nearest tbody tr td:last-child li').textContent")
    assert pictures[0].name in nearest  # to a red dress
    said = page.run("document.getElementById('status').textContent")
    assert said.startswith("Compared 2 texts and 2 pictures in ")
    assert page.focused() == "compare"


def test_a_screen_reader_is_told_names_headers_and_results(page, pictures):
    fill(page, pictures)
    tab_to(page, "compare")
    page.press(" ")
    page.wait_for(DONE)
    roles = page.roles()
    for role, name in [
        ("textbox", "Texts"), ("button", "Pictures"), ("group", "Treat texts as"), ("radio", "documents"),
        ("combobox", "Width"), ("button", f"Remove {pictures[1].name}"), ("button", "Compare"),
        ("table", "Cosine of each pair"), ("columnheader", TEXTS[0]), ("columnheader", pictures[1].name),
        ("rowheader", TEXTS[1]), ("rowheader", pictures[0].name), ("region", "Similarities"), ("heading", "Nearest"),
    ]:  # fmt: skip
        assert (role, name) in roles, (role, name)
    unnamed = [role for role, name in roles if role in ("button", "textbox", "combobox", "radio", "image") and not name]
    assert unnamed == []
    assert ("status", "") in roles


def test_queries_and_widths_are_asked_for(page, server):
    with JinaClip(str(CHECKPOINT), backend="local", device="cpu", dimensions=32) as clip:
        expected = float(np.dot(*clip.embed_queries(TEXTS)))
    tab_to(page, "texts")
    page.type("\n".join(TEXTS))
    page.press("Tab")
    page.press("ArrowRight")
    assert page.focused() == "query"
    tab_to(page, "width")
    while page.run("document.getElementById('width').value") != "32":
        page.press("ArrowDown")
    tab_to(page, "compare")
    page.press("Enter")
    page.wait_for(DONE)
    assert abs(float(page.run(MATRIX)[0][2]) - expected) < 2e-3
    assert "_32_" in page.run("document.getElementById('facts').textContent")


def test_a_picture_that_is_none_is_named_and_marked(page, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    fill(page, [pictures[0], tmp_path / "broken.png"])
    tab_to(page, "compare")
    page.press("Enter")
    page.wait_for(DONE)
    problem = page.run("document.getElementById('problem').textContent")
    assert problem.startswith("Picture 2 (broken.png): ")
    assert page.run("document.querySelector('#pictures li.wrong .name').textContent") == "broken.png"
    assert any(role == "alert" for role, _ in page.roles())
    page.forget()  # a 422 is a line of the browser's log
    page.run("document.querySelector('#pictures li.wrong button').focus()")
    page.press("Enter")
    assert page.focused() == f"Remove {pictures[0].name}"
    assert page.run("document.getElementById('status').textContent") == "Removed broken.png."


def test_nothing_to_compare_is_said_and_the_focus_goes_where_it_can_be_put_right(page):
    tab_to(page, "compare")
    page.press("Enter")
    assert "nothing to compare yet" in page.run("document.getElementById('problem').textContent")
    assert page.focused() == "texts"


def test_no_width_of_the_window_makes_the_page_scroll_sideways(page, pictures):
    fill(page, pictures)
    tab_to(page, "compare")
    page.press("Enter")
    page.wait_for(DONE)
    for width in (320, 390, 768, 1200):
        page.show_as(width=width, dark=True, reduced=True)
        assert page.run("document.documentElement.scrollWidth") <= width


def test_markup_in_a_text_is_shown_as_it_is_typed(page):
    text = "<img src=x onerror=alert(1)>"
    tab_to(page, "texts")
    page.type(f"{text}\n{TEXTS[0]}")
    tab_to(page, "compare")
    page.press("Enter")
    page.wait_for(DONE)
    assert page.run(MATRIX)[0][0] == text


def test_a_key_is_asked_for_where_the_server_wants_one_and_is_forgotten(tmp_path):
    key, line = make_key("somebody")
    (tmp_path / "keys").write_text(line)
    options = [*LOCAL, "--keys", str(tmp_path / "keys")]
    with serving(tmp_path / "log", *options) as server, open_browser() as page:
        go(page, server)
        assert page.run("document.getElementById('key-field').hidden")
        tab_to(page, "texts")
        page.type("\n".join(TEXTS))
        tab_to(page, "compare")
        page.press("Enter")
        page.wait_for(DONE)
        assert page.run("document.getElementById('problem').textContent") == "This server asks for a key."
        assert page.focused() == "key"
        page.type(key)
        page.press("Enter")
        page.wait_for("!document.getElementById('results').hidden")
        assert page.run("document.getElementById('problem').hidden")
        go(page, server)
        assert page.run("document.getElementById('key').value") == ""
        assert key not in server.log
