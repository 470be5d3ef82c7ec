"""What is searched with: a text, an image in any form that Haystack has for one, several images, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, cast

from haystack.dataclasses import ByteStream, ImageContent

from haystack_integrations.components.embedders.jinaclip._documents import usage_meta
from haystack_integrations.components.embedders.jinaclip._options import QueryOptions
from jinaclip import Image, InputError, JinaClip, Results, fuse, truncate
from jinaclip.hosts import Steps, aembed, aembed_query, check_weight, embed, embed_query, is_blank, wait_for

OneImage: TypeAlias = ImageContent | None | ByteStream | Path | str  # noqa: RUF036
"""None is what DocumentToImageContent gives for a document that it cannot convert. Haystack compares the types of a
union one by one with those of a sender's, ImageContent | None, so these two come first."""
ImageInput: TypeAlias = ImageContent | None | ByteStream | Path | str | list[OneImage]  # noqa: RUF036
"""What an input named `image` takes."""


@dataclass(frozen=True, slots=True, repr=False)
class Query:
    """What is searched with.

    Attributes:
        text: prefix and suffix included; None if there is no text.
        images: without None.
        weight: share of the text where there are both.
    """

    text: str | None
    images: Sequence[Any] = ()
    weight: float = 0.5

    @classmethod
    def of(cls, text: Any, image: Any, options: QueryOptions, *, weight: float | None = None, component: str) -> Self:
        """The query of a run.

        Args:
            text: as the run was given it; blank is none.
            image: as the run was given it.
            options: of the component.
            weight: of the run; None takes the component's.
            component: its name.

        Raises:
            TypeError: the text or the image is nothing of the kind.
            ConfigError: the weight is out of range.
        """
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{component} takes a str as its text, not {type(text).__name__}")
        whole = None if text is None or is_blank(text) else options.prefix + text + options.suffix
        return cls(whole, read_images(image, component), check_weight(options.weight if weight is None else weight))

    def parts(self) -> list[Part]:
        """What of it is embedded. Raises InputError if there is nothing."""
        texts = [] if self.text is None else [Part("text", self.text)]
        images = [Part("image", image) for image in self.images]
        if not texts and not images:
            raise InputError("there is nothing to search with: no text, and no image")
        if texts and images:
            return [*(texts if self.weight > 0 else []), *(images if self.weight < 1 else [])]
        return texts or images


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """A text or an image of a query."""

    kind: Literal["text", "image"]
    value: Any

    def resolve(self, clip: JinaClip) -> str | Image:
        """What is embedded of it. Raises InputError if the policy refuses it."""
        return self.value if self.kind == "text" else as_image(self.value, clip)


def embed_search(clip: JinaClip, query: Query) -> Steps[dict[str, Any]]:
    """Embeds what is searched with, in one call.

    Args:
        clip: embeds it.
        query: of which at least one half is there.

    Returns:
        `embedding`, a list of floats, and `meta` with the model and the tokens used.

    Raises:
        InputError: there is nothing, or it cannot be embedded.
        JinaClipError: the backend failed.
    """
    parts = query.parts()
    results = yield from embed_parts(clip, parts)
    results.unwrap()
    return {"embedding": combine(parts, results, query.weight), "meta": usage_meta(clip, results.usage.tokens)}


def embed_parts(clip: JinaClip, parts: list[Part]) -> Steps[Results]:
    """Embeds the parts of a query, for which somebody waits."""
    if len(parts) == 1:  # a text is read without a thread then
        (part,) = parts
        convert = None if part.kind == "text" else partial(as_image, clip=clip)
        return (yield from wait_for(embed_query, aembed_query, clip, part.value, convert, kind=part.kind))

    def read(part: Part) -> str | Image:
        return part.resolve(clip)

    def name(_: int, part: Part) -> str:
        return f"the {part.kind}"

    return (yield from wait_for(embed, aembed, clip, parts, read, task="query", name=name, strict=True, urgent=True))


def combine(parts: list[Part], results: Results, weight: float) -> list[float]:
    """One vector of the parts of a query: a single one as it is; of several images the mean, fused with the text."""
    rows = results.unwrap()
    if len(parts) == 1:
        return cast("list[float]", rows[0].tolist())
    width = rows.shape[1]
    unit = truncate(rows, width)
    images = [place for place, part in enumerate(parts) if part.kind == "image"]
    image = truncate(unit[images].mean(axis=0), width)
    return cast("list[float]", (fuse(unit[0], image, weight) if len(images) < len(parts) else image).tolist())


def read_images(image: Any, component: str) -> list[Any]:
    """The images of an input, without None and blank strings, with which agents fill in what they leave out.

    Raises:
        TypeError: there is something else among them.
    """
    given = image if isinstance(image, list) else [image]
    for one in given:
        if one is not None and not isinstance(one, str | Path | ByteStream | ImageContent):
            kinds = f"a str, Path, ByteStream or ImageContent, or a list of them, not {type(one).__name__}"
            others = "see JinaClipDocumentImageEmbedder, JinaClipTextEmbedder"
            raise TypeError(f"{component} takes {kinds}; {others}")
    return [one for one in given if one is not None and not (isinstance(one, str) and is_blank(one))]


def as_image(image: str | Path | ByteStream | ImageContent, clip: JinaClip) -> Image:
    """The image, not yet opened. Raises InputError if the policy refuses it."""
    if isinstance(image, ByteStream):
        return Image.from_bytes(image.data)
    if isinstance(image, ImageContent):
        return Image.from_base64(image.base64_image, max_bytes=clip.config.image_policy.max_bytes)
    return clip.resolve_image(image)
