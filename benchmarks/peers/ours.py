"""Our clients for the driver that compares those of the frameworks: `run.py --plugin benchmarks/peers/ours.py`.

The driver brings the module `peers`, a server and the work.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from peers import KEY, MODEL, Client, peer

PACKAGES = ["jinaclip", "httpx"]
AS_SENT = {"normalized": False, "cache": False}
"""The driver's server gives vectors of any length, and its check wants them as they were sent, each time anew."""
TUNED = {"batch_size": 512, "max_concurrency": 16}


def make(base: str, **options: Any) -> Client:
    """JinaClip behind the driver's functions."""
    from jinaclip import JinaClip

    clip = JinaClip(MODEL, api_key=KEY, base_url=base, **AS_SENT, **options)
    return Client(clip.embed_documents, lambda paths: clip.embed_images(map(Path, paths)), clip.embed_query, clip.close)


def make_async(base: str, **options: Any) -> Client:
    """The same from an event loop."""
    from jinaclip import JinaClip

    clip, runner = JinaClip(MODEL, api_key=KEY, base_url=base, **AS_SENT, **options), asyncio.Runner()
    return Client(
        lambda texts: runner.run(clip.aembed_documents(texts)),
        lambda paths: runner.run(clip.aembed_images(map(Path, paths))),
        lambda text: runner.run(clip.aembed_query(text)),
        lambda: runner.run(clip.aclose()),
    )


@peer("ours: jinaclip", packages=PACKAGES)
def ours(base: str, scratch: Path) -> Client:
    return make(base, **TUNED)


@peer("ours: jinaclip, defaults", packages=PACKAGES)
def ours_by_default(base: str, scratch: Path) -> Client:
    return make(base)


@peer("ours: jinaclip async", packages=PACKAGES)
def ours_async(base: str, scratch: Path) -> Client:
    return make_async(base, **TUNED)


@peer("ours: jinaclip, JPEG 95", packages=PACKAGES, only="c c-uplink")
def ours_jpeg(base: str, scratch: Path) -> Client:
    return make(base, **TUNED, image_quality=95)
