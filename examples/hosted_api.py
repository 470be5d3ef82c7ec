"""The core against a local stand-in for the hosted API: no key, no internet.

    python examples/hosted_api.py

The stand-in speaks the API's wire and bills like it, but its vectors are hashes: they show that every vector comes
back to its item, not that the model is good.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np
from PIL import Image, ImageDraw

from jinaclip import InputError, JinaClip
from jinaclip.testing import Server

KEY = "jina_test_demo"
COLOURS = ("crimson", "seagreen", "royalblue")


def dress(colour: str) -> Image.Image:
    """A picture as large as a phone's, 1600 x 1200."""
    picture = Image.new("RGB", (1600, 1200), "white")
    ImageDraw.Draw(picture).polygon([(650, 200), (950, 200), (1150, 1100), (450, 1100)], fill=colour)
    return picture


def show(title: str, vectors: np.ndarray, started: float) -> None:
    """One line for what was embedded."""
    lengths = np.linalg.norm(np.atleast_2d(vectors), axis=1)
    seconds = time.perf_counter() - started
    print(f"  {title:<42} {vectors.shape!s:<14} {vectors.dtype}  length {lengths.mean():.4f}  {1000 * seconds:7.1f} ms")


def embed_everything(clip: JinaClip) -> None:
    """Each kind of input once."""
    pictures = [dress(colour) for colour in COLOURS]
    texts = [f"a {colour} dress, seen from the front" for colour in COLOURS]
    started = time.perf_counter()
    show("a query", clip.embed_query("a red summer dress"), started)
    started = time.perf_counter()
    show("3 documents", clip.embed_documents(texts), started)
    started = time.perf_counter()
    show("3 pictures of 1600 x 1200", clip.embed_images(pictures), started)
    started = time.perf_counter()
    show("3 text and picture pairs, fused", clip.embed_pairs(zip(texts, pictures, strict=True)), started)
    started = time.perf_counter()
    show("2,000 documents, async", asyncio.run(clip.aembed_documents(f"document {i}" for i in range(2000))), started)


def main() -> None:
    """Embeds, gets through faults, refuses bad input."""
    with Server() as server, JinaClip(api_key=KEY, base_url=server.url, cache=False) as clip:
        print(f"{clip!r} on {clip.config.base_url}\n\nembedded:")
        embed_everything(clip)
        whole = JinaClip("jina-clip-v2", image_resize="none")  # would send pictures as they are
        print(
            f"\nbilled: {clip.usage.tokens:,} tokens in {clip.usage.requests} requests; a picture costs "
            f"{clip.estimate([dress('gold')]).tokens:,} as sent, and would cost "
            f"{whole.estimate([dress('gold')]).tokens:,} as it was"
        )
        server.configure(script=["status_503", "reset_mid_body", "retry_after_seconds", "short_reply", None])
        vectors = clip.embed_documents(["sent through", "four faults"])
        print(
            f"through a 503, a reset, a rate limit and a short reply: {vectors.shape}, "
            f"{clip.usage.retries} requests repeated"
        )
        try:
            clip.embed_documents(["fine", "  "])
        except InputError as error:
            print(f"bad input is refused before anything is sent: {error}")
        results = clip.embed(["a text", dress("gold"), "  "])  # mixed, and outcomes as values
        print(f"mixed: {results!r}, {[str(failure) for failure in results.errors.values()]}")
        report = clip.self_test()
        print(f"space of these vectors, to name collections by: {clip.space}")
        print(f"self-test: {'nothing wrong' if report.ok else report.problems}")


if __name__ == "__main__":
    main()
