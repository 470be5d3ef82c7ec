"""JinaClip, the facade: a request is read, a backend embeds it, and what came of it is given back as values."""

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np

from jinaclip.backends.base import Backend
from jinaclip.cache import Keys, find_cache
from jinaclip.call.call import Call
from jinaclip.call.estimate import Estimate, image_tokens
from jinaclip.call.lookup import Lookup
from jinaclip.call.memo import Memo, Space
from jinaclip.call.request import Draft, Held, Reader, Request, Task, draft_many, draft_one, read_now, read_soon
from jinaclip.call.results import ItemFailure, Results
from jinaclip.call.usage import CallMeter, Meter, Usage
from jinaclip.call.watch import Watch
from jinaclip.config import CacheOption, EmbedderConfig, configured
from jinaclip.errors import ConfigError, InputError, NotSentError
from jinaclip.frames import await_without_arguments, without_arguments
from jinaclip.inputs import Drawable, Image, ImageLike, Pair, Text, is_held, iterate
from jinaclip.process import Latch, check_not_ending, mark_coroutine_function, run_apart, run_in_thread
from jinaclip.requirements import missing_dependency
from jinaclip.self_test import SelfTestReport, self_test
from jinaclip.space import name_fingerprint, name_space, name_weights
from jinaclip.specs import ModelSpec, find_spec
from jinaclip.vectors import Vectors, check_weight

TASKS = ("document", "query")
J = TypeVar("J")
P = ParamSpec("P")
R = TypeVar("R")


