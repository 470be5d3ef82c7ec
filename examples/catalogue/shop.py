"""A shop: 600 held-out products on disk, and an embedded Qdrant that knows their titles and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams
from tqdm import tqdm

from examples.catalogue.drawing import draw
from examples.catalogue.products import Product, products
from examples.catalogue.wording import LANGUAGES, title
from jinaclip import JinaClip, fuse
from jinaclip.retrieval import diversify

COUNT = 600
SHOWN = 5
TITLES = {lang: f"title_{lang}" for lang in LANGUAGES}
"""Names of the vectors of a product's titles. Its picture's is `picture`, that of English title and picture `fused`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One product that was found."""

    id: str
    title: str
    picture: Path
    score: float
    """Cosine similarity."""


class Shop:
    """Draws, embeds and indexes what is not there yet, then finds.

    Args:
        folder: gets `pictures/`, `products.jsonl` and `qdrant/`.
        clip: embeds products and queries; an index made with other settings is not reused.
        count: products, up to about a thousand.
    """

    def __init__(self, folder: Path, clip: JinaClip, *, count: int = COUNT) -> None:
        self.folder, self.clip = folder, clip
        self.products = products("test", count)
        self.name = f"products-{count}-fused-{clip.space}"
        folder.mkdir(parents=True, exist_ok=True)
        self.client = QdrantClient(path=str(folder / "qdrant"))

    def picture(self, product: Product) -> Path:
        """Where the picture of a product lies."""
        return self.folder / "pictures" / f"{product.id}.png"

    def draw(self) -> int:
        """Draws the pictures that are missing; returns how many."""
        missing = [product for product in self.products if not self.picture(product).exists()]
        (self.folder / "pictures").mkdir(exist_ok=True)
        for product in tqdm(missing, "drawing", disable=not missing):
            unfinished = self.picture(product).with_suffix(".part")
            draw(product).save(unfinished, "png")
            unfinished.replace(self.picture(product))
        lines = [json.dumps({"id": p.id, "seed": p.seed, **asdict(p.attributes)}) for p in self.products]
        (self.folder / "products.jsonl").write_text("\n".join(lines) + "\n")
        return len(missing)

    def index(self) -> bool:
        """Embeds and indexes everything, unless that was done; returns whether it had to."""
        if self.client.collection_exists(self.name):
            if self.client.count(self.name).count == len(self.products):
                return False
            self.client.delete_collection(self.name)
        vectors = self._embed()
        sizes = VectorParams(size=self.clip.dimensions, distance=Distance.COSINE)
        self.client.create_collection(self.name, vectors_config=dict.fromkeys(vectors, sizes))
        self.client.upsert(self.name, list(self._points(vectors)))
        return True

    def _embed(self) -> dict[str, NDArray[np.float32]]:
        """(n, d) each: the titles in every language, the pictures, and both as one."""
        titles = [title(product, lang) for lang in LANGUAGES for product in self.products]
        rows = dict(zip(TITLES.values(), np.split(self.clip.embed_documents(titles), len(LANGUAGES)), strict=True))
        pictures = self.clip.embed_images([self.picture(product) for product in self.products])
        return {**rows, "picture": pictures, "fused": fuse(rows[TITLES["en"]], pictures)}

    def _points(self, vectors: dict[str, NDArray[np.float32]]) -> Iterator[PointStruct]:
        for i, product in enumerate(self.products):
            payload = {"id": product.id, "category": product.attributes.broad_category, "title": title(product, "en")}
            yield PointStruct(id=i, vector={name: rows[i].tolist() for name, rows in vectors.items()}, payload=payload)

    def find(
        self, vector: NDArray[np.float32], using: str = "picture", limit: int = SHOWN, pool: int | None = None
    ) -> list[Hit]:
        """The nearest products of a (d,) vector, best first.

        Args:
            vector: of a text, a picture, or both.
            using: which vectors to search: `picture`, `fused`, or one of `TITLES`.
            limit: how many.
            pool: as many of the best are looked at, and those shown first that look different; None shows the best.
        """
        with_vectors = ["picture"] if pool else False
        found = self.client.query_points(
            self.name, vector.tolist(), using=using, limit=pool or limit, with_payload=True, with_vectors=with_vectors
        ).points
        if pool:
            pictures, scores = [point.vector["picture"] for point in found], [point.score for point in found]
            found = [found[i] for i in diversify(pictures, limit, relevance=scores)]
        return [self._hit(point.payload or {}, point.score) for point in found]

    def _hit(self, payload: dict[str, Any], score: float) -> Hit:
        return Hit(payload["id"], payload["title"], self.folder / "pictures" / f"{payload['id']}.png", score)

    def __enter__(self) -> Shop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
