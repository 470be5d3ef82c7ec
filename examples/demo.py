"""Multimodal retrieval on this machine: no key, no GPU, no internet.

    python examples/demo.py

Draws a catalogue of 600 products that the model has never seen, embeds titles in eight languages and pictures with the
model in `examples/catalogue/checkpoint`, indexes them in an embedded Qdrant, and searches them with texts, pictures
and both, with and without visual diversity. Then measures what is kept at fewer dimensions. A second run reuses it all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
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
from examples.catalogue.table import item, queries
from jinaclip import JinaClip, fuse
from jinaclip.evaluation import evaluate
from jinaclip.retrieval import diversify

T = TypeVar("T")
Vector = NDArray[np.float32]
FOLDER = Path(__file__).parents[1] / "demo"

WISH = ("Black dress with purple dots", "黑色配紫色波点连衣裙", "فستان باللون الأسود بنقاط باللون البنفسجي")
"""The same in English, Chinese and Arabic."""
VAGUE = "Dress"
"""Leaves open what else it should be, so that there is something to choose from."""
SHOWN = Product("", Attributes("coat", "pink", "checked", "blue", "maxi"), 41)
"""Another picture of a coat that the catalogue has."""
LIKED = Product("", Attributes("t-shirt", "white", "striped", "blue", "", "short", "round"), 7)
BUT = "T-shirt with orange stripes, long sleeves"
"""Like this, but."""
WEIGHT = 0.5
"""Of the text beside the picture."""


POOL = 15
"""Of as many of the best results, those that look different are shown first. More could not all be right."""


def main() -> None:
    """Draws, embeds, indexes, searches, and shows what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where pictures, index and page go")
    folder = parser.parse_args().folder
    clip, seconds = timed(open_model)
    tell("model", f"{clip.spec.name}, {clip.dimensions} dimensions", seconds)
    with clip, Shop(folder, clip) as shop:
        drawn, seconds = timed(shop.draw)
        tell("pictures", f"{drawn} drawn of {len(shop.products)}", seconds)
        made, seconds = timed(shop.index)
        tell("index", f"{'made' if made else 'reused'}: pictures, titles in {len(TITLES)} languages, both", seconds)
        rows = search(shop)
        print(table(rows) + "\n")
        curve, seconds = timed(lambda: measure(shop))
        tell("evaluation", f"{curve.parent / 'evaluation.md'}", seconds)
    about = (
        f"{len(shop.products)} drawn products that the model of 2.2 million parameters has never seen. "
        f"Diverse: the best {POOL}, those that look different first; a precise wish loses by it."
    )
    title = "One catalogue, searched by text, by picture and by both"
    print(f"look at {write_gallery(folder / 'gallery.html', title, about, rows, curve)}")


def tell(what: str, how: str, seconds: float) -> None:
    """One line on a step."""
    print(f"{what:<10} {how}, {seconds:.1f} s")


def open_model() -> JinaClip:
    """The small model, loaded, and what re-orders its results."""
    clip = JinaClip(str(CHECKPOINT), backend="local", device="cpu", show_progress=True)
    clip.embed_query("ready")
    diversify(np.eye(9), 9)
    return clip


def search(shop: Shop) -> list[Row]:
    """Each kind of query; a row for each."""
    clip, picture, liked = shop.clip, draw(SHOWN), draw(LIKED)
    wish = lambda text: lambda: clip.embed_query(text)  # noqa: E731
    mixed = lambda: fuse(clip.embed_query(BUT), clip.embed_image(liked), WEIGHT)  # noqa: E731
    over = {"descriptions": TITLES["en"], "pictures": "picture", "the average of both": "fused"}
    return [
        *(ask(shop, "one wish in three languages, over pictures", wish(text), text) for text in WISH),
        ask(shop, "a picture, over pictures", lambda: clip.embed_image(picture), picture=picture),
        ask(shop, "a picture and a text, over pictures", mixed, BUT, liked),
        ask(shop, "English, over Japanese titles", wish(WISH[0]), WISH[0], using=TITLES["ja"]),
        *(ask(shop, f"a vague wish, over {what}", wish(VAGUE), VAGUE, using=using) for what, using in over.items()),
    ]


def ask(
    shop: Shop,
    kind: str,
    embed: Callable[[], Vector],
    text: str = "",
    picture: Image.Image | None = None,
    using: str = "picture",
) -> Row:
    """Embeds one query and searches with it, as found and with diverse results; says how long each took in all."""
    hits, seconds = timed(lambda: shop.find(embed(), using))
    diverse, longer = timed(lambda: shop.find(embed(), using, pool=POOL))
    return Row(kind, text, picture, 1000 * seconds, hits, diverse, 1000 * longer)


def table(rows: Sequence[Row], count: int = 3) -> str:
    """The best few of every query, as found and diverse, with the time each took."""
    lines = []
    for row in rows:
        asked = " + ".join(part for part in ("a picture" if row.picture else "", row.text) if part)
        lines += [f"\n{row.kind}: {asked}"]
        lines += [f"  {f'as found, {row.milliseconds:.0f} ms':<64}diverse, {row.diverse_milliseconds:.0f} ms"]
        for hit, other in zip(row.hits[:count], row.diverse[:count], strict=True):
            lines.append(f"  {hit.score:.3f}  {hit.title:<56.54}{other.score:.3f}  {other.title:.54}")
    return "\n".join(lines)


def measure(shop: Shop) -> Path:
    """Evaluates the model on the shop, unless that was done; returns the picture of the Matryoshka curve."""
    folder = shop.folder / f"evaluation-{shop.name}"
    if not (folder / "matryoshka.png").exists():
        rows = [{**item(product), "image": shop.picture(product)} for product in shop.products]
        widths = [shop.clip.dimensions // 2**halved for halved in range(5)]
        evaluate(shop.clip, rows, queries(shop.products), widths=widths, pool=POOL).write(folder)
    return folder / "matryoshka.png"


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result, and the seconds it took."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on where it was")
    except OSError as error:
        sys.exit(f"cannot use the folder: {error}")
