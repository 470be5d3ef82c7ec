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
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; font-weight: 600 }
p, small { color: var(--soft); margin: .2rem 0 }
.query { display: flex; gap: .75rem; align-items: center; margin: .9rem 0 .4rem }
.query b { font-size: 1.05rem; font-weight: 600 }
.query img { width: 64px; border-radius: 6px; border: 2px solid var(--soft) }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(144px, 1fr)); gap: .6rem }
figure { margin: 0; border: 1px solid var(--edge); border-radius: 8px; overflow: hidden }
figure img { width: 100%; display: block; aspect-ratio: 1 }
figcaption { padding: .35rem .5rem; font-size: .8rem }
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


def write_gallery(path: Path, title: str, about: str, rows: Sequence[Row]) -> Path:
    """Writes the page; all pictures are inside it."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    sections = "\n".join(
        f"<h2>{escape(kind)}</h2>\n" + "\n".join(_row(row) for row in rows if row.kind == kind) for kind in kinds
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    page = f"<!doctype html>\n<html lang=en><head>{head}<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>"
    path.write_text(f"{page}<p>{escape(about)}</p>\n{sections}\n</body></html>\n", "utf-8")
    return path


def _row(row: Row) -> str:
    shown = _image(row.picture, "the query") if row.picture else ""
    text = f'<b dir="auto">{escape(row.text)}</b>' if row.text else ""
    figures = "\n".join(_figure(hit) for hit in row.hits)
    query = f'<div class="query">{shown}{text}<small>{row.milliseconds:.0f} ms</small></div>'
    return f'{query}\n<div class="row">{figures}</div>'


def _figure(hit: Hit) -> str:
    with Image.open(hit.picture) as picture:
        image = _image(picture, hit.title)
    return f"<figure>{image}<figcaption>{escape(hit.title)}<small>{hit.score:.3f}</small></figcaption></figure>"


def _image(picture: Image.Image, alt: str) -> str:
    data = io.BytesIO()
    picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS).save(data, "webp", quality=85)
    return f'<img alt="{escape(alt)}" src="data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}">'
