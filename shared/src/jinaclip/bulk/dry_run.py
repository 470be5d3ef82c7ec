"""What a run would take, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from jinaclip.bulk.blocks import check_row
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.index import ABSENT, COPY, DONE, FAILED, REPEATED, Index
from jinaclip.bulk.items import Item, PairMode, items_of, name_item
from jinaclip.bulk.options import BulkOptions, read_shard
from jinaclip.bulk.output import Output, digests_of
from jinaclip.bulk.parts import Shard
from jinaclip.bulk.precision import Precision
from jinaclip.bulk.report import keep_first, name_repeats
from jinaclip.bulk.run import make_options, open_checked, shape_of
from jinaclip.call.request import Task
from jinaclip.clip import JinaClip
from jinaclip.errors import ConfigError
from jinaclip.inputs import Image, Pair
from jinaclip.numeric import is_number
from jinaclip.sources import Columns, Source, SourceRow, close_documents
from jinaclip.sources.opening import SourceLike
from jinaclip.sources.references import Stored

AT_ONCE = 64
"""Rows that are looked at together."""


@dataclass(slots=True)
class Plan:
    """What a run would do. `str` of it is what `jinaclip embed --dry-run` prints.

    Attributes:
        items: in the source, as far as this run looks at it.
        done: items that have their vector.
        failed: items that failed before and would not be tried again.
        copied: items that would get the vector of another with the same content.
        repeated: items whose id came before.
        unusable: items that are known to fail.
        texts, images: that would be embedded.
        tokens: about what they would be billed; what the cache has costs nothing, as far as that is known.
        tiles: of images, of which each is billed.
        price: of a million tokens, or None.
        whole: whether all of the source was looked at.
        repeats: the first of those whose id came before: which.
    """

    items: int = 0
    done: int = 0
    failed: int = 0
    copied: int = 0
    repeated: int = 0
    unusable: int = 0
    texts: int = 0
    images: int = 0
    tokens: int = 0
    tiles: int = 0
    price: float | None = None
    whole: bool = False
    repeats: list[str] = field(default_factory=list)

    @property
    def money(self) -> float | None:
        """What the tokens cost, in the currency of the price; None without a price."""
        return None if self.price is None else self.tokens * self.price / 1e6

    def __str__(self) -> str:
        limited = "" if self.whole else " (the first; --limit)"
        known = f"done already {self.done:,}, failed before {self.failed:,}, same content {self.copied:,}"
        wrong = f"repeated ids {self.repeated:,}, unusable {self.unusable:,}"
        images = f"{self.images:,} images ({self.tiles:,} tiles)"
        lines = [
            f"items {self.items:,}{limited}: {known}, {wrong}",
            f"to embed: {self.texts:,} texts, {images}, about {self.tokens:,} tokens",
        ]
        if self.money is not None:
            lines.append(f"about {format_money(self.money)} at {self.price:g} for a million tokens")
        return "\n".join(lines + name_repeats(self.repeats, self.repeated))


def plan(
    source: SourceLike,
    out: str | os.PathLike[str],
    *,
    id: str | None = None,  # noqa: A002  the column's own name
    text: str | None = None,
    image: str | None = None,
    pair: PairMode | None = None,
    weight: float = 0.5,
    task: Task = "document",
    precision: Precision = "float32",
    retry_failed: bool = False,
    limit: int | None = None,
    shard: str | Shard | None = None,
    price: float | None = None,
    clip: JinaClip | None = None,
    **options: Any,
) -> Plan:
    """What `embed` with these options would do and cost. Nothing is sent or written, and no key is needed.

    All of the source is read, and its files, unless nothing is done yet and their sizes do not matter.

    Args:
        source: as for `embed`, like all that is not said here.
        out: the output, which need not be there.
        id: a column.
        text: a column.
        image: a column.
        pair: what becomes of a row with both.
        weight: of the text.
        task: what texts are.
        precision: of the output.
        retry_failed: whether what failed is counted as to embed.
        limit: most rows.
        shard: which share.
        clip: counts, instead of one that is made of `options`.
        price: of a million tokens.
        options: of JinaClip.

    Raises:
        ConfigError: as `embed`, or the price is no number from 0.
        MissingDependencyError: an extra is not installed.
        InputError: the source cannot be read to its end.
        OSError: the output cannot be read.
    """
    if price is not None and not (is_number(price) and price >= 0):
        raise ConfigError(f"price={price!r} must be a number from 0", option="price")
    bulk = make_options(
        clip,
        options,
        columns=Columns(id, text, image),
        pair=pair,
        weight=weight,
        task=task,
        precision=precision,
        retry_failed=retry_failed,
        limit=limit,
        shard=read_shard(shard),
    )
    opened = open_checked(source, out, bulk)
    with ExitStack() as stack:
        stack.callback(close_documents)
        if clip is None:
            clip = stack.enter_context(JinaClip(**bulk.clip))
        output = stack.enter_context(Output(OutputFolder(out), shape_of(clip, bulk), shard=bulk.shard, read_only=True))
        return DryRun(clip, opened, output, bulk, price).run()


class DryRun:
    """Counts what a run would do. Arguments as of `Pipeline`."""

    def __init__(
        self, clip: JinaClip, source: Source, output: Output, options: BulkOptions, price: float | None
    ) -> None:
        self.plan = Plan(price=price)
        self._contents = Index()
        """Contents that are to be embedded: what comes again with another id is copied."""
        self._clip, self._source, self._output, self._options = clip, source, output, options

    def run(self) -> Plan:
        """The plan of all rows."""
        rows = self._rows()
        while chunk := list(islice(rows, AT_ONCE)):
            self._count(chunk)
        return self.plan

    def _rows(self) -> Iterator[SourceRow]:
        options = self._options
        for number, row in enumerate(self._source.rows()):
            if options.limit is not None and number >= options.limit:
                return
            check_row(row, options)
            if options.owns(row.id):
                yield row
        self.plan.whole = True

    @property
    def _reads_files(self) -> bool:
        """Whether anything depends on what is in a file: whether it is done, whether the cache has it, its size."""
        clip = self._clip
        return len(self._output) > 0 or clip.cache is not None or clip.config.image_resize == "none"

    def _count(self, rows: Sequence[SourceRow]) -> None:
        items = [item for row in rows for item in self._items(row)]
        found, plan = self._output.look_up(items), self.plan
        plan.items += len(items)
        plan.done += int((found == DONE).sum())
        plan.copied += int((found == COPY).sum())
        for place in np.flatnonzero(found == REPEATED):
            plan.repeated += 1
            keep_first(plan.repeats, name_item(items[place]))
        wanted = (found == ABSENT) | ((found == FAILED) & self._options.retry_failed)
        plan.failed += int((found == FAILED).sum()) if not self._options.retry_failed else 0
        missing = [items[place] for place in np.flatnonzero(wanted)]
        plan.unusable += sum(item.error is not None for item in missing)
        self._count_tokens(self._first_of([item for item in missing if item.error is None]))

    def _first_of(self, items: list[Item]) -> list[Item]:
        """The items whose content did not come before; counts the others as copied."""
        digests = digests_of(items)
        first = np.flatnonzero(self._contents.mark(digests, digests) == ABSENT)
        self.plan.copied += len(items) - len(first)
        return [items[place] for place in first]

    def _items(self, row: SourceRow) -> list[Item]:
        options, policy = self._options, self._clip.config.image_policy
        if isinstance(row.image, Stored) and not self._reads_files:
            row = replace(row, image=Image.from_bytes(b"not read: " + row.id.encode()))  # nobody decodes it
        return items_of(row, options.pair, options.weight, policy)

    def _count_tokens(self, items: Sequence[Item]) -> None:
        """Counts what embedding these would take."""
        clip, plan = self._clip, self.plan
        halves = [half for item in items for half in halves_of(item)]
        texts = [half for half in halves if isinstance(half, str)]
        images = [half for half in halves if not isinstance(half, str)]
        per_text, per_image = clip.count_tokens(texts, task=self._options.task), clip.count_tokens(images)
        per_tile = clip.spec.tokens_per_tile  # 0 for weights on this machine, where an image has no price
        usable = [image for image, tokens in zip(images, per_image, strict=True) if tokens or not per_tile]
        plan.unusable += len(images) - len(usable)
        plan.texts += len(texts)
        plan.images += len(usable)
        plan.tiles += sum(per_image) // per_tile if per_tile else len(usable)
        if clip.cache is None:
            plan.tokens += sum(per_text) + sum(per_image)
        else:
            plan.tokens += clip.estimate([*texts, *usable], task=self._options.task).tokens


def format_money(money: float) -> str:
    """An amount with two decimals; a small one with two digits, since 0.00 would say that it is free."""
    if 0 < money < 0.0001:
        return "less than 0.0001"
    return f"{money:,.2f}" if money >= 1 or not money else f"{money:.2g}"


def halves_of(item: Item) -> Iterable[Any]:
    """The text and the image of an item, as far as it has them."""
    return item.content.halves if isinstance(item.content, Pair) else (item.content,)
