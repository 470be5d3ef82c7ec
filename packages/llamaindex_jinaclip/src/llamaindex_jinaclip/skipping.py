"""What `on_error="skip"` does with nodes that cannot be embedded, for the next run of a pipeline to try them again."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass

from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from jinaclip import JinaClipError, Results
from jinaclip.hosts import is_blank
from llamaindex_jinaclip.images import image_source

logger = logging.getLogger("jinaclip")
TAKEN_FOR_DONE = (
    "all other nodes have their vectors. This one was not skipped, since a pipeline's docstore would take its document "
    "for done: it was made of a document, or in a worker process. Pass `failed=[]` to the call, or to `run` of the "
    "pipeline, to get what was skipped and to see to it yourself"
)


@dataclass(frozen=True, slots=True)
class SkippedNode:
    """A node that has no vector.

    Attributes:
        node: as it was given.
        reason: why it could not be embedded; its text names the node.
    """

    node: BaseNode
    reason: JinaClipError

    def __str__(self) -> str:
        return str(self.reason)


def skip_failures(results: Results, nodes: Sequence[BaseNode]) -> list[SkippedNode]:
    """The nodes that failed by themselves, each named in the log.

    Raises:
        JinaClipError: the call as a whole failed.
    """
    if results.stopped is not None:
        results.unwrap()
    skipped = [SkippedNode(nodes[index], failure.error()) for index, failure in sorted(results.errors.items())]
    for one in skipped:
        logger.warning("skipped %s", one)
    return skipped


def check_retried(skipped: Iterable[SkippedNode], results: Results) -> None:
    """Whether a pipeline's next run will see all these again, as far as can be told here.

    Raises:
        JinaClipError: of the first that it will not.
    """
    for one in skipped:
        if not is_retried(one.node):
            one.reason.partial = results
            one.reason.add_note(TAKEN_FOR_DONE)
            raise one.reason


def is_retried(node: BaseNode) -> bool:
    """Whether the next run of a pipeline will see a skipped node again, or has no need to.

    A docstore takes for done what the pipeline was given, by id and hash: a node that was made of a document cannot
    change that, nor can one in a worker process, which has only copies. A text that is blank stays blank until its hash
    changes too.
    """
    if image_source(node) is None and is_blank(node.get_content(MetadataMode.EMBED)):
        return True
    return node.ref_doc_id is None and multiprocessing.parent_process() is None


def stand_in(given: Iterable[BaseNode], skipped: Iterable[int]) -> None:
    """Puts empty nodes of the same ids into a list in place of skipped ones.

    LlamaIndex hands its list of inputs to the transformations, which may change it, and then tells the docstore of what
    is in there. The hash of an empty node is not that of the skipped one, which is therefore new to the next run.
    """
    if isinstance(given, MutableSequence):
        for index in skipped:
            given[index] = TextNode(id_=given[index].node_id, text="")
