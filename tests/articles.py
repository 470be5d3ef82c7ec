"""Products of the catalogue for tests of retrieval, their pictures on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.wording import title

COUNT = 60
RED_DRESS = 7
"""Where the red dress stands."""


@dataclass(frozen=True)
class Article:
    """A product with its title in two languages and its picture."""

    id: str
    attributes: Attributes
    title: str
    german: str
    picture: Path

    @property
    def category(self) -> str:
        """The broad one."""
        return self.attributes.broad_category


def draw_articles(folder: Path) -> list[Article]:
    """Products that the model has never seen, drawn into the folder."""
    chosen = products("test", COUNT)
    chosen[RED_DRESS] = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
    for product in chosen:
        draw(product).save(folder / f"{product.id}.png")
    return [Article(p.id, p.attributes, title(p, "en"), title(p, "de"), folder / f"{p.id}.png") for p in chosen]
