"""Multimodal retrieval on this machine: no key, no GPU, no internet.

    python examples/demo.py

Draws a catalogue of 600 products that the model has never seen, embeds titles in eight languages and pictures with the
model in `examples/catalogue/checkpoint`, indexes them in an embedded Qdrant, and searches them with texts, pictures
and both. A second run reuses pictures and index.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.catalogue.drawing import draw
from examples.catalogue.gallery import Row, write_gallery
from examples.catalogue.products import Attributes, Product
from examples.catalogue.scores import CHECKPOINT
from examples.catalogue.shop import TITLES, Shop
from jinaclip import JinaClip, fuse

T = TypeVar("T")
Vector = NDArray[np.float32]
FOLDER = Path(__file__).parents[1] / "demo"

ASKED = ("black dress with purple dots", "格纹短袖衬衫", "تنورة باللون الأحمر، طول ميدي")
"""A dress in English, a checked shirt with short sleeves in Chinese, a red midi skirt in Arabic."""
SHOWN = Product("", Attributes("coat", "pink", "checked", "blue", "maxi"), 41)
"""Another picture of a coat that the catalogue has."""
LIKED = Product("", Attributes("t-shirt", "white", "striped", "blue", "", "short", "round"), 7)
BUT = "T-shirt with orange stripes, long sleeves"
"""Like this, but."""
WEIGHT = 0.5
"""Of the text beside the picture."""


def main() -> None:
    """Draws, embeds, indexes, searches, and shows what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where pictures, index and page go")
    folder = parser.parse_args().folder
    clip, seconds = timed(open_model)
    tell("model", f"{clip.spec.name}, {clip.dimensions} dimensions", seconds)
    with clip, Shop(folder, clip) as shop:
        drawn, seconds = timed(shop.draw)
        tell("pictures", f"{drawn or 'none'} drawn of {len(shop.products)}", seconds)
        made, seconds = timed(shop.index)
        tell("index", f"{'made' if made else 'reused'}: pictures, and titles in {len(TITLES)} languages", seconds)
        rows = search(shop)
    print("\n" + "\n".join(map(report, rows)))
    about = f"{len(shop.products)} drawn products that the model of 2.3 million parameters has never seen."
    print(f"look at {write_gallery(folder / 'gallery.html', 'One catalogue, searched three ways', about, rows)}")


def tell(what: str, how: str, seconds: float) -> None:
    """One line on a step."""
    print(f"{what:<10} {how}, {seconds:.1f} s")


def open_model() -> JinaClip:
    """The small model, loaded."""
    clip = JinaClip(str(CHECKPOINT), backend="local", device="cpu", show_progress=True)
    clip.embed_query("ready")
    return clip


def search(shop: Shop) -> list[Row]:
    """Each kind of query; a row for each."""
    clip, picture, liked = shop.clip, draw(SHOWN), draw(LIKED)
    rows = [ask(shop, "text to picture", lambda text=text: clip.embed_query(text), text) for text in ASKED]
    rows += [ask(shop, "picture to picture", lambda: clip.embed_image(picture), picture=picture)]
    mixed: Callable[[], Vector] = lambda: fuse(clip.embed_query(BUT), clip.embed_image(liked), WEIGHT)  # noqa: E731
    rows += [ask(shop, "text and picture to picture", mixed, BUT, liked)]
    rows += [
        ask(shop, "text to text, across languages", lambda: clip.embed_query(ASKED[0]), ASKED[0], using=TITLES["ja"])
    ]
    return rows


def ask(
    shop: Shop,
    kind: str,
    embed: Callable[[], Vector],
    text: str = "",
    picture: Image.Image | None = None,
    using: str = "picture",
) -> Row:
    """Embeds one query, searches with it, and says how long both took together."""
    hits, seconds = timed(lambda: shop.find(embed(), using))
    return Row(kind, text, picture, 1000 * seconds, hits)


def report(row: Row, count: int = 4) -> str:
    """The best few of a row as lines."""
    asked = " + ".join(part for part in (row.picture and "a picture", row.text) if part)
    best = "\n".join(f"  {hit.score:.3f}  {hit.title}" for hit in row.hits[:count])
    return f"{row.kind}: {asked}  ({row.milliseconds:.0f} ms)\n{best}\n"


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result, and the seconds it took."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


if __name__ == "__main__":
    main()
