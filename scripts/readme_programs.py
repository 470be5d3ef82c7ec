"""Runs the first programs of a README that is installed with its distribution: `release_check.py` calls this.

Needs the distribution and `jinaclip[testing]`, nothing of the source tree. The programs ask the test service in place
of the hosted one, in a folder with the pictures that they name.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

PROGRAMS = {
    "jinaclip": 1,
    "langchain-jinaclip": 2,
    "llamaindex-jinaclip": 1,
    "haystack-jinaclip": 3,
    "llama-index-embeddings-jinaclip": 1,
}
"""How many of the first programs of each README need no library beside the host; the test suite runs them all."""
MODULES = {name: name.replace("-", "_") for name in PROGRAMS} | {
    "llama-index-embeddings-jinaclip": "llama_index.embeddings.jinaclip",
}
CLIENTS = re.compile(r"JinaClip(|Embeddings?|\w+Embedder)")
"""Names of classes that take `base_url`."""


def read_programs(name: str) -> list[str]:
    """The Python of the README that an index would show."""
    readme = metadata(name).get_payload()
    return re.findall(r"```python\n(.*?)```", str(readme), re.DOTALL)[: PROGRAMS[name]]


def redirect(name: str, url: str) -> None:
    """Makes the classes of a distribution ask the service at `url`."""
    module = importlib.import_module(MODULES[name])
    for public in module.__all__:
        if CLIENTS.fullmatch(public):
            setattr(module, public, functools.partial(getattr(module, public), base_url=url))


def draw_pictures() -> None:
    """Writes the files that the programs name into the working directory."""
    from PIL import Image

    Path("catalogue").mkdir()
    for file, colour in {"dress.jpg": "red", "dress.png": "red", "coat.png": "blue"}.items():
        Image.new("RGB", (60, 80), colour).save(file)
        Image.new("RGB", (60, 80), colour).save(Path("catalogue", file))
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "lime", "blue")]
    pages[0].save("catalogue/brochure.pdf", save_all=True, append_images=pages[1:])


def main(name: str) -> None:
    """Runs them one after the other, as on a page: what one makes the next may use."""
    from jinaclip.testing import Server

    draw_pictures()
    os.environ["JINA_API_KEY"] = "jina_test_readme"
    names: dict[str, Any] = {}
    with Server() as server:
        redirect(name, server.url)
        programs = read_programs(name)
        for program in programs:
            exec(compile(program, f"README of {name}", "exec"), names)  # noqa: S102
        asked = server.ledger()["requests"]
    if len(programs) != PROGRAMS[name] or not (asked or name.startswith("llama-index")):
        sys.exit(f"{name}: {len(programs)} programs, {asked} requests")
    print(f"{name} {version(name)}: {len(programs)} programs of its README, {asked} requests")


if __name__ == "__main__":
    main(sys.argv[1])
