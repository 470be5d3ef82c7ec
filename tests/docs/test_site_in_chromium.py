"""The site as people read it, from files and without a network: `make browser`, which builds it before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.docs.nav import ROOT
from tests.images.chromium import find_browser
from tests.server.chromium import Page, open_browser

pytestmark = pytest.mark.browser
SITE = ROOT / "site"
RESULTS = "document.querySelectorAll('#search-results li').length"
LIGHT = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) / 3"
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """These are asked for by name, so that a missing browser or site is a failure."""
    assert find_browser() is not None, "Chromium is not installed: apt-get install chromium, say"
    assert (SITE / "index.html").exists(), "there is no site: make docs"
    with open_browser() as page:
        yield page
        check_addresses(page)


def check_addresses(page: Page) -> None:
    """Nothing was asked for but files of the site."""
    assert {address.split(":")[0] for address in page.addresses} <= {"file", "data"}


def go(page: Page, address: str) -> None:
    """Forgets what the page before did: where a key led to another, its loading would be taken for this one's."""
    check_addresses(page)
    page.forget()
    page.open(f"file://{SITE}/{address}")


def test_search_finds_pages_from_files_alone(browser: Page) -> None:
    browser.show_as(width=1200)
    go(browser, "search.html?q=token_budget")
    browser.wait_for("document.getElementById('search-results').innerText.includes('Options')")


def test_search_takes_a_reader_from_the_keyboard_to_a_page(browser: Page) -> None:
    go(browser, "index.html")
    browser.run("document.querySelector('.search-button, .search-button__button').click()")
    browser.wait_for("document.activeElement.matches('input[type=search]')")
    browser.type("diversify")
    browser.press("Enter")
    browser.wait_for(f"location.href.includes('search.html') && {RESULTS} > 0")


@pytest.mark.parametrize("page", ["index.html", "langchain.html", "options.html", "api/jinaclip.html", "stores.html"])
def test_nothing_is_wider_than_a_phone(browser: Page, page: str) -> None:
    """Code and tables scroll within the page."""
    browser.show_as(width=390)
    go(browser, page)
    assert not browser.run(WIDER)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_as_light_as_the_reader_wants_them(browser: Page, dark: bool) -> None:
    browser.show_as(width=1200, dark=dark)
    go(browser, "cache.html")
    assert (browser.run(LIGHT) < 60) is dark


def test_the_navigation_leads_to_every_section(browser: Page) -> None:
    browser.show_as(width=1200)
    go(browser, "cache.html")
    links = browser.run("[...document.querySelectorAll('.bd-header a.nav-link')].map(link => link.innerText.trim())")
    assert {"First steps", "Guides", "Run it yourself", "Reference", "The project"} <= set(links)
    here = "document.querySelector('.bd-sidebar-primary .bd-links li.current').innerText.trim()"
    assert browser.run(here) == "The cache"
