"""Documents by which of some labels fits them best, without training."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from haystack import Document, component

from haystack_integrations.components.embedders.jinaclip._component import EmbeddingComponent
from haystack_integrations.components.embedders.jinaclip._documents import (
    EmbeddedDocuments,
    check_documents,
    embed_documents,
    usage_meta,
)
from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._options import FusedDocumentOptions, take_options
from haystack_integrations.components.embedders.jinaclip._sources import PairSource
from jinaclip import ConfigError, JinaClip
from jinaclip.hosts import Steps, arun_steps, embed, is_wanted, run_steps, wait_for_thread, without_arguments
from jinaclip.retrieval import Classification, Question

FAILED = "failed_documents"
OTHERS = (FAILED, "meta")
"""Outputs beside those of the labels."""
TAKEN = ("self", "instance")
"""Names that Haystack cannot give to outputs: they are those of parameters of its own."""
CLASSIFICATION = "classification"
"""The field of `meta` in which Haystack's own zero-shot classifier writes what it found."""
Row = list[float]


@dataclass(frozen=True, repr=False, kw_only=True)
class ZeroShotOptions(FusedDocumentOptions):
    """Options of what routes documents by labels.

    Args:
        labels: at least two different ones, which are the names of the outputs, too.
        template: what is embedded for a label; `{}` is where the label goes. "{}" is the label alone.
        temperature: what cosines are divided by; None takes the checkpoint's own on the local backend, else 0.01.
            It decides how sure scores look, and not which label wins.
    """

    labels: list[str]
    template: str = "a photo of a {}"
    temperature: float | None = None
    progress_bar: bool = False


@component
class JinaClipZeroShotRouter(EmbeddingComponent[ZeroShotOptions]):
    """Routes documents to the label that fits them best; see `jinaclip.retrieval.classify`.

    A document is looked at as `JinaClipFusedDocumentEmbedder` does: by its image, by its text, or by both with
    `weight`. Labels are embedded once, by the first run.

    Takes the options of `ZeroShotOptions`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
        source: finds the text and the image of a document.

    Raises:
        ConfigError: an option is wrong (a ValueError).
        InputError: the labels are fewer than two, or one stands twice, or is no text (a ValueError).
    """

    @take_options(ZeroShotOptions)
    def __init__(self, options: ZeroShotOptions) -> None:
        check_names(options.labels)
        self.options = options
        self.handle = ClipHandle(options)
        self.source = PairSource.of(options)
        self._question = Question(options.labels, options.template, options.temperature)
        self._label_rows = LabelRows(self._question.texts)
        outputs = dict.fromkeys((*options.labels, FAILED), list[Document])
        component.set_output_types(self, **outputs, meta=dict[str, Any])

    @without_arguments
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Routes documents.

        Args:
            documents: stay as they are; an embedding that they carry is not looked at.

        Returns:
            For each label the documents that it fits best, in order: copies with `meta["classification"]`, a dict of
            the best `label`, its `score` and `details`, the score of each label. `failed_documents`, only with
            `raise_on_failure=False`: copies of those that cannot be embedded, with the reason in
            `meta["embedding_error"]`. `meta` with the model and the tokens of this run.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: a document has neither a text nor an image that can be embedded, or there is no key.
            RuntimeError: a page of a PDF file cannot be rendered.
            JinaClipError: the backend failed.
        """
        return run_steps(self._route(documents))

    @without_arguments
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._route(documents))

    def _route(self, documents: list[Document]) -> Steps[dict[str, Any]]:
        check_documents(documents, type(self).__name__)
        routes: dict[str, Any] = {label: [] for label in self._question.labels}
        if not documents:
            return {**routes, FAILED: [], "meta": {}}
        given = [*documents]
        clip = yield from self.handle.wait()
        tokens = 0 if self._label_rows.rows else (yield from wait_for_thread(self._label_rows.embed, clip))
        strict = self.options.raise_on_failure
        embedded = yield from embed_documents(self.handle, self.source, given, raise_on_failure=strict)
        found = yield from wait_for_thread(self._classify, clip, embedded)
        for place, label, scores in zip(embedded.places, found.best, found.probabilities.tolist(), strict=True):
            routes[label].append(add_classification(given[place], label, dict(zip(found.labels, scores, strict=True))))
        meta = usage_meta(clip, tokens + embedded.meta["usage"]["total_tokens"])
        return {**routes, FAILED: embedded.failed_documents, "meta": meta}

    def _classify(self, clip: JinaClip, embedded: EmbeddedDocuments) -> Classification:
        """Which label fits which document. Loads the weights on the local backend, which know the scale."""
        rows = [document.embedding for document in embedded.documents]
        return self._question.answer(np.array([*rows, *self._label_rows.rows], np.float32), clip.logit_scale)


class LabelRows:
    """The vectors of labels, embedded once: of runs at once one pays, and the others wait for it.

    Args:
        texts: what is embedded for the labels.
        rows: their vectors, empty until they are embedded.
    """

    def __init__(self, texts: Sequence[str], rows: Sequence[Row] = ()) -> None:
        self.texts, self.rows = texts, rows
        self._embedding = threading.Lock()  # held by a thread, never by a task whose loop a thread could hold up

    def embed(self, clip: JinaClip) -> int:
        """Embeds the labels, unless that is done, or the run was cancelled. Gives the tokens that it took. Blocks."""
        with self._embedding:
            if self.rows or not is_wanted():
                return 0
            results = embed(clip, self.texts, kind="text", name=name_label)
            self.rows = results.unwrap().tolist()
            return results.usage.tokens

    def __reduce__(self) -> tuple[type[LabelRows], tuple[Sequence[str], Sequence[Row]]]:
        return type(self), (self.texts, self.rows)


def check_names(labels: list[str]) -> None:
    """Raises ConfigError if a label cannot be the name of an output."""
    for label in labels:
        if label in OTHERS:
            raise ConfigError(f"labels={labels!r} must not hold {label!r}, the name of another output")
        if label in TAKEN:
            raise ConfigError(f"labels={labels!r} must not hold {label!r}, which Haystack cannot give to an output")


def name_label(_: int, text: str) -> str:
    """What messages call what is embedded for a label."""
    return f"the label {text!r}"


def add_classification(document: Document, label: str, details: dict[str, float]) -> Document:
    """A copy of a document with what was found in its meta."""
    found = {"label": label, "score": details[label], "details": details}
    return replace(document, meta={**document.meta, CLASSIFICATION: found})
