"""What the shop promises, with real pictures and no service."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image, ImageDraw

from examples.offline.shop import Shop

ARTICLES = {"dress": ("a red dress", "red"), "coat": ("a blue coat", "blue"), "hat": ("a straw hat", "gold")}


def draw(colour: str, kind: str = "PNG") -> bytes:
    picture = Image.new("RGB", (300, 400), "white")
    ImageDraw.Draw(picture).polygon([(120, 50), (180, 50), (260, 350), (40, 350)], fill=colour)
    data = BytesIO()
    picture.save(data, kind)
    return data.getvalue()


@pytest.fixture(scope="session")
def shop(clip) -> Shop:
    return Shop(clip, {name: (title, draw(colour)) for name, (title, colour) in ARTICLES.items()})


@pytest.mark.parametrize("name", ARTICLES)
def test_an_article_is_found_by_its_title_its_picture_and_both(shop, name):
    title, colour = ARTICLES[name]
    assert shop.find_title(title) == shop.find_image(draw(colour)) == shop.find_pair(title, draw(colour)) == name


def test_the_same_picture_in_another_format_is_the_same_article(shop):
    assert shop.find_image(draw("red", "WEBP")) in ARTICLES


def test_a_search_finds_something(shop):
    assert shop.search("something for the sun") in ARTICLES
