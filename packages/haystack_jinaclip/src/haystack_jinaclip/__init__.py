"""jina-clip embeddings for Haystack. This release reserves the name; the adapter itself is not in it yet."""

__version__ = "0.1.0"

__all__: list[str] = []
