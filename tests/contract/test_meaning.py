"""What vectors mean, over both backends: the right product is found, and it is the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.scores import CHECKPOINT, precision, recalls
from examples.catalogue.wording import LANGUAGES, description, title
from jinaclip import JinaClip, fuse, truncate
from tests.contract.conftest import KEY

COUNT = 60
RED_DRESS = {
    "en": "a red dress",
    "de": "ein Kleid in Rot",
    "fr": "robe en rouge",
    "es": "vestido en rojo",
    "ru": "платье, цвет красный",
    "zh": "红色连衣裙",
    "ja": "赤のワンピース",
    "ar": "فستان باللون الأحمر",
}
"""As people write it, not as the templates of the training texts do."""


@dataclass(frozen=True)
class Rack:
    """Products and what a model makes of them."""

    clip: JinaClip
    products: list[Product]
    pictures: list[Image.Image]
    embeddings: np.ndarray


@pytest.fixture(scope="module", params=["api", "local"])
def rack(request: pytest.FixtureRequest) -> Iterator[Rack]:
    """60 products the model has not seen, and a red dress at place 7. Pictures go to the API as they are."""
    options = {"backend": "local", "device": "cpu"}
    if request.param == "api":
        options = {"api_key": KEY, "base_url": request.getfixturevalue("modelled").url, "dimensions": 128}
    chosen = products("test", COUNT)
    chosen[7] = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
    pictures = [draw(product) for product in chosen]
    model = request.getfixturevalue("catalogue_checkpoint") if request.param == "local" else "jina-clip-v2"
    with JinaClip(model, image_resize="none", **options) as clip:
        yield Rack(clip, chosen, pictures, clip.embed_images(pictures))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_red_dress_is_found(rack: Rack, language: str) -> None:
    similarities = rack.embeddings @ rack.clip.embed_query(RED_DRESS[language])
    best = rack.products[similarities.argmax()].attributes
    assert (best.colour, best.garment) == ("red", "dress")


def test_a_title_finds_its_picture_and_a_picture_its_title(rack: Rack) -> None:
    titles = rack.clip.embed_documents([title(product, "de") for product in rack.products])
    assert recalls(titles, rack.embeddings)["recall@1"] >= 0.85
    assert recalls(rack.embeddings, titles)["recall@5"] >= 0.95


def test_a_picture_finds_its_kind(rack: Rack) -> None:
    assert precision(rack.embeddings, [p.attributes.garment for p in rack.products], k=3) >= 0.9


def test_a_text_finds_its_translation(rack: Rack) -> None:
    zh, ar = (rack.clip.embed_documents([title(p, lang) for p in rack.products]) for lang in ("zh", "ar"))
    assert recalls(zh, ar)["recall@1"] >= 0.9


def test_a_long_description_finds_its_picture(rack: Rack) -> None:
    told = rack.clip.embed_documents([description(product, "en") for product in rack.products])
    assert recalls(told, rack.embeddings)["recall@5"] >= 0.9


def test_a_picture_with_a_word_changes_the_colour_and_keeps_the_garment(rack: Rack) -> None:
    yellow = draw(Product("", Attributes("dress", "yellow", "plain", "", "midi", "short", "round"), 9))
    wish = rack.clip.embed_query("red dress")
    query = fuse(wish, rack.clip.embed_image(yellow))
    assert rack.products[(rack.embeddings @ query).argmax()].id == "red-dress"


@pytest.mark.slow
def test_fused_products_are_found_by_text_and_by_picture(rack: Rack) -> None:
    texts = [title(product, "en") for product in rack.products]
    fused = rack.clip.embed_pairs(zip(texts, rack.pictures, strict=True))
    assert recalls(rack.clip.embed_documents(texts), fused)["recall@1"] >= 0.95
    assert recalls(rack.embeddings, fused)["recall@1"] >= 0.95


def test_half_the_width_finds_nearly_as_much(rack: Rack) -> None:
    titles = rack.clip.embed_documents([title(product, "fr") for product in rack.products])
    whole = recalls(titles, rack.embeddings)["recall@5"]
    assert recalls(truncate(titles, 64), truncate(rack.embeddings, 64))["recall@5"] >= 0.98 * whole


@pytest.mark.slow
def test_both_backends_give_the_same_vectors(modelled) -> None:
    """To 1e-5, texts and pictures and both; with the default policy too, for pictures of the model's tile size."""
    chosen = products("test", 12)
    texts = [title(product, lang) for product, lang in zip(chosen, [*LANGUAGES, *LANGUAGES[:4]], strict=True)]
    here = {"backend": "local", "device": "cpu"}
    there = {"api_key": KEY, "base_url": modelled.url, "dimensions": 128}
    calls: list[tuple[Callable[[JinaClip], np.ndarray], dict[str, object]]] = [
        (lambda clip: clip.embed_query(texts[0]), {}),
        (lambda clip: clip.embed_documents(texts), {}),
        (lambda clip: clip.embed_images([draw(p) for p in chosen]), {"image_resize": "none"}),
        (lambda clip: clip.embed_images([draw(p, 512) for p in chosen[:3]]), {}),
        (lambda clip: clip.embed_pairs([(texts[0], draw(chosen[0], 512))], weight=0.3), {}),
    ]
    for call, options in calls:
        with JinaClip(str(CHECKPOINT), **here, **options) as local, JinaClip("jina-clip-v2", **there, **options) as api:
            assert np.abs(call(local) - call(api)).max() <= 1e-5
