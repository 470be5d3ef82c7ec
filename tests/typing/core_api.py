"""Read by mypy and pyright alone (`make check`), never run: each public call of the core, in the forms people write."""

import gzip
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, assert_type

import httpx
import numpy as np
import numpy.typing as npt
import PIL.Image
from opentelemetry.sdk.trace import TracerProvider
from starlette.datastructures import UploadFile

from jinaclip import (
    APIError,
    Cache,
    Image,
    ImagePolicy,
    InputError,
    ItemFailure,
    JinaClip,
    JinaClipError,
    Pair,
    Pdf,
    Results,
    Usage,
    fuse,
    hosts,
    telemetry,
    truncate,
)
from jinaclip.errors import ClosedError, RateLimitError
from jinaclip.retrieval import (
    Classification,
    Diversifier,
    Hits,
    aclassify,
    calibration_ranges,
    classify,
    dequantize,
    diversify,
    quantize,
    semantic_search,
)
from jinaclip.tracing import instrument, uninstrument

Vectors = npt.NDArray[np.float32]


def make() -> None:
    JinaClip()
    JinaClip("jina-clip-v1")
    JinaClip("jina-clip-v2", api_key="...", dimensions=256, base_url="http://gpu-box:8000", timeout=30, deadline=10.5)
    JinaClip(model="./folder", backend="local", device="cuda", dtype="bfloat16")
    JinaClip(image_policy=ImagePolicy(allowed_roots="any", formats=("PNG",)), image_resize="pad", url_mode="forward")
    JinaClip(batch_size=None, max_concurrency=None, headers={"X-Team": "shop"}, transport=httpx.AsyncHTTPTransport)
    JinaClip(base_url="http://gpu-box:8000", wire="openai", space="jina_clip_v2_1024_0123456789ab")
    JinaClip(batch_size=64, max_concurrency=8, headers=None, transport=lambda: httpx.AsyncHTTPTransport(proxy="..."))
    with JinaClip() as clip:
        assert_type(clip, JinaClip)


def cached() -> None:
    JinaClip(cache=True)
    JinaClip(cache="vectors.sqlite")
    JinaClip(cache=Path("vectors.sqlite"))
    JinaClip(cache=Cache(max_bytes=2**30))
    assert_type(JinaClip(cache=None).cache, Cache | None)