class JinaClip:
    """Texts and images as vectors in one space.

    Takes the options of `EmbedderConfig` as keywords; the model comes first. Safe to use from many threads and event
    loops at once. Settings travel through pickle, deepcopy and fork; connections and weights do not. A pickle holds the
    `api_key` and the values of `headers` that were given, and nothing that was read from the environment.

    Raises:
        ConfigError: an option is wrong, or does not fit the model.
        MissingDependencyError: the backend needs an extra that is not installed.
    """

    @configured(EmbedderConfig)
    def __init__(self, config: EmbedderConfig) -> None:
        self.config = config
        self._open()
        check_dimensions(config.dimensions, self.spec)

    def _open(self) -> None:
        self.cache = find_cache(self.config.cache)
        # what is kept has the full width, from which every other is cut
        self._backend = open_backend(self.config, whole=bool(self.cache))
        self._meter = Meter(self.config.token_budget)

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
        """Running totals of this object; each call's own are in its `Results`."""
        return self._meter.usage

    @property
    def space(self) -> str:
        """The name of the vector space: for collections, and for whatever keeps vectors.

        Letters, digits and underscores, such as "jina_clip_v2_1024_0123456789ab", or the option `space` as it was
        given. Model and weights, width, normalisation and image settings decide it, and nothing else. It is the same
        for Jina's hosted model and for the published weights on this machine. Nothing is loaded or sent; the files of a
        folder are read once.

        Raises:
            CheckpointError: a file of the folder cannot be read, or was changed after it had been loaded.
        """
        return self.config.space or self.space_at(self.dimensions)

    def space_at(self, dimensions: int) -> str:
        """The name of the space of these vectors cut to so many numbers, as `truncate` does; `space` is not looked at.

        Raises as `space`.
        """
        return name_space(self._backend.weights, dimensions, self.config)

    @property
    def fingerprint(self) -> str:
        """A name like `space` that tells apart even what only rounds differently: backend, dtype and engine.

        Raises as `space`, and ConfigError if the device or the dtype is not there.
        """
        backend = self._backend
        return name_fingerprint(backend.weights, self.dimensions, self.config, backend.rounding)

    def __repr__(self) -> str:
        if "_backend" not in vars(self):  # an error report shows the object that could not be made
            return "JinaClip(not set up)"
        return f"JinaClip({self.config.model!r}, backend={self.config.backend!r}, dimensions={self.dimensions})"

    # -- embed, with outcomes as values

    @without_arguments
    def embed(self, items: Iterable[str | ImageLike | Pair], *, task: Task = "document") -> Results:
        """Texts, images and pairs of both, mixed and in order; an item that fails costs only its own row.

        Args:
            items: a str is a text, never a path or an address; an image is whatever else `embed_image` takes, such as
                a Path, bytes, an array or a `jinaclip.Image`; a `Pair` is a text and an image fused. Those of a list
                are taken as they are at the call: arrays, buffers and PIL images are copied, open files are read. A
                generator is read as it is needed, and each of its items taken as it is when it is given; large sets
                belong there.
            task: "document" or "query", for texts; images and pairs are the same for both.

        Returns:
            Results: `vectors` float32 (n, d) with a row of NaN where an item failed, `errors` by index, `usage` of
            this call. What ends the whole call (no key, an empty balance, an outage) is not raised either: it is in
            `stopped`, and all rows not embedded by then are NaN. `unwrap()` raises it.

        Raises:
            InputError: `items` is one item and not several.
            ConfigError: there is no such task.
            BudgetError: a list would exceed `token_budget`; nothing was sent.
            Exception: whatever the caller's own iterator raises; its `.partial` holds the results.
        """
        return self.run(read_now(self._draft_items(items, task)))

    @mark_coroutine_function
    def aembed(
        self, items: Iterable[str | ImageLike | Pair], *, task: Task = "document"
    ) -> Coroutine[Any, Any, Results]:
        """`embed` without blocking the event loop. Items are taken at the call, before anything is awaited."""
        return await_without_arguments(self._aembed, self._draft_items(items, task), strict=False)

    def run(
        self,
        request: Request,
        *,
        strict: bool = False,
        show_progress: bool | None = None,
        stop: Latch | None = None,
    ) -> Results:
        """Embeds what a request asks for; see `jinaclip.hosts`, for authors of adapters.

        Args:
            request: what to embed.
            strict: send nothing if an item is known to be unusable before, so that nothing is paid for a call whose
                results are to be unwrapped.
            show_progress: whether to draw a bar; None goes by the option.
            stop: ends the call once it is set, from any thread: nothing more is sent, and what is in flight is waited
                for. The results then have `stopped`, a NotSentError.
        """
        with self._watch(request, strict=strict) as watch:
            if strict and request.failures():
                return watch.note(self._refusal(request))
            call = self._call(request, show_progress, watch.number)
            if stop is not None:
                stop.add_callback(lambda: call.stop(NotSentError("the call was stopped by its caller")))
            if request.total != 0:
                with call.ending():  # so that Ctrl-C, too, comes with what was embedded until then
                    self._answer(call)
            return watch.note(call.conclude())

    def _answer(self, call: Call) -> None:
        """Embeds what the cache does not have; what another call is embedding is looked up once that is done."""
        inputs: Iterable[tuple[int, Text | Image]] = call.inputs()
        while inputs:
            own = self._backend.prepare(call, inputs)
            if call.memo is None or own.begin():
                self._backend.embed(call, own)
            inputs = [] if call.memo is None else call.memo.wait_for_others(call)

    async def arun(self, request: Request, *, strict: bool = False, show_progress: bool | None = None) -> Results:
        """`run` without blocking the event loop."""
        with self._watch(request, strict=strict) as watch:
            if strict and request.failures():
                return watch.note(self._refusal(request))
            if request.quick and self.cache is None:
                call = self._call(request, show_progress, watch.number)
            else:
                call = await run_in_thread(self._call, request, show_progress, watch.number)
            if request.total != 0:
                with call.ending():
                    await self._answer_async(call)
            return watch.note(call.conclude())

    async def _answer_async(self, call: Call) -> None:
        """As `_answer`."""
        inputs: Iterable[tuple[int, Text | Image]] = call.inputs()
        while inputs:
            own = self._backend.prepare(call, inputs)
            if call.memo is None or await run_in_thread(own.begin):
                await self._backend.aembed(call, own)
            inputs = [] if call.memo is None else await run_in_thread(call.memo.wait_for_others, call)

    def _draft_items(self, items: Iterable[Any], task: Task) -> Draft:
        if task not in TASKS:
            raise ConfigError(f"task={task!r} must be 'document' or 'query'")
        read = self.reader(early=is_held(items)).item
        return draft_many(items, read, "item", task, policy=self.config.image_policy)

    def reader(self, *, early: bool = True) -> Reader:
        """What reads items under this object's image policy; for authors of adapters. See `Reader` for `early`."""
        return Reader(self.config.image_policy, early=early)

    def _watch(self, request: Request, *, strict: bool) -> Watch:
        return Watch(request, self._backend.service, self.spec.name, self.dimensions, strict=strict)

    def _call(self, request: Request, show_progress: bool | None, number: int) -> Call:
        check_not_ending()
        if self.config.token_budget is not None and request.total is not None and self.cache is None:
            self.check_budget(sum(run_apart(self._costs, request.items, request)[0]))
        progress = self.config.show_progress if show_progress is None else show_progress
        return Call(
            request,
            self.dimensions,
            CallMeter(self._meter),
            deadline=self.config.deadline,
            progress=progress,
            memo=None if self.cache is None else Memo(self.cache, self._vector_space(request.task)),
            number=number,
        )

    def _vector_space(self, task: Task) -> Space:
        """How vectors are made, as far as it concerns the cache."""
        config, spec = self.config, self.spec
        return Space(
            keys=Keys(
                name_weights(self._backend.weights, config.space),
                normalized=config.normalized,
                queries_differ=bool(spec.query_instruction),
                max_tokens=spec.max_tokens,
            ),
            dimensions=spec.dimensions,
            normalized=config.normalized,
            truncate=config.truncate,
            query=task == "query",
            prefix=spec.prefix(task),
            image_tokens=spec.tokens_per_tile,
            fingerprint=self._fingerprint_of_cache,
        )

    def _fingerprint_of_cache(self) -> str:
        """What vectors of the full width are kept with."""
        backend = self._backend
        return name_fingerprint(backend.weights, self.spec.dimensions, self.config, backend.rounding)

    # -- embed, or raise

    @without_arguments
    def embed_query(self, text: str) -> Vectors:
        """A query as a vector, float32 of shape (d,). On v2 the model's instruction for queries goes before it.

        Raises:
            InputError: the text is no str, blank, or too long.
            JinaClipError: the backend failed, or `deadline` (here 30 s by default) passed; see `jinaclip.errors`.
        """
        return self._embed(draft_one(text, self.reader().text, "text", "query", urgent=True))[0]

    @mark_coroutine_function
    def aembed_query(self, text: str) -> Coroutine[Any, Any, Vectors]:
        """`embed_query` without blocking the event loop."""
        return self._row(draft_one(text, self.reader().text, "text", "query", urgent=True))

    @without_arguments
    def embed_queries(self, texts: Iterable[str]) -> Vectors:
        """Queries as vectors, float32 of shape (n, d), rows in input order; many go into one request.

        Raises as `embed_documents`; `deadline` is 30 s by default.
        """
        return self._embed(draft_many(texts, self.reader().text, "text", "query", urgent=True))

    @mark_coroutine_function
    def aembed_queries(self, texts: Iterable[str]) -> Coroutine[Any, Any, Vectors]:
        """`embed_queries` without blocking the event loop."""
        return self._rows(draft_many(texts, self.reader().text, "text", "query", urgent=True))

    @without_arguments
    def embed_documents(self, texts: Iterable[str]) -> Vectors:
        """Texts as vectors, float32 of shape (n, d), rows in input order; no texts give (0, d) and no request.

        A list is validated before anything is sent; a generator is read as it is needed.

        Raises:
            InputError: an item is no text; `.index` says which, `.partial` holds what the others became.
            JinaClipError: the backend failed; `.partial` holds what was already embedded.
        """
        return self._embed(draft_many(texts, self.reader().text, "text"))

    @mark_coroutine_function
    def aembed_documents(self, texts: Iterable[str]) -> Coroutine[Any, Any, Vectors]:
        """`embed_documents` without blocking the event loop."""
        return self._rows(draft_many(texts, self.reader().text, "text"))

    @without_arguments
    def embed_image(self, image: ImageLike) -> Vectors:
        """An image as a vector, float32 of shape (d,).

        Args:
            image: a path, an https, data: or file:// URL, bytes, BytesIO, an open binary file, PIL image, uint8 array
                of RGB or `jinaclip.Image`. A file is read at the call, from its beginning if it can seek.

        Raises:
            InputError: it cannot be opened, or `image_policy` does not allow it.
            JinaClipError: the backend failed.
        """
        return self._embed(self._draft_image(image))[0]

    @mark_coroutine_function
    def aembed_image(self, image: ImageLike) -> Coroutine[Any, Any, Vectors]:
        """`embed_image` without blocking the event loop."""
        return self._row(self._draft_image(image))

    @without_arguments
    def embed_images(self, images: Iterable[ImageLike]) -> Vectors:
        """Images as vectors, float32 of shape (n, d), rows in input order.

        Of a list, paths, addresses and types are validated before anything is sent. Images are decoded as they are
        needed; one that turns out broken gets an error, the others their vectors.

        Raises:
            InputError: an item is no usable image; `.index` says which, `.partial` holds the vectors of the others.
            JinaClipError: the backend failed; `.partial` holds what was already embedded.
        """
        return self._embed(self._draft_images(images))

    @mark_coroutine_function
    def aembed_images(self, images: Iterable[ImageLike]) -> Coroutine[Any, Any, Vectors]:
        """`embed_images` without blocking the event loop."""
        return self._rows(self._draft_images(images))

    @without_arguments
    def embed_pairs(self, pairs: Iterable[tuple[str, ImageLike] | Pair | Drawable], *, weight: float = 0.5) -> Vectors:
        """The text and the image of each pair as one vector, float32 of shape (n, d), always at length 1.

        Args:
            pairs: (text, image) each, `Pair`s with a weight of their own, or pages of PDF files, which have a text too.
            weight: share of the text, from 0 to 1; see `fuse`.

        Raises:
            ConfigError: the weight is out of range.
            InputError: an item is no pair, or half of it is unusable; `.partial` holds the other pairs' vectors.
            JinaClipError: the backend failed; `.partial` holds the pairs already embedded.
        """
        return self._embed(self._draft_pairs(pairs, weight))

    @mark_coroutine_function
    def aembed_pairs(
        self, pairs: Iterable[tuple[str, ImageLike] | Pair | Drawable], *, weight: float = 0.5
    ) -> Coroutine[Any, Any, Vectors]:
        """`embed_pairs` without blocking the event loop."""
        return self._rows(self._draft_pairs(pairs, weight))

    def _draft_image(self, image: Any) -> Draft:
        return draft_one(image, self.reader().image, "image", policy=self.config.image_policy)

    def _draft_images(self, images: Iterable[Any]) -> Draft:
        read = self.reader(early=is_held(images)).image
        return draft_many(images, read, "image", policy=self.config.image_policy)

    def _draft_pairs(self, pairs: Iterable[Any], weight: float) -> Draft:
        read = partial(self.reader(early=is_held(pairs)).pair, weight=check_weight(weight))
        return draft_many(pairs, read, "pair", policy=self.config.image_policy)

    def _embed(self, draft: Draft) -> Vectors:
        return self.run(read_now(draft), strict=True).unwrap()

    async def _aembed(self, draft: Draft, *, strict: bool) -> Results:
        return await self.arun(await read_soon(draft), strict=strict)

    async def _aembed_rows(self, draft: Draft) -> Vectors:
        return (await self._aembed(draft, strict=True)).unwrap()

    async def _aembed_row(self, draft: Draft) -> Vectors:
        return (await self._aembed_rows(draft))[0]

    def _rows(self, draft: Draft) -> Coroutine[Any, Any, Vectors]:
        return await_without_arguments(self._aembed_rows, draft)

    def _row(self, draft: Draft) -> Coroutine[Any, Any, Vectors]:
        return await_without_arguments(self._aembed_row, draft)

    def _refusal(self, request: Request) -> Results:
        """Results of a call of which nothing was sent, because some of its items are unusable."""
        count, failures = request.total or 0, request.failures()
        not_sent = NotSentError("not sent: another item of the list is unusable")
        others = {i: ItemFailure(not_sent, i, request.names.get(i, request.kind), left=True) for i in range(count)}
        rows = np.full((count, self.dimensions), np.nan, np.float32)
        return Results(rows, {**others, **failures})

    # -- before sending, and to show

    def preview(self, image: ImageLike, *, side: int = 512) -> bytes:
        """A JPEG file of the whole image for people and chat models, its longer side at most `side` pixels.

        Opens what `embed_image` would open, under the same `image_policy`. Blocks; nothing is sent to the service.

        Raises:
            InputError: it cannot be opened, or `image_policy` does not allow it.
        """
        from jinaclip import images

        return run_apart(lambda: images.preview(self.reader().image(image), policy=self.config.image_policy, side=side))

    def resolve_image(self, image: ImageLike) -> Image:
        """The image, if `image_policy` allows it as far as can be told without opening or fetching it.

        Raises:
            InputError: it does not, or it is no image.
        """
        return run_apart(self.reader().image, image)

    def validate(self, items: Iterable[str | ImageLike | Pair]) -> None:
        """Refuses what `embed` would fail before it sends anything.

        Args:
            items: texts, images and pairs, as `embed` takes them.

        Raises:
            InputError: an item is unusable; `.index` says which.
        """
        self._read_whole(items)

    @property
    def tokens_left(self) -> float:
        """Tokens of `token_budget` that are neither spent nor set aside for what is in flight; infinite without one."""
        return self._meter.left

    def check_budget(self, tokens: int) -> None:
        """Refuses what would exceed `token_budget`; for those who embed in several calls.

        Raises:
            BudgetError: so many tokens are not left.
        """
        self._meter.check(tokens)

    def estimate(self, items: Iterable[str | ImageLike | Pair], *, task: Task = "document") -> Estimate:
        """About how many requests and tokens embedding these would take; duplicates are not looked for.

        What the cache has costs nothing, as far as it is found without decoding images: those in files, and those whose
        address goes to the service.

        Texts are counted by the tokenizer where there is one, else at 1.1 tokens a word; images by tile, as they would
        be sent. Nothing is sent to the service; image URLs are fetched only where `image_resize="none"` needs sizes.

        Args:
            items: texts, images and pairs, as `embed` takes them.
            task: what texts would be embedded as; it matters where the model tells queries and documents apart.

        Raises:
            InputError: an item is unusable; `.index` says which.
        """
        request = replace(self._read_whole(items), task=task)
        parts = run_apart(self._find_absent, request)
        costs, failures = run_apart(self._costs, parts, request)
        if failures:
            raise failures[0].error()
        count, tokens = sum(map(len, parts)), sum(costs)
        return Estimate(self._backend.requests_for(count, tokens), tokens, count)

    def count_tokens(self, items: Iterable[str | ImageLike | Pair] | Request, *, task: Task = "document") -> list[int]:
        """About how many tokens each item is billed, counted as for `estimate`, whatever the cache has.

        0 for one that cannot be embedded. Raises InputError if `items` is one item and not several.

        Args:
            items: texts, images and pairs, as `embed` takes them; or a request, which is what items were read as
                already, see `jinaclip.hosts`.
            task: what texts would be embedded as: a model's instruction for queries is billed with each. A request has
                its own.
        """
        if isinstance(items, Request):
            request = items
        else:
            held = [*iterate(items, "items", "[item]")]
            request = run_apart(lambda: Draft(Held(held), self.reader(early=False).item, "item", task).request())
        if request.quick:
            return self._costs(request.items, request)[0]
        return run_apart(self._costs, request.items, request)[0]

    def _find_absent(self, request: Request) -> list[tuple[Text | Image, ...]]:
        """The inputs of each item, without those that the cache has."""
        parts = [(item.halves if isinstance(item, Pair) else (item,)) for item in request.items]
        if self.cache is None:
            return parts
        space = self._vector_space(request.task)
        lookup = Lookup(self.cache, space, self._backend.image_settings, self.config.image_policy)
        has = lookup.find(one for own in parts for one in own)
        return [tuple(one for one in own if not next(has)) for own in parts]

    def _costs(self, items: Iterable[Any], request: Request) -> tuple[list[int], list[ItemFailure]]:
        """What each of a request's items would be billed, 0 for one that cannot be embedded, and why those cannot."""
        costs, failures, prefix = list[int](), list[ItemFailure](), self.spec.prefix(request.task)
        for index, item in enumerate(items):
            try:
                costs.append(self._tokens(item, prefix))
            except InputError as error:  # an image as it is has to be opened, to know its size
                costs.append(0)
                failures.append(ItemFailure(error, index, request.names.get(index) or "image"))
        return costs, failures

    def _read_whole(self, items: Iterable[Any]) -> Request:
        held = [*iterate(items, "items", "[item]")]
        request = run_apart(lambda: Draft(Held(held), self.reader().item, "item").request())
        if request.failures():
            self._refusal(request).unwrap()
        return request

    def _tokens(self, item: Any, prefix: str) -> int:
        """What an item would be billed, if that goes before each text."""
        if isinstance(item, Text):
            return self._backend.count_tokens(prefix + item.value)
        if isinstance(item, ItemFailure):
            return 0
        if isinstance(item, Pair | tuple):
            return sum(self._tokens(half, prefix) for half in (item.halves if isinstance(item, Pair) else item))
        as_it_is = self.config.image_resize == "none" and self.spec.tokens_per_tile
        if not as_it_is or (item.kind == "url" and self.config.url_mode == "forward"):
            return self.spec.tokens_per_tile
        from jinaclip import images

        return image_tokens(*images.size(item, self.config.image_policy), self.spec.name)

    def self_test(self) -> SelfTestReport:
        """Embeds one text and one image and reports what came back; the backend's errors become `problems`.

        The cache is not read.
        """
        return self_test(self if self.cache is None else self.with_cache(False))

    # -- life

    def with_cache(self, cache: CacheOption) -> JinaClip:
        """This object with another cache, or with False without one.

        It counts into the same `usage` and budget, and shares connections or weights, unless one of the two asks for
        vectors that are cut elsewhere: of fewer `dimensions`, without a cache. Closing either closes what they share.
        """
        other = self.with_options(cache=cache)
        if other._backend_width == self._backend_width:
            other._backend = self._backend
        return other

    def with_options(self, **changes: Any) -> JinaClip:
        """Another object with some options changed, which counts into the same `usage` and budget.

        Raises:
            ConfigError: there is no such option, or it is wrong.
        """
        other = JinaClip(**{**self.config.options(), **changes})
        other._meter = self._meter
        return other

    @property
    def _backend_width(self) -> int:
        """Of the vectors that the backend gives."""
        return self.dimensions if self.cache is None else self.spec.dimensions

    def load(self) -> None:
        """Loads the weights now, not with the first call. Nothing on the API.

        Raises:
            CheckpointError: they are missing, damaged or not what they claim to be.
            ConfigError: the device is not there.
        """
        self._backend.load()

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
        self._open()


