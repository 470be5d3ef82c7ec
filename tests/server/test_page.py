"""The page to try the server, as it is served: its headers, and what is in its files."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest

from jinaclip.server.page import FILES
from tests.server.processes import gateway_to, serving

PAIRS = [("text", "page"), ("text", "card"), ("soft", "page"), ("soft", "card"), ("accent-text", "accent")]
PAIRS += [("accent", "card"), ("accent", "page"), ("bad", "bad-card"), *((f"t{i}", f"h{i}") for i in range(9))]
"""Colours of letters, and of what is behind them."""
EDGES = [("edge", "card"), ("edge", "page"), ("accent", "page"), ("accent", "card")]
"""Colours of edges and outlines, which need less."""
FETCHED = {"v1/models", "v1/embeddings"}


@pytest.fixture(scope="module")
def site(service, tmp_path_factory) -> dict[str, httpx.Response]:
    """What a real server answers for each file, without a key."""
    with serving(tmp_path_factory.mktemp("log") / "log", *gateway_to(service.url)) as server:
        return {path: server.get(path) for path in FILES}


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.within_label: list[bool] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.found.append((tag, dict(attributes)))
        self.within_label.append("label" in self.open)

    def handle_endtag(self, tag):
        while tag in self.open and self.open.pop() != tag:
            pass


def test_it_is_served_with_headers_that_allow_nothing_from_elsewhere(site):
    for path, response in site.items():
        assert response.status_code == 200
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Content-Type"].startswith(FILES[path][1])


def test_no_file_names_another_address(site):
    for path, response in site.items():
        addresses = set(
            re.findall(r"(?:https?:)?//[\w.-]+", re.sub(r"/\*.*?\*/|^\s*// .*$", "", response.text, flags=re.M))
        )
        assert addresses <= {"http://www.w3.org"}, path  # the name of SVG
    page = Elements(site["/"].text).found
    linked = {value for _, attributes in page for name, value in attributes.items() if name in ("src", "href")}
    assert {f"/{value}" for value in linked} == set(FILES) - {"/"}  # relative, as behind a prefix
    assert set(re.findall(r'fetch\("([^"]+)"', site["/page/page.js"].text)) == FETCHED


def test_nothing_is_kept_beyond_the_page(site):
    assert not re.search(
        r"localStorage|sessionStorage|indexedDB|document\.cookie|innerHTML|eval\(", site["/page/page.js"].text
    )
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src)", site["/"].text)


def test_every_input_has_a_label(site):
    page = Elements(site["/"].text)
    labelled = {attributes["for"] for tag, attributes in page.found if tag == "label" and "for" in attributes}
    inputs = [
        (attributes, inside)
        for (tag, attributes), inside in zip(page.found, page.within_label, strict=True)
        if tag in ("input", "select", "textarea")
    ]
    assert len(inputs) == 6
    for attributes, inside in inputs:
        assert inside or attributes["id"] in labelled, attributes


def test_ids_that_are_named_are_there_once(site):
    page = Elements(site["/"].text).found
    ids = [attributes["id"] for _, attributes in page if "id" in attributes]
    assert len(ids) == len(set(ids))
    names = ("for", "aria-labelledby", "aria-describedby")
    named = {one for _, attributes in page for name in names for one in (attributes.get(name) or "").split()}
    asked = set(re.findall(r'byId\("([\w-]+)"\)|fillTable\("([\w-]+)"', site["/page/page.js"].text))
    assert named | {one for pair in asked for one in pair if one} <= set(ids)


def test_it_says_what_happens_in_live_regions_and_names_its_language(site):
    page = Elements(site["/"].text).found
    assert [tag for tag, attributes in page if attributes.get("role") in ("status", "alert")] == ["p", "div"]
    assert ("html", {"lang": "en"}) in page
    assert [tag for tag, _ in page if tag in ("h1", "h2", "main", "header", "footer")] == [
        "header",
        "h1",
        "main",
        "h2",
        "h2",
        "footer",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_from_what_is_behind_them(site, scheme):
    """As WCAG 2.2 AA asks: 4.5 for letters, 3 for edges that one has to see."""
    blocks = re.findall(r":root \{(.*?)color-scheme: (\w+)", site["/page/page.css"].text, re.S)
    values = {name: dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block, name in blocks}[scheme]
    for least, pairs in ((4.5, PAIRS), (3.0, EDGES)):
        poor = {pair: round(contrast(*(values[name] for name in pair)), 2) for pair in pairs}
        assert {pair: ratio for pair, ratio in poor.items() if ratio < least} == {}


def contrast(one: str, other: str) -> float:
    """The ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_what_moves_asks_first(site):
    css = site["/page/page.css"].text
    still, _, moving = css.partition("@media (prefers-reduced-motion: no-preference)")
    assert not re.search(r"transition|animation", still)
    assert "transition" in moving
