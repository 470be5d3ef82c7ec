"""Zero-shot classification: which of some labels fits an image or a text best, and how clearly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.errors import ConfigError, InputError
from jinaclip.hosts import aembed, embed
from jinaclip.inputs import Pair, as_text, is_held, iterate
from jinaclip.numeric import is_number
from jinaclip.process import run_in_thread
from jinaclip.vectors import Vectors, normalize

if TYPE_CHECKING:
    from jinaclip.clip import JinaClip

TEMPLATE = "a photo of a {}"
TEMPERATURE = 0.01
"""What cosines are divided by where the checkpoint's own logit scale is not known: contrastive training usually ends
with a scale of 100, its customary ceiling. Which label wins does not depend on it, only how clearly."""
IMAGE_NAME = re.compile(
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
"""What a str looks like when an image was meant. A sentence that ends with the name of an image is a text."""
LONGEST_QUOTE = 64
"""Characters of an item that a message quotes."""


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

    Labels and texts are embedded as documents: neither gets the instruction of queries. Items and labels are embedded
    in one call.

    Args:
        clip: embeds items and labels.
        images_or_texts: images as `JinaClip.embed_images` takes them, but for plain strings: a str is a text here. One
            that looks like the name or address of an image is refused; pass a Path, or `Image.from_url(...)`.
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
        InputError: an item or a label is unusable; `.index` says which item, the message which label.
        JinaClipError: the backend failed; `.partial` holds the vectors of items and labels that were embedded.
    """
    question = Question(labels, template, temperature)
    inputs = question.inputs(images_or_texts)
    results = embed(clip, inputs, read_item, name=name_item, strict=True)
    return question.answer(results.unwrap(), clip.logit_scale)


async def aclassify(
    clip: JinaClip,
    images_or_texts: Iterable[Any],
    labels: Iterable[str],
    *,
    template: str = TEMPLATE,
    temperature: float | None = None,
) -> Classification:
    """`classify` without blocking the event loop."""
    question = Question(labels, template, temperature)
    if is_held(images_or_texts):  # taken as they are now, before anybody else can change the list
        inputs = question.inputs(images_or_texts)
    else:
        inputs = await run_in_thread(question.inputs, images_or_texts)
    results = await aembed(clip, inputs, read_item, name=name_item, strict=True)
    return question.answer(results.unwrap(), await run_in_thread(lambda: clip.logit_scale))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is embedded for a label."""

    label: str
    text: str


class Question:
    """The labels of a classification, and what vectors say about them; for hosts that embed items their own way.

    Args: as those of `classify`.

    Raises:
        ConfigError: the template has no `{}`, or the temperature is not positive.
        InputError: a label is unusable.
    """

    def __init__(self, labels: Iterable[str], template: str, temperature: float | None) -> None:
        self.labels = read_labels(labels)
        self.scale = scale_of(temperature)
        self.prompts = make_prompts(template, self.labels)

    @property
    def texts(self) -> list[str]:
        """What is embedded for the labels, as documents."""
        return [prompt.text for prompt in self.prompts]

    def inputs(self, items: Iterable[Any]) -> list[Any]:
        """What is to be embedded: the items, then the prompts of the labels. Nothing where there are no items."""
        values = list(iterate(items, "images_or_texts", "[item]"))
        return [*values, *self.prompts] if values else []

    def answer(self, vectors: Vectors, logit_scale: float | None) -> Classification:
        """The softmax over scaled cosines.

        Args:
            vectors: of the items and then of the labels, a row each; no rows at all where there are no items.
            logit_scale: of the JinaClip that made them; None if it is not known.
        """
        scale = self.scale or (1 / TEMPERATURE if logit_scale is None else math.exp(logit_scale))
        if not len(vectors):
            return Classification(self.labels, np.empty((0, len(self.labels)), np.float32), scale)
        unit = normalize(vectors)
        items, prompts = np.split(unit, [len(unit) - len(self.labels)])
        logits = scale * (items @ prompts.T).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Classification(self.labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), scale)


def read_item(item: Any) -> Any:
    """What is embedded for an item or a prompt.

    Raises:
        InputError: it is a str that looks like the name or address of an image.
    """
    if isinstance(item, Prompt):
        return item.text
    if isinstance(item, str) and IMAGE_NAME.fullmatch(item):
        quote = item if len(item) <= LONGEST_QUOTE else f"{item[:LONGEST_QUOTE]}..."
        raise InputError(
            f"{quote!r} is a str, which is a text here, but looks like an image; "
            "pass pathlib.Path(...) or jinaclip.Image.from_url(...)"
        )
    return item


def name_item(_: int, item: Any) -> str:
    """What messages call an item or a prompt."""
    if isinstance(item, Prompt):
        return f"the label {item.label!r}"
    return "text" if isinstance(item, str) else "pair" if isinstance(item, Pair) else "image"


def read_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels.

    Raises:
        InputError: one is no text or stands twice, or there are fewer than two.
    """
    names = list[str]()
    for number, label in enumerate(iterate(labels, "labels", "[label]")):
        try:
            names.append(as_text(label).value)
        except InputError as error:
            raise InputError(f"label {number}: {error}") from None
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"the label {twice!r} stands twice among the labels; leave one out")
    if len(names) < 2:
        raise InputError(f"labels must be at least two, not {len(names)}: of one alone the probability is always 1")
    return tuple(names)


def make_prompts(template: str, labels: Iterable[str]) -> list[Prompt]:
    """What is embedded for the labels.

    Raises:
        ConfigError: the template has no place for the label.
    """
    if not isinstance(template, str) or "{}" not in template:
        raise ConfigError(f"template={template!r} must be a str with {{}} where the label goes, like {TEMPLATE!r}")
    return [Prompt(label, template.replace("{}", label)) for label in labels]


def scale_of(temperature: float | None) -> float | None:
    """1 / temperature.

    Raises:
        ConfigError: it is not positive.
    """
    if temperature is None:
        return None
    if not is_number(temperature) or not 0 < temperature < math.inf:
        raise ConfigError(f"temperature={temperature!r} must be a positive number, or None")
    return 1 / float(temperature)
