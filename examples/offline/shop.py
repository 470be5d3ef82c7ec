"""A shop's search, as any application has one: what the tests beside it test."""

from __future__ import annotations

import numpy as np

from jinaclip import JinaClip, Pair


class Shop:
    """Articles by name, each a title and a picture as bytes of a file, found by text, picture or both."""

    def __init__(self, clip: JinaClip, articles: dict[str, tuple[str, bytes]]) -> None:
        self.clip, self.names = clip, [*articles]
        self.titles = clip.embed_documents([title for title, _ in articles.values()])
        self.pictures = clip.embed_images([picture for _, picture in articles.values()])

    def nearest(self, vector: np.ndarray, vectors: np.ndarray) -> str:
        return self.names[int(np.argmax(vectors @ vector))]

    def find_title(self, title: str) -> str:
        return self.nearest(self.clip.embed_documents([title])[0], self.titles)

    def find_image(self, picture: bytes) -> str:
        return self.nearest(self.clip.embed_image(picture), self.pictures)

    def find_pair(self, text: str, picture: bytes) -> str:
        both = self.clip.embed([Pair(text, picture)]).unwrap()[0]
        return self.nearest(both, self.pictures + self.titles)

    def search(self, query: str) -> str:
        return self.nearest(self.clip.embed_query(query), self.titles)
