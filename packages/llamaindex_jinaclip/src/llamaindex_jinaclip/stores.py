"""Vectors that a vector store has of nodes; with the results of a search most stores hand over none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from llama_index.core.base.embeddings.base import Embedding

from jinaclip.hosts import Steps, wait_for

logger = logging.getLogger("jinaclip")


def find_vectors(store: Any, ids: Sequence[str]) -> Steps[dict[str, Embedding]]:
    """The vectors of nodes, by id, as far as the store gives any; why it gives none is in the log.

    Args:
        store: a vector store of LlamaIndex, or None.
        ids: of the nodes.
    """
    if store is None or not ids:
        return {}
    try:
        nodes = yield from wait_for(store.get_nodes, store.aget_nodes, list(ids))
    except NotImplementedError:
        return get_vectors(store, ids)
    except Exception as error:  # noqa: BLE001  the search has succeeded, and stores raise what they like
        logger.warning("%s gives no vectors: %s", type(store).__name__, type(error).__name__)
        return {}
    return {node.node_id: node.embedding for node in nodes if node.embedding is not None}


def get_vectors(store: Any, ids: Sequence[str]) -> dict[str, Embedding]:
    """The vectors of a store in memory, such as `SimpleVectorStore`, which has them one by one."""
    found = {}
    for node_id in ids:
        with suppress(AttributeError, KeyError):
            found[node_id] = store.get(node_id)
    return found
