"""Zero-shot classification: which of some labels fits an image or a text best, and how clearly."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.errors import ConfigError, InputError, JinaClipError, Partial, rename
from jinaclip.inputs import Image, as_image, as_text, many
from jinaclip.vectors import Vectors, normalize

if TYPE_CHECKING:
    from jinaclip.clip import JinaClip

TEMPLATE = "a photo of a {}"
TEMPERATURE = 0.01
"""What cosines are divided by where the checkpoint's own logit scale is not known: contrastive training usually ends
with a scale of 100, its customary ceiling. Which label wins does not depend on it, only how clearly."""
PICTURE_NAME = re.compile(
    r"""\s*(?:
        (?:https?://|file:/)\S*
        | data:image/[\w.+-]+[;,]\S.*  # base64 may come in lines
        | (?:
            (?:\.{0,2}/|~|[a-z]:[\\/])[^\n]*  # a path
            | (?:[^\s:;,!?]*[^\s:;,!?.][^\S\n]+){0,5}\S*  # a name of a few words, and no mark that ends a clause
        )\.(?:jpe?g|png|webp|gif|bmp|tiff?|avif|heic)(?:\?\S*)?
    )\s*""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""What a str looks like when a picture was meant. A sentence that ends with the name of a picture is a text."""
SHOWN = 64
"""Characters of an item that a message shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What `classify` found."""

    labels: tuple[str, ...]
    probabilities: Vectors
    """float32 of shape (items, labels); each row sums to 1."""
    scale: float
    """What cosines were multiplied with before the softmax: 1 / temperature."""

    @property
    def best(self) -> list[str]:
        """The most probable label of each item."""
        return [self.labels[i] for i in self.probabilities.argmax(axis=1)]


def classify(
    clip: JinaClip,
    images_or_texts: Iterable[Any],
    labels: Iterable[str],
    *,
    template: str = TEMPLATE,
    temperature: float | None = None,
) -> Classification:
    """Tells which label fits each item best, without training.

    Labels and texts are embedded as documents: neither gets the instruction of queries.

    Args:
        clip: embeds items and labels.
        images_or_texts: images as `JinaClip.embed_images` takes them, but for plain strings: a str is a text here. One
            that looks like the name or address of a picture is refused; pass a Path, or `Image.from_url(...)`.
        labels: at least two different ones.
        template: what is embedded for a label; `{}` is where the label goes. "{}" is the label alone.
        temperature: what cosines are divided by. None takes the checkpoint's own on the local backend, 1 / exp of its
            logit scale. The hosted API does not tell it; there None is `TEMPERATURE`, 0.01, and how sure the
            probabilities look is a guess. Which label wins does not depend on it, unless it is so large that float32
            holds equal probabilities; of equal ones the first label wins.

    Returns:
        Probabilities, float32 of shape (items, labels). No items give (0, labels), and nothing is embedded.

    Raises:
        ConfigError: the template has no `{}`, or the temperature is not positive.
        InputError: an item or a label is unusable; of an item, `.index` says which.
        JinaClipError: the backend failed; `.partial` holds the vectors of items that were embedded.
    """
    call = Call(images_or_texts, labels, template, temperature)
    with call.renumbered(call.pictures):  # before texts are paid for
        clip.look_through(images=call.pictures.values())
    with call.renumbered(call.texts):
        words = clip.embed_documents(call.words)
    with call.renumbered(call.pictures):
        pictures = clip.embed_images(list(call.pictures.values()))
    return call.concluded(words, pictures, clip.logit_scale)


async def aclassify(
    clip: JinaClip,
    images_or_texts: Iterable[Any],
    labels: Iterable[str],
    *,
    template: str = TEMPLATE,
    temperature: float | None = None,
) -> Classification:
    """`classify` without blocking the event loop."""
    call = await asyncio.to_thread(Call, images_or_texts, labels, template, temperature)
    with call.renumbered(call.pictures):
        await asyncio.to_thread(clip.look_through, images=call.pictures.values())
    with call.renumbered(call.texts):
        words = await clip.aembed_documents(call.words)
    with call.renumbered(call.pictures):
        pictures = await clip.aembed_images(list(call.pictures.values()))
    return call.concluded(words, pictures, await asyncio.to_thread(lambda: clip.logit_scale))


class Call:
    """What is to be embedded for a classification, and what its vectors mean.

    Attributes:
        texts, pictures: the items of each kind, by the caller's index.
        words: all that is text, the labels last.
    """

    def __init__(self, items: Iterable[Any], labels: Iterable[str], template: str, temperature: float | None) -> None:
        self.labels = checked_labels(labels)
        self.scale = checked_scale(temperature)
        prompts = checked_prompts(template, self.labels)
        self.texts, self.pictures = parted(many(items, "images_or_texts", "[item]"))
        self.words = [*self.texts.values(), *prompts] if self.texts or self.pictures else []

    @contextmanager
    def renumbered(self, chosen: Mapping[int, Any]) -> Iterator[None]:
        """Turns the indices of an error, counted among the chosen items, into the caller's."""
        try:
            yield
        except JinaClipError as error:
            places, partial = dict(enumerate(chosen)), error.partial
            if error.index is not None:
                error.index = places.get(error.index)
                rename(error, "a label" if error.index is None else f"item {error.index}")
            error.partial = Partial(
                {places[i]: vector for i, vector in partial.vectors.items() if i in places},
                {places[i]: found for i, found in partial.errors.items() if i in places},
            )
            raise

    def concluded(self, words: Vectors, pictures: Vectors, logit_scale: float | None) -> Classification:
        """The softmax over scaled cosines."""
        scale = self.scale or (1 / TEMPERATURE if logit_scale is None else math.exp(logit_scale))
        count = len(self.texts) + len(self.pictures)
        if not count:
            return Classification(self.labels, np.empty((0, len(self.labels)), np.float32), scale)
        rows = np.empty((count, words.shape[1]), np.float32)
        rows[list(self.texts)] = words[: len(self.texts)]
        rows[list(self.pictures)] = pictures
        logits = scale * (normalize(rows) @ normalize(words[len(self.texts) :]).T).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Classification(self.labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), scale)


