"""JinaClipDiversifier: results of a search whose pictures look different first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # not said to be public
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from jinaclip import diversify
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
    clusters: int = 5
    method: Literal["kmeans", "mmr"] = "kmeans"
    lambda_mult: float = 0.5
    seed: int = 0

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **options: Any) -> None:
            with checked():
                super().__init__(**options)
            self._choose([], [])

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps."""
        return "JinaClipDiversifier"

    def _postprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        self._start(nodes, query_bundle)
        vectors = self.embed_model.clip.embed_missing(*self._looks(nodes))
        return self._end(self._choose(nodes, vectors))

    async def _apostprocess_nodes(self, nodes: Nodes, query_bundle: QueryBundle | None = None) -> Nodes:
        self._start(nodes, query_bundle)
        looks = await asyncio.to_thread(self._looks, nodes)
        vectors = await self.embed_model.clip.aembed_missing(*looks)
        return self._end(await asyncio.to_thread(self._choose, nodes, vectors))

    def _looks(self, nodes: Nodes) -> tuple[list[Any], list[Any]]:
        """Vectors that the store handed over, and pictures."""
        pictures = [picture_of(one.node) for one in nodes]
        counts = [self.method == "mmr" or picture is not None for picture in pictures]
        return [one.node.embedding if some else None for one, some in zip(nodes, counts, strict=True)], pictures

    def _choose(self, nodes: Nodes, vectors: list[Any]) -> Nodes:
        scores: list[Any] = [one.score for one in nodes]
        falling = None not in scores and scores == sorted(scores, reverse=True)
        most = max(len(nodes), 1) if self.top_n is None else self.top_n
        options = {name: getattr(self, name) for name in ("clusters", "method", "lambda_mult", "seed")}
        chosen = diversify(vectors, most, relevance=scores if falling else None, **options)
        return [nodes[i] for i in chosen]

    def _start(self, nodes: Nodes, query: QueryBundle | None) -> None:
        top_n = len(nodes) if self.top_n is None else self.top_n
        name = self.embed_model.model_name
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=name))

    def _end(self, nodes: Nodes) -> Nodes:
        dispatcher.event(ReRankEndEvent(nodes=nodes))
        return nodes
