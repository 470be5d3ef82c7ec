"""JinaClipDiversifier: results of a search whose images look different first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, WithJsonSchema
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from jinaclip import InputError, JinaClip
from jinaclip.hosts import Closing, ImageLike, Steps, arun_steps, refuse_unknown, run_steps, wait_for, wait_for_thread
from jinaclip.retrieval import Diversifier
from llamaindex_jinaclip.calls import acquire
from llamaindex_jinaclip.embedding import JinaClipEmbedding
from llamaindex_jinaclip.images import find_image
from llamaindex_jinaclip.labels import LABEL, has_words
from llamaindex_jinaclip.nodes import takes_image
from llamaindex_jinaclip.options import config_errors, describe_fields
from llamaindex_jinaclip.stores import find_vectors

logger = logging.getLogger("jinaclip")
dispatcher = get_dispatcher(__name__)
Nodes = list[NodeWithScore]
COST = (
    "JinaClipDiversifier embeds the images of %d results, since neither the results nor vector_store have their "
    "vectors: each search costs %stheir computing time, unless a cache has them. Pass it the vector_store of the index"
)


class JinaClipDiversifier(Closing, BaseNodePostprocessor):
    """Puts results first that look different from one another; see `jinaclip.retrieval.diversify`.

    Vectors that came with the results are used, then those of `vector_store`. Where neither has one, the image is
    embedded, and the log says once what that costs. What counts as an image is what was embedded as one: of a node that
    has a text too, only if it has a label, and its text not all the weight. A node without a usable image keeps its
    place, unless `method="mmr"` and it has a vector. Scores count if all nodes have one and they fall; otherwise the
    order counts. Nodes and scores are left as they are.

    Args:
        embed_model: of the vectors in the store.
        vector_store: of the results, which most stores return without their vectors. It is in no dump and no pickle.
        top_n: most nodes to return; None for all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans" (needs the extra `rerank`) or "mmr".
        lambda_mult: share of relevance, 0 to 1; only for "mmr".
        seed: for the starting points of k-means.
        callback_manager: LlamaIndex's, which changes nothing here: the dispatcher gets the events.

    Raises:
        ConfigError: an option is wrong or unknown.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=describe_fields)

    embed_model: JinaClipEmbedding
    vector_store: Annotated[Any, WithJsonSchema({"type": "null"})] = Field(default=None, exclude=True, repr=False)
    top_n: int | None = Field(default=None, ge=1)
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    _cost_is_known: bool = PrivateAttr(default=False)

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **options: Any) -> None:
            refuse_unknown(options, type(self).model_fields)
            with config_errors():
                super().__init__(**options)
            self._diversifier()

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps."""
        return "JinaClipDiversifier"

    @property
    def clip(self) -> JinaClip:
        """The core object of `embed_model`."""
        return self.embed_model.clip

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "vector_store": None}}  # it holds connections

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return super().__deepcopy__({**(memo or {}), id(self.vector_store): self.vector_store})

    def _diversifier(self) -> Diversifier:
        return Diversifier(self.top_n, self.clusters, self.method, self.lambda_mult, self.seed)

    def _postprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        return run_steps(self._choose(nodes, query_bundle))

    async def _apostprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        return await arun_steps(self._choose(nodes, query_bundle))

    def _choose(self, nodes: Nodes, query: QueryBundle | None) -> Steps[Nodes]:
        """The results to show, in order, with LlamaIndex's events before and after."""
        top_n = len(nodes) if self.top_n is None else self.top_n
        name = self.embed_model.model_name
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=name))
        order = yield from self._order(nodes)
        chosen = [nodes[place] for place in order]
        dispatcher.event(ReRankEndEvent(nodes=chosen))
        return chosen

    def _order(self, nodes: Nodes) -> Steps[list[int]]:
        """Indices of the results to show. Takes the rate limiter's permits for the images that have to be embedded."""
        images, scores = yield from wait_for_thread(parts_of, nodes, self.embed_model)
        vectors = yield from self._vectors(nodes, images)
        images = [
            image or place_of_lost(one, vector) for one, image, vector in zip(nodes, images, vectors, strict=True)
        ]
        missing = sum(vector is None and image is not None for vector, image in zip(vectors, images, strict=True))
        self._tell_cost(missing)
        yield from acquire(self.embed_model, missing)
        diversifier = self._diversifier()
        return (yield from wait_for(diversifier.order, diversifier.aorder, self.clip, vectors, images, scores))

    def _vectors(self, nodes: Nodes, images: Sequence[Any]) -> Steps[list[Embedding | None]]:
        """The vectors that there are, of the results or in the store."""
        pairs = zip(nodes, images, strict=True)
        wanted = [
            one for one, image in pairs if image is not None or LABEL in one.node.metadata or self.method == "mmr"
        ]
        ids = [one.node.node_id for one in wanted if one.node.embedding is None]
        found = yield from find_vectors(self.vector_store, ids)
        return [one.node.embedding or found.get(one.node.node_id) for one in nodes]

    def _tell_cost(self, images: int) -> None:
        """Says once that images are embedded again, since nobody asked for it."""
        if images and not self._cost_is_known:
            self._cost_is_known = True
            tokens = f"{images * self.clip.spec.tokens_per_tile} tokens of the API, or "
            logger.warning(COST, images, "" if self.embed_model.backend == "local" else tokens)


def parts_of(nodes: Nodes, model: JinaClipEmbedding) -> tuple[list[ImageLike | None], list[float] | None]:
    """The images of results, and the scores if they say what is relevant."""
    scores: list[Any] = [one.score for one in nodes]
    falling = None not in scores and scores == sorted(scores, reverse=True)
    return [usable_image(one.node, model) for one in nodes], scores if falling else None


def usable_image(node: BaseNode, model: JinaClipEmbedding) -> ImageLike | None:
    """The image that a node was embedded by. None also where it is lost, so that the node keeps its place as a text."""
    if not (takes_image(node, model.fusion_weight) and (LABEL in node.metadata or not has_words(node))):
        return None
    with suppress(InputError):
        return find_image(node, model.clip.config.image_policy.max_bytes)
    return None


def place_of_lost(found: NodeWithScore, vector: Embedding | None) -> str | None:
    """The label of a node whose image its store has dropped, as most do of a `Document`, if there is its vector."""
    return found.node.metadata.get(LABEL) if vector is not None else None
