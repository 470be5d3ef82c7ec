"""Vectors that are there already, handed to a store by way of its own methods: its embeddings answer from a table.

A `VectorStore` has no method that takes vectors. All have methods that take texts, and ask their embeddings for the
vectors. Within `answer_from(vectors)`, `JinaClipEmbeddings` answer from a table and embed nothing. The table holds for
the running thread or task and those that copy its context, as LangChain's executor does, and for nobody beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from jinaclip import ConfigError

Vector = list[float]


class Table:
    """Vectors by text.

    Args:
        vectors: each text stands for one.

    Attributes:
        asked: the texts that the store has asked for.
    """

    def __init__(self, vectors: Mapping[str, Vector]) -> None:
        self._vectors = vectors
        self.asked: set[str] = set()

    def documents(self, texts: Iterable[str]) -> list[Vector]:
        """The vectors of texts.

        Raises:
            ConfigError: one is not in the table. It is not embedded: it may be a title in place of its image.
        """
        listed = list(texts)
        if any(text not in self._vectors for text in listed):
            raise ConfigError(
                "the store changes texts before it embeds them, so vectors that are there already cannot be handed to "
                "it; add them by its own client"
            )
        self.asked |= set(listed)
        return [self._vectors[text] for text in listed]

    def check(self, store: str) -> None:
        """Whether a store asked for all of them.

        Raises:
            ConfigError: it did not, so its rows have vectors of their own: it embeds in threads that do not copy the
                context of their caller, say.
        """
        if len(self.asked) < len(self._vectors):
            raise ConfigError(
                f"{store} did not ask for the vectors that were there, and stored rows with others: delete them, and "
                "add vectors by its own client"
            )

    def query(self, text: str) -> Vector | None:
        """The vector of a query, None for one that is not in the table."""
        return self._vectors.get(text)


_TABLE: ContextVar[Table | None] = ContextVar("langchain_jinaclip_table", default=None)


def current_table() -> Table | None:
    """The table that embeddings answer from here and now, if there is one."""
    return _TABLE.get()


def query_vector(text: str) -> Vector | None:
    """The vector of a query by the table of here and now, None if there is no table or it does not know the text."""
    table = current_table()
    return None if table is None else table.query(text)


@contextmanager
def answer_from(vectors: Mapping[str, Vector]) -> Iterator[Table]:
    """Embeddings answer from these vectors, by text, as long as this is open."""
    table = Table(vectors)
    token = _TABLE.set(table)
    try:
        yield table
    finally:
        _TABLE.reset(token)