def checked_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels.

    Raises:
        InputError: one is no text or stands twice, or there are fewer than two.
    """
    names = tuple(as_text(label, index).value for index, label in enumerate(many(labels, "labels", "[label]")))
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"the label {twice!r} stands twice among the labels; leave one out")
    if len(names) < 2:
        raise InputError(f"labels must be at least two, not {len(names)}: of one alone the probability is always 1")
    return names


def checked_prompts(template: str, labels: Iterable[str]) -> list[str]:
    """What is embedded for the labels.

    Raises:
        ConfigError: the template has no place for the label.
    """
    if not isinstance(template, str) or "{}" not in template:
        raise ConfigError(f"template={template!r} must be a str with {{}} where the label goes, like {TEMPLATE!r}")
    return [template.replace("{}", label) for label in labels]


def checked_scale(temperature: float | None) -> float | None:
    """1 / temperature.

    Raises:
        ConfigError: it is not positive.
    """
    if temperature is None:
        return None
    number = isinstance(temperature, int | float | np.number) and not isinstance(temperature, bool)
    if not number or not 0 < temperature < math.inf:
        raise ConfigError(f"temperature={temperature!r} must be a positive number, or None")
    return 1 / float(temperature)


def parted(items: Iterable[Any]) -> tuple[dict[int, str], dict[int, Image]]:
    """Texts and images by index.

    Raises:
        InputError: an item is neither, or could be either; `.index` says which.
    """
    texts, pictures = dict[int, str](), dict[int, Image]()
    for index, item in enumerate(items):
        if not isinstance(item, str):
            pictures[index] = as_image(item, index)
        elif PICTURE_NAME.fullmatch(item):
            shown = item if len(item) <= SHOWN else f"{item[:SHOWN]}..."
            raise InputError(
                f"item {index}, {shown!r}, is a str, which is a text here, but looks like a picture; "
                "pass pathlib.Path(...) or jinaclip.Image.from_url(...)",
                index=index,
            )
        else:
            texts[index] = as_text(item, index).value
    return texts, pictures