def open_backend(config: EmbedderConfig, *, whole: bool = False) -> Backend:
    """The backend of a configuration.

    Args:
        config: the options.
        whole: ask for vectors of the model's own width, whatever `dimensions` are.

    Raises:
        ConfigError: an option cannot be had on the wire.
        MissingDependencyError: it needs an extra that is not installed.
    """
    if config.backend == "api":
        from jinaclip.backends.api.backend import ApiBackend

        return ApiBackend(config, find_spec(config.model), whole=whole)
    try:
        from jinaclip.backends.local.backend import LocalBackend
    except ModuleNotFoundError as missing:
        hint = ", or 'jinaclip[onnx]' for a folder made by `jinaclip export`"
        raise missing_dependency("backend='local'", missing.name, "local", hint=hint) from None
    return LocalBackend(config.replace(dimensions=None) if whole else config)


def check_dimensions(dimensions: int | None, spec: ModelSpec) -> None:
    """Whether the model can be cut to this width.

    Raises:
        ConfigError: it cannot.
    """
    if dimensions is None:
        return
    spec.check_dimensions(dimensions)
    if dimensions < spec.useful_dimensions:
        warnings.warn(
            f"{spec.name} is known to work down to {spec.useful_dimensions} dimensions; {dimensions} will cost quality",
            stacklevel=6,
        )
