"""Published benchmarks with our backends: a JinaClip as the mteb library wants its models.

mteb.evaluate(JinaClipEncoder(JinaClip("jina-clip-v2", backend="local", truncate=True)), mteb.get_tasks(tasks=[...]))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.blank import is_blank
from jinaclip.errors import InputError
from jinaclip.requirements import missing_dependency
from jinaclip.vectors import Vectors, check_weight, fuse, normalize

try:
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ModuleNotFoundError as missing:
    raise missing_dependency("jinaclip.mteb", missing.name, "mteb") from None

if TYPE_CHECKING:
    from jinaclip.clip import JinaClip

BLANK = "-"
"""Stands for a text without content, of which benchmarks have a few; JinaClip itself refuses those."""
Batch = Mapping[str, Sequence[Any]]


class JinaClipEncoder:
    """A JinaClip for `mteb.evaluate`: texts, images, and both together, which are fused.

    Queries of retrieval tasks get the model's instruction; everything else is embedded as documents. A cache that the
    environment names is not read, as it may hold vectors of another backend; one of the clip's own option is.

    Args:
        clip: embeds; make it with `truncate=True` where documents may have more than 8192 tokens.
        weight: share of the text where an item has a text and an image; see `fuse`.

    Raises:
        ConfigError: the weight is out of range.
    """

    def __init__(self, clip: JinaClip, *, weight: float = 0.5) -> None:
        is_of_environment = clip.cache is not None and clip.config.cache is None
        self.clip = clip.with_cache(False) if is_of_environment else clip
        self.weight = check_weight(weight)
        self.mteb_model_meta = describe(clip)

    def encode(
        self,
        inputs: Iterable[Batch],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **options: Any,
    ) -> Vectors:
        """The items of all batches, float32 of shape (n, d), in their order.

        Args:
            inputs: batches with a `text` column, an `image` column, or both.
            task_metadata: not needed; what an item is says how it is embedded.
            hf_split: not needed.
            hf_subset: not needed.
            prompt_type: "query" makes texts queries.
            **options: not needed; JinaClip makes batches of its own.

        Raises:
            InputError: batches hold neither texts nor images.
            JinaClipError: the backend failed.
        """
        batches = iter(inputs)
        first = next(batches, None)
        if first is None:
            return np.empty((0, self.clip.dimensions), np.float32)
        columns = [name for name in ("text", "image") if name in first]
        rest = itertools.chain([first], batches)
        query = prompt_type == PromptType.query
        if columns == ["text"]:
            return self.clip.embed(texts_of(rest), task="query" if query else "document").unwrap()
        if columns == ["image"]:
            return self.clip.embed_images(image for batch in rest for image in batch["image"])
        if not columns:
            raise InputError(f"batches of {', '.join(first) or 'nothing'} hold neither texts nor images")
        return self._fuse(rest, query=query)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """Cosines of each with each: (n, d) and (m, d) give (n, m)."""
        return np.atleast_2d(to_unit(embeddings1)) @ np.atleast_2d(to_unit(embeddings2)).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """Cosines of pairs: (n, d) twice give (n,)."""
        return np.einsum("nd,nd->n", np.atleast_2d(to_unit(embeddings1)), np.atleast_2d(to_unit(embeddings2)))

    def _fuse(self, batches: Iterable[Batch], *, query: bool) -> Vectors:
        """Texts and images of one pass over the batches, fused; no more than a batch of images is in memory."""
        rows = []
        for batch in batches:
            texts = list(texts_of([batch]))
            items: list[Any] = [*texts, *map(self.clip.resolve_image, batch["image"])]
            vectors = self.clip.embed(items, task="query" if query else "document").unwrap()
            rows.append(fuse(vectors[: len(texts)], vectors[len(texts) :], self.weight))
        return np.concatenate(rows)


def texts_of(batches: Iterable[Batch]) -> Iterator[str]:
    """The texts of batches, with a stand-in for those without content."""
    for batch in batches:
        for text in batch["text"]:
            yield BLANK if is_blank(text) else text


def to_unit(embeddings: Any) -> Vectors:
    """Vectors of arrays or tensors, at length 1."""
    return normalize(np.asarray(embeddings, np.float32))


def describe(clip: JinaClip) -> Any:
    """What mteb writes beside results and looks them up by; the fingerprint stands for the revision of the vectors."""
    spec = clip.spec
    facts = {
        "name": spec.hub_id or f"jinaclip/{spec.name}",
        "revision": clip.fingerprint,
        "max_tokens": spec.max_tokens,
        "embed_dim": clip.dimensions,
        "open_weights": True,
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": bool(spec.query_instruction),
        "modalities": ["text", "image"],
        "framework": ["PyTorch"] if clip.config.backend == "local" else ["API"],
    }
    return ModelMeta.create_empty(overwrites=facts)
