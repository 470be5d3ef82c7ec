"""`jinaclip evaluate`: how well a model retrieves on your own data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from jinaclip.cli.options import add_options, split_options

VECTORS = "vectors.sqlite"
ABOUT = "Measures how well a model retrieves on your own data, and says which search and which width to use there."
FORMATS = """\
items: one per line of JSON or row of Parquet; paths of images start at the folder of the file
  {"id": 1, "text": "a midi dress with stripes", "image": "images/1.jpg",
   "categories": {"broad": "dress", "fine": "striped midi dress"},
   "attributes": {"colour": "red"}}
queries: the right answers are the items of the same category
  {"text": "striped midi dress",
   "categories": {"broad": "dress", "fine": "striped midi dress"}}

The hosted API takes its key from JINA_API_KEY in the environment. With --out the vectors
are stored in that folder, unless --cache or JINACLIP_CACHE names a place for all of them: a
run that Ctrl-C stopped continues when you start it again, and you can try other options of
evaluate at no cost."""


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "evaluate",
        help=ABOUT,
        description=ABOUT,
        epilog=FORMATS,
        usage="%(prog)s ITEMS QUERIES [--out FOLDER] [--model NAME] [--backend {api,local}] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("items", metavar="ITEMS", help=".jsonl or .parquet: id, text, image, categories, attributes")
    add("queries", metavar="QUERIES", help=".jsonl or .parquet: text, categories")
    add("--out", metavar="FOLDER", help="for evaluation.md, tables as CSV, two pictures of curves, and the vectors")
    add(
        "--weight",
        metavar="X",
        type=float,
        default=0.5,
        help="share of the text in the average with the image (0.5)",
    )
    add("--pool", metavar="N", type=int, default=50, help="results that diversify chooses from (50)")
    add("--clusters", metavar="N", type=int, default=5, help="kinds of images that diversify tells apart (5)")
    add("--resamples", metavar="N", type=int, default=1000, help="of the bootstrap (1000)")
    add("--seed", metavar="N", type=int, default=0, help="of the bootstrap and of diversify (0)")
    add_options(parser)


def run(items: str, queries: str, out: str | None, **options: Any) -> int:
    """Evaluates, writes the tables to the folder `out` if there is one, and prints them even if writing fails.

    Raises:
        KeyboardInterrupt: Ctrl-C; its message says how to continue.
    """
    from jinaclip.clip import JinaClip
    from jinaclip.evaluation import evaluate

    clip_options, others = split_options(options)
    place = None
    try:
        with JinaClip(**clip_options) as clip:
            cache = None if clip.cache or clip.config.cache is False else make_place(out)
            place = cache if clip.cache is None else clip.cache.path
            evaluation = evaluate(clip, items, queries, cache=cache, **others)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"run it again to go on from {place}" if place else "nothing was stored") from None
    try:
        for path in evaluation.write(out) if out else []:
            print(f"wrote {path}", file=sys.stderr)
    finally:
        print(evaluation.markdown(), flush=True)
    return 0


def make_place(out: str | None) -> Path | None:
    """Where vectors go in the folder of the tables, which is made if there is none; None without one."""
    if not out:
        return None
    Path(out).mkdir(parents=True, exist_ok=True)
    return Path(out) / VECTORS
