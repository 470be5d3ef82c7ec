"""JinaClip: plan, embed, assemble."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Self

from jinaclip.backends.base import Backend
from jinaclip.call import request as plan
from jinaclip.call.call import Job
from jinaclip.call.estimate import Estimate, image_tokens
from jinaclip.call.request import Plan
from jinaclip.call.usage import Usage
from jinaclip.config import EmbedderConfig, configured
from jinaclip.errors import ConfigError, InputError, JinaClipError, MissingDependencyError, Partial
from jinaclip.fusion import check_weight, fuse
from jinaclip.inputs import Image, ImageLike, Text
from jinaclip.self_test import CheckReport, check
from jinaclip.specs import ModelSpec, find_spec
from jinaclip.vectors import Vectors

FINGERPRINT_SCHEMA = 1
"""Raised whenever the same options come to mean other vectors."""


class JinaClip:
    """Texts and images as vectors in one space.

    Takes the options of `EmbedderConfig` as keywords; the model comes first. Safe to use from many threads and event
    loops at once. Settings travel through pickle, deepcopy and fork; connections and weights do not, nor does the key
    through pickle.

    Raises:
        ConfigError: an option is wrong, or does not fit the model.
        MissingDependencyError: the backend needs an extra that is not installed.
    """

    @configured(EmbedderConfig)
    def __init__(self, config: EmbedderConfig) -> None:
        self.config = config
        self._backend = open_backend(config)
        check_dimensions(config.dimensions, self.spec)

    # -- what it is

    @property
    def spec(self) -> ModelSpec:
        """Facts of the model."""
        return self._backend.spec

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return self.config.dimensions or self.spec.dimensions

    @property
    def logit_scale(self) -> float | None:
        """Logarithm of what training multiplied cosines with; None on the API. The local backend loads its weights."""
        return self._backend.logit_scale

    @property
    def usage(self) -> Usage:
        """Running totals of this object."""
        return self._backend.usage

    @property
    def fingerprint(self) -> str:
        """A short string that is the same in every process and changes whenever the vectors would."""
        policy = self.config.image_policy
        facts = {
            "schema": FINGERPRINT_SCHEMA,
            "model": self.spec.name,
            "backend": self.config.backend,
            "dimensions": self.dimensions,
            "normalized": self.config.normalized,
            "resize": self.config.image_resize,
            "quality": self.config.image_quality,
            "url_mode": self.config.url_mode,
            "picture": [policy.orient, policy.background, policy.frame],
            **self._backend.identity,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        name = re.sub(r"[^A-Za-z0-9._-]", "-", self.spec.name)  # caches name files and collections after it
        return f"{name}-{digest[:16]}"

    def __repr__(self) -> str:
        if "_backend" not in vars(self):  # an error report shows the object that could not be made
            return "JinaClip(not set up)"
        return f"JinaClip({self.config.model!r}, backend={self.config.backend!r}, dimensions={self.dimensions})"

    # -- embed

    def embed_query(self, text: str) -> Vectors:
        """A query as a vector, float32 of shape (d,). On v2 the model's instruction for queries goes before it.

        Raises:
            InputError: the text is no str, blank, or too long.
            JinaClipError: the backend failed; see `jinaclip.errors`.
        """
        return self._run(plan.query(text))[0]

    async def aembed_query(self, text: str) -> Vectors:
        """`embed_query` without blocking the event loop."""
        return (await self._arun(plan.query(text)))[0]

    def embed_documents(self, texts: Iterable[str]) -> Vectors:
        """Texts as vectors, float32 of shape (n, d), rows in input order; no texts give (0, d) and no request.

        A list is looked through before anything is sent; a generator is read as it is needed.

        Raises:
            InputError: an item is no text; `.index` says which, `.partial` holds what the others became.
            JinaClipError: the backend failed; `.partial` holds what was already embedded.
        """
        return self._run(plan.documents(texts))

    async def aembed_documents(self, texts: Iterable[str]) -> Vectors:
        """`embed_documents` without blocking the event loop."""
        return await self._arun(plan.documents(texts))

    def embed_image(self, image: ImageLike) -> Vectors:
        """An image as a vector, float32 of shape (d,).

        Args:
            image: a path, an https or data: URL, bytes, BytesIO, PIL picture, uint8 array or `jinaclip.Image`.

        Raises:
            InputError: it cannot be opened, or `image_policy` does not allow it.
            JinaClipError: the backend failed.
        """
        return self._run(plan.picture(image, self.config.image_policy, snapshot=False))[0]

    async def aembed_image(self, image: ImageLike) -> Vectors:
        """`embed_image` without blocking the event loop."""
        item = await asyncio.to_thread(plan.picture, image, self.config.image_policy, snapshot=True)
        return (await self._arun(item))[0]

    def embed_images(self, images: Iterable[ImageLike]) -> Vectors:
        """Images as vectors, float32 of shape (n, d), rows in input order.

        Of a list, paths, addresses and types are looked at before anything is sent. Pictures are decoded as they are
        needed; one that turns out broken gets an error, the others their vectors.

        Raises:
            InputError: an item is no usable image; `.index` says which, `.partial` holds the vectors of the others.
            JinaClipError: the backend failed; `.partial` holds what was already embedded.
        """
        return self._run(plan.pictures(images, self.config.image_policy, snapshot=False))

    async def aembed_images(self, images: Iterable[ImageLike]) -> Vectors:
        """`embed_images` without blocking the event loop."""
        return await self._arun(await asyncio.to_thread(plan.pictures, images, self.config.image_policy, snapshot=True))

    def embed_pairs(self, pairs: Iterable[tuple[str, ImageLike]], *, weight: float = 0.5) -> Vectors:
        """The text and the image of each pair as one vector, float32 of shape (n, d), always at length 1.

        Args:
            pairs: (text, image) each.
            weight: share of the text, from 0 to 1; see `fuse`.

        Raises:
            InputError: an item is no pair, or half of it is unusable; `.partial` holds the other pairs' vectors.
            JinaClipError: the backend failed; `.partial` holds the pairs already embedded.
        """
        check_weight(weight)
        halves = plan.pairs(pairs, self.config.image_policy, snapshot=False)
        return fuse_halves(lambda: self._run(halves), weight)

    async def aembed_pairs(self, pairs: Iterable[tuple[str, ImageLike]], *, weight: float = 0.5) -> Vectors:
        """`embed_pairs` without blocking the event loop."""
        check_weight(weight)
        halves = await asyncio.to_thread(plan.pairs, pairs, self.config.image_policy, snapshot=True)
        job = await self._answer(halves)
        return fuse_halves(job.result, weight)

    def _run(self, items: Plan) -> Vectors:
        job = self._job(items)
        if items.total != 0:
            with job.ending():  # so that Ctrl-C, too, comes with what was embedded until then
                self._backend.embed(job)
        return job.result()

    async def _arun(self, items: Plan) -> Vectors:
        return (await self._answer(items)).result()

    async def _answer(self, items: Plan) -> Job:
        job = self._job(items) if items.quick else await asyncio.to_thread(self._job, items)
        if items.total != 0:
            await self._backend.aembed(job)
        return job

    def _job(self, items: Plan) -> Job:
        if self.config.token_budget is not None and isinstance(items.items, list):
            self._backend.check_budget(sum(map(self._tokens, items.items)))
        return Job(items, self.dimensions, progress=self.config.show_progress)

    # -- before sending, and to show

    def preview(self, image: ImageLike, *, side: int = 512) -> bytes:
        """A JPEG file of the whole picture for people and chat models, its longer side at most `side` pixels.

        Opens what `embed_image` would open, under the same `image_policy`. Blocks; nothing is sent to the service.

        Raises:
            InputError: it cannot be opened, or `image_policy` does not allow it.
        """
        from jinaclip import images

        return images.preview(self.accept(image), policy=self.config.image_policy, side=side)

    def accept(self, image: ImageLike) -> Image:
        """The image, if `image_policy` allows it as far as can be told without opening or fetching it.

        Raises:
            InputError: it does not, or it is no image.
        """
        return plan.usable_image(image, None, self.config.image_policy)

    def look_through(self, texts: Iterable[str] = (), images: Iterable[ImageLike] = ()) -> None:
        """Refuses what a call with these would refuse before it sends anything; for those who call in batches.

        Raises:
            InputError: an item is no text, or no image that `image_policy` allows; `.index` says which.
        """
        self._items(texts, images)

    def check_budget(self, tokens: int) -> None:
        """Refuses what would exceed `token_budget`; for those who call in batches, and know what all will take.

        Raises:
            BudgetError: so many tokens are not left.
        """
        self._backend.check_budget(tokens)

    def _items(self, texts: Iterable[str], images: Iterable[ImageLike]) -> list[plan.Item]:
        return [
            *plan.documents(list(plan.several(texts, "texts"))).items,
            *plan.pictures(list(plan.several(images, "images")), self.config.image_policy, snapshot=False).items,
        ]

    def estimate(self, texts: Iterable[str] = (), images: Iterable[ImageLike] = ()) -> Estimate:
        """About how many requests and tokens embedding these would take; duplicates are not looked for.

        Texts are counted by the tokenizer where there is one, else at 1.1 tokens a word; images by tile, as they would
        be sent. Nothing is sent to the service; image URLs are fetched only where `image_resize="none"` needs sizes.

        Raises:
            InputError: an item is no text or no image.
        """
        items = self._items(texts, images)
        tokens = sum(map(self._tokens, items))
        return Estimate(self._backend.requests_for(len(items), tokens), tokens)

    def _tokens(self, item: plan.Item) -> int:
        """What an item would be billed."""
        if isinstance(item, Text):
            return self._backend.count_tokens(item.value)
        as_it_is = self.config.image_resize == "none" and self.spec.tokens_per_tile
        if not as_it_is or not isinstance(item, Image) or (item.kind == "url" and self.config.url_mode == "forward"):
            return self.spec.tokens_per_tile
        from jinaclip import images

        return image_tokens(*images.size(item, self.config.image_policy), self.spec.name)

    def check(self) -> CheckReport:
        """Embeds one text and one picture and reports what came back; the backend's errors become `problems`."""
        return check(self)

    # -- life

    def close(self) -> None:
        """Frees connections or weights. The object can be used again, and closed again."""
        self._backend.close()

    async def aclose(self) -> None:
        """`close`, with the connections of the running loop."""
        await self._backend.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.config = state["config"]
        self._backend = open_backend(self.config)