def wrong() -> None:
    JinaClip(wire="cohere")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClip(backend="cloud")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClip(bach_size=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    JinaClip(headers={"X-Team": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    JinaClip(transport=httpx.AsyncHTTPTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClip(transport=httpx.HTTPTransport)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClip(cache=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClip(timeout="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def embed(clip: JinaClip, pixels: npt.NDArray[np.uint8], picture: PIL.Image.Image) -> None:
    assert_type(clip.embed_query("a red dress"), Vectors)
    assert_type(clip.embed_queries(["a", "b"]), Vectors)
    assert_type(clip.embed_documents(("a", "b")), Vectors)
    assert_type(clip.embed_documents(text for text in ["a"]), Vectors)
    assert_type(clip.embed_image("dress.jpg"), Vectors)
    clip.embed_image(Path("dress.jpg"))
    clip.embed_image(b"...")
    clip.embed_image(BytesIO(b"..."))
    clip.embed_image(pixels)
    clip.embed_image(picture)
    clip.embed_image(Image.from_url("https://example.org/dress.jpg"))
    assert_type(clip.embed_images(["dress.jpg", Path("b.png"), picture, pixels]), Vectors)
    clip.embed_images([Path("a.jpg"), Path("b.jpg")])
    assert_type(clip.embed_pairs([("a red dress", "dress.jpg")], weight=0.3), Vectors)
    clip.embed_pairs([("a red dress", Path("dress.jpg"))])
    clip.embed_pairs([Pair("a red dress", picture, 0.3)])
    clip.embed_pairs(Pdf("a.pdf"))


def outcomes(clip: JinaClip) -> None:
    items: list[str | Image | Pair] = ["a text", Image.from_path("a.jpg"), Pair("a text", "b.jpg")]
    results = clip.embed(items)
    assert_type(results, Results)
    clip.embed(["a text", Image.from_path("a.jpg"), Pair("a text", "b.jpg", weight=0.4), Path("c.jpg")], task="query")
    assert_type(results.vectors, Vectors)
    assert_type(results.ok, npt.NDArray[np.bool_])
    assert_type(results.errors, Mapping[int, ItemFailure])
    assert_type(results.usage, Usage)
    assert_type(results.at([3, 1]), Results)
    assert_type(results.unwrap(), Vectors)
    places, vectors = results.successes()
    assert_type(vectors, Vectors)
    for place in places:
        _ = int(place)
    for index, failure in results.errors.items():
        assert_type(index, int)
        assert_type(failure.reason, JinaClipError)
        raise failure.error()


async def asynchronous(clip: JinaClip) -> None:
    assert_type(await clip.aembed(["a"]), Results)
    assert_type(await clip.aembed_query("a"), Vectors)
    assert_type(await clip.aembed_queries(["a"]), Vectors)
    assert_type(await clip.aembed_documents(["a"]), Vectors)
    assert_type(await clip.aembed_image(Path("a.jpg")), Vectors)
    assert_type(await clip.aembed_images(["a.jpg"]), Vectors)
    assert_type(await clip.aembed_pairs([("a", "a.jpg")]), Vectors)
    async with JinaClip() as other:
        await other.aclose()


def around(clip: JinaClip) -> None:
    assert_type(clip.dimensions, int)
    assert_type(clip.space, str)
    assert_type(clip.fingerprint, str)
    assert_type(clip.logit_scale, float | None)
    clip.check_budget(1_000)
    assert_type(clip.usage.tokens, int)
    assert_type(clip.estimate(["a", Path("a.jpg")]).tokens, int)
    clip.validate(["a", Image.from_bytes(b"...")])
    assert_type(clip.resolve_image("a.jpg"), Image)
    assert_type(clip.preview("a.jpg", side=256), bytes)
    assert_type(clip.self_test().ok, bool)
    clip.load()
    clip.close()


def errors(clip: JinaClip) -> Iterator[Any]:
    try:
        clip.embed_documents(["a"])
    except RateLimitError as error:
        yield error.retry_after
    except ClosedError as error:
        assert_type(error.retryable, bool)
    except InputError as error:
        assert_type(error.index, int | None)
    except APIError as error:
        assert_type(error.status, int | None)
        yield error.partial


async def for_authors_of_adapters(clip: JinaClip, rows: list[dict[str, str]]) -> None:
    def convert(row: dict[str, str]) -> Image:
        return Image.from_path(row["image"])

    assert_type(hosts.embed(clip, rows, convert, kind="image", strict=True), Results)
    assert_type(await hosts.aembed(clip, rows, convert, name=lambda index, row: f"row {index}"), Results)
    assert_type(hosts.embed_query(clip, "a red dress"), Results)
    assert_type(await hosts.aembed_query(clip, rows[0], convert), Results)
    assert_type(hosts.EmbedderConfig(api_key="...", space="shop_2024").replace(timeout=5), hosts.EmbedderConfig)


async def retrieve(clip: JinaClip, rows: Vectors) -> None:
    assert_type(diversify(rows, 10, clusters=3, relevance=[0.3, 0.2], method="mmr"), list[int])
    diversify([rows[0], None], k=2)
    assert_type(Diversifier(k=5).order(clip, [rows[0], None], [None, Path("a.jpg")]), list[int])
    assert_type(await Diversifier(method="mmr").aorder(clip, [rows[0]], [None], [0.9]), list[int])
    assert_type(classify(clip, [Path("a.jpg"), "a red dress"], ["dress", "coat"]), Classification)
    assert_type(await aclassify(clip, [b"..."], ("dress", "coat"), template="a {}", temperature=0.01), Classification)
    assert_type(classify(clip, [b"..."], ["dress", "coat"]).best, list[str])


def vectors(a: Vectors, b: Vectors) -> None:
    assert_type(fuse(a, b, 0.3), Vectors)
    assert_type(fuse([1.0, 0.0], [0.0, 1.0]), Vectors)
    assert_type(truncate(a, 256), Vectors)


def small_vectors(a: Vectors, precision: Literal["int8", "ubinary"]) -> None:
    ranges = calibration_ranges(a)
    assert_type(ranges, Vectors)
    assert_type(calibration_ranges(a, symmetric=True), Vectors)
    assert_type(quantize(a, "int8", ranges), npt.NDArray[np.int8])
    assert_type(quantize(a, "uint8", calibration_embeddings=a), npt.NDArray[np.uint8])
    assert_type(quantize([[0.5] * 8], "binary"), npt.NDArray[np.int8])
    assert_type(quantize(a[0], "ubinary"), npt.NDArray[np.uint8])
    assert_type(dequantize(quantize(a, precision, ranges), precision, ranges), Vectors)
    assert_type(dequantize([[1.0, 2.0]], "binary"), Vectors)
    assert_type(semantic_search(a[0], quantize(a, "ubinary"), "ubinary"), Hits)
    found = semantic_search(a, quantize(a, "int8"), "int8", top_k=5, ranges=ranges, rescore_embeddings=a)
    assert_type(found.indices, npt.NDArray[np.intp])
    assert_type(found.scores, Vectors)
    quantize(a, "int4")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    semantic_search(a, quantize(a, "binary"), "float")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def watch(seen: list[telemetry.Event]) -> None:
    def count(event: telemetry.Event) -> None:
        if isinstance(event, telemetry.Waiting):
            assert_type(event.seconds, float | None)

    telemetry.set_hooks(telemetry.log_event, seen.append, count, lambda event: print(event))
    telemetry.set_hooks()
    telemetry.set_hooks(None)
    telemetry.set_hooks(*telemetry.get_hooks(), count)
    telemetry.set_hooks(telemetry.EventFilter(count, telemetry.CallStarted, telemetry.Waiting))
    instrument()
    instrument(TracerProvider())
    uninstrument()
    assert_type(telemetry.describe(telemetry.BatchMerged(5, 2)), str)


def open_files(clip: JinaClip, upload: UploadFile, pipe: BinaryIO, folder: Path) -> None:
    with Path("a.jpg").open("rb") as file, zipfile.ZipFile("a.zip").open("a.jpg") as member:
        assert_type(clip.embed_images([file, member, pipe, upload, folder / "a.jpg"]), Vectors)
        clip.embed_image(file)
        clip.embed_image(upload)
        clip.embed_image(upload.file)
        clip.embed([member, Pair("a red dress", upload)])
        clip.embed_pairs([("a red dress", file)])
        Image.from_bytes(pipe)
    with (
        gzip.open("a.gz", "rb") as packed,
        tempfile.SpooledTemporaryFile() as spooled,
        Path("a.jpg").open("rb", 0) as raw,
    ):
        clip.embed_images([packed, spooled, raw])
    with tempfile.NamedTemporaryFile() as temporary:
        clip.embed_image(temporary)
    with Path("a.txt").open() as text:
        clip.embed_image(text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    images: list[hosts.ImageLike] = ["a.jpg", file, upload]
    clip.embed_images(images)


def base64_within_a_cap() -> None:
    assert_type(Image.from_base64("AAAA", max_bytes=1000), Image)
