"""One self-contained page with the pictures that were found, a row per query."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from examples.catalogue.shop import Hit

THUMBNAIL = 144
STYLE = """
:root { color-scheme: light dark; --edge: #8884; --soft: #888 }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1500px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; font-weight: 600 }
p, small { color: var(--soft); margin: .2rem 0 }
.query { display: flex; gap: .75rem; align-items: center; margin: .9rem 0 .4rem }
.query b { font-size: 1.05rem; font-weight: 600 }
.query img { width: 64px; border-radius: 6px; border: 2px solid var(--soft) }
.orders { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1.5rem }
.row { display: grid; grid-template-columns: repeat(5, 1fr); gap: .5rem }
.curve { max-width: 760px; width: 100%; border-radius: 8px }
figure { margin: 0; border: 1px solid var(--edge); border-radius: 8px; overflow: hidden }
figure img { width: 100%; display: block; aspect-ratio: 1 }
figcaption { padding: .3rem .4rem; font-size: .72rem; line-height: 1.3 }
figcaption small { display: block }
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A query and what it found."""

    kind: str
    """What was searched with what; rows of one kind stand together."""
    text: str
    picture: Image.Image | None
    milliseconds: float
    hits: Sequence[Hit]
    diverse: Sequence[Hit]
    """The best of a larger pool, those that look different first."""
    diverse_milliseconds: float


def write_gallery(path: Path, title: str, about: str, rows: Sequence[Row], curve: Path) -> Path:
    """Writes the page with the rows and the picture of a curve; all pictures are inside it."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    sections = "\n".join(
        f"<h2>{escape(kind)}</h2>\n" + "\n".join(_row(row) for row in rows if row.kind == kind) for kind in kinds
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    page = f"<!doctype html>\n<html lang=en><head>{head}<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>"
    last = (
        f"<h2>Matryoshka: what is kept at fewer dimensions</h2>\n{_inside(curve.read_bytes(), 'png', 'curve', 'curve')}"
    )
    path.write_text(f"{page}<p>{escape(about)}</p>\n{sections}\n{last}\n</body></html>\n", "utf-8")
    return path


def _row(row: Row) -> str:
    shown = _image(row.picture, "the query") if row.picture else ""
    text = f'<b dir="auto">{escape(row.text)}</b>' if row.text else ""
    query = f'<div class="query">{shown}{text}</div>'
    orders = _order("as found", row.milliseconds, row.hits) + _order("diverse", row.diverse_milliseconds, row.diverse)
    return f'{query}\n<div class="orders">{orders}</div>'


def _order(name: str, milliseconds: float, hits: Sequence[Hit]) -> str:
    figures = "\n".join(_figure(hit) for hit in hits)
    return f'<div><small>{name}, {milliseconds:.0f} ms</small><div class="row">{figures}</div></div>'


def _figure(hit: Hit) -> str:
    with Image.open(hit.picture) as picture:
        image = _image(picture, hit.title)
    return f"<figure>{image}<figcaption>{escape(hit.title)}<small>{hit.score:.3f}</small></figcaption></figure>"


def _image(picture: Image.Image, alt: str) -> str:
    data = io.BytesIO()
    picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS).save(data, "webp", quality=85)
    return _inside(data.getvalue(), "webp", alt)


def _inside(data: bytes, kind: str, alt: str, style: str = "") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img class="{style}" alt="{escape(alt)}" src="{source}">'