def open_backend(config: EmbedderConfig) -> Backend:
    """The backend of a configuration.

    Raises:
        MissingDependencyError: it needs an extra that is not installed.
    """
    if config.backend == "api":
        from jinaclip.backends.api.backend import ApiBackend

        return ApiBackend(config, find_spec(config.model))
    try:
        from jinaclip.backends.local.backend import LocalBackend
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(
            f"backend='local' needs {missing.name}, which is not installed: pip install 'jinaclip[local]'"
        ) from None
    return LocalBackend(config)


def check_dimensions(dimensions: int | None, spec: ModelSpec) -> None:
    """Whether the model can be cut to this width.

    Raises:
        ConfigError: it cannot.
    """
    if dimensions is None:
        return
    if not spec.min_dimensions <= dimensions <= spec.dimensions:
        only = (
            f"{spec.min_dimensions} to {spec.dimensions}" if spec.min_dimensions < spec.dimensions else spec.dimensions
        )
        raise ConfigError(f"dimensions={dimensions} does not fit {spec.name}, which gives {only}")
    if dimensions < spec.useful_dimensions:
        warnings.warn(
            f"{spec.name} is known to work down to {spec.useful_dimensions} dimensions; {dimensions} will cost quality",
            stacklevel=5,
        )


def fuse_halves(embed: Callable[[], Vectors], weight: float) -> Vectors:
    """Fuses rows that stand text, image, text, image; keeps whole pairs in `.partial` when something failed."""
    try:
        rows = embed()
    except JinaClipError as error:
        error.partial = fuse_partial(error.partial, weight)
        raise
    try:
        return fuse(rows[0::2], rows[1::2], weight)
    except InputError as error:
        error.partial = fuse_partial(Partial(dict(enumerate(rows))), weight)
        raise


def fuse_partial(halves: Partial, weight: float) -> Partial:
    """The pairs of which both halves are there."""
    fused: dict[int, Vectors] = {}
    errors = {index // 2: error for index, error in sorted(halves.errors.items(), reverse=True)}
    for index in sorted(halves.vectors):
        if index % 2 == 0 and index + 1 in halves.vectors:
            try:
                fused[index // 2] = fuse(halves.vectors[index], halves.vectors[index + 1], weight)
            except InputError as error:
                error.index = index // 2
                errors[index // 2] = error
    return Partial(fused, errors)
