"""JinaClipDiversifier: results of a search whose pictures look different first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # not said to be public
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from jinaclip import Diversifier
from llamaindex_jinaclip.embedding import JinaClipEmbedding, checked
from llamaindex_jinaclip.nodes import picture_of

dispatcher = get_dispatcher(__name__)
Nodes = list[NodeWithScore]


class JinaClipDiversifier(BaseNodePostprocessor):
    """Puts results first that look different from one another; see `jinaclip.diversify`.

    Vectors that the store handed over are used; of other nodes with a picture, the picture is embedded. A node without
    a picture keeps its place, unless `method="mmr"` and it has a vector. Scores count if all nodes have one and they
    fall; otherwise the order counts. Nodes and scores are left as they are.

    Args:
        embed_model: of the vectors in the store.
        top_n: most nodes to return; None for all.
        clusters: how many kinds of pictures to tell apart; only for "kmeans".
        method: "kmeans" (needs the extra `rerank`) or "mmr".
        lambda_mult: share of relevance, 0 to 1; only for "mmr".
        seed: for the starting points of k-means.

    Raises:
        ConfigError: an option is wrong or unknown.
    """

    model_config = ConfigDict(extra="forbid")

    embed_model: JinaClipEmbedding
    top_n: int | None = Field(default=None, ge=1)
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **options: Any) -> None:
            with checked():
                super().__init__(**options)
            self._diversifier()

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps."""
        return "JinaClipDiversifier"

    def _diversifier(self) -> Diversifier:
        return Diversifier(self.top_n, self.clusters, self.method, self.lambda_mult, self.seed)

    def _postprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        self._start(nodes, query_bundle)
        return self._end(nodes, self._diversifier().order(self.embed_model.clip, *held(nodes)))

    async def _apostprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        self._start(nodes, query_bundle)
        found = await asyncio.to_thread(held, nodes)
        return self._end(nodes, await self._diversifier().aorder(self.embed_model.clip, *found))

    def _start(self, nodes: Nodes, query: QueryBundle | None) -> None:
        top_n = len(nodes) if self.top_n is None else self.top_n
        name = self.embed_model.model_name
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=name))

    def _end(self, nodes: Nodes, order: list[int]) -> Nodes:
        chosen = [nodes[place] for place in order]
        dispatcher.event(ReRankEndEvent(nodes=chosen))
        return chosen


def held(nodes: Nodes) -> tuple[list[Any], list[Any], list[float] | None]:
    """Vectors that the store handed over, pictures, and the scores if they say what is relevant."""
    scores: list[Any] = [one.score for one in nodes]
    falling = None not in scores and scores == sorted(scores, reverse=True)
    pictures = [picture_of(one.node) for one in nodes]
    return [one.node.embedding for one in nodes], pictures, scores if falling else None
