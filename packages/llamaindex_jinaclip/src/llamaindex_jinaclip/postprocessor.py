"""JinaClipDiversifier: results of a search whose images look different first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from jinaclip import InputError
from jinaclip.hosts import ImageLike, Steps, arun_steps, run_steps, wait_for, wait_for_thread
from jinaclip.retrieval import Diversifier
from llamaindex_jinaclip.calls import acquire
from llamaindex_jinaclip.embedding import JinaClipEmbedding
from llamaindex_jinaclip.images import find_image
from llamaindex_jinaclip.options import config_errors, describe_fields

dispatcher = get_dispatcher(__name__)
Nodes = list[NodeWithScore]


class JinaClipDiversifier(BaseNodePostprocessor):
    """Puts results first that look different from one another; see `jinaclip.retrieval.diversify`.

    Vectors that the store handed over are used; of other nodes with an image, the image is embedded. A node without
    a usable image keeps its place, unless `method="mmr"` and it has a vector. Scores count if all nodes have one and
    they fall; otherwise the order counts. Nodes and scores are left as they are.

    Args:
        embed_model: of the vectors in the store.
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
    top_n: int | None = Field(default=None, ge=1)
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **options: Any) -> None:
            with config_errors():
                super().__init__(**options)
            self._diversifier()

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps."""
        return "JinaClipDiversifier"

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
        vectors, images, scores = yield from wait_for_thread(
            parts_of, nodes, self.embed_model.clip.config.image_policy.max_bytes
        )
        missing = sum(vector is None and image is not None for vector, image in zip(vectors, images, strict=True))
        yield from acquire(self.embed_model, missing)
        diversifier, clip = self._diversifier(), self.embed_model.clip
        return (yield from wait_for(diversifier.order, diversifier.aorder, clip, vectors, images, scores))


def parts_of(nodes: Nodes, max_bytes: int) -> tuple[list[Any], list[ImageLike | None], list[float] | None]:
    """Vectors that the store handed over, images, and the scores if they say what is relevant."""
    scores: list[Any] = [one.score for one in nodes]
    falling = None not in scores and scores == sorted(scores, reverse=True)
    images = [usable_image(one.node, max_bytes) for one in nodes]
    return [one.node.embedding for one in nodes], images, scores if falling else None


def usable_image(node: BaseNode, max_bytes: int) -> ImageLike | None:
    """A node's image; None also where it is lost or damaged, so that the node keeps its place as a text does."""
    try:
        return find_image(node, max_bytes)
    except InputError:
        return None
