"""The command line: `python -m jinaclip evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jinaclip.clip import JinaClip
from jinaclip.config import EmbedderConfig
from jinaclip.errors import JinaClipError
from jinaclip.evaluation import evaluate
from jinaclip.evaluation.records import read_items, read_queries

UNSPOKEN = ("api_key", "image_policy")
"""Options that a command line does not take: others can read it, and a policy is no word."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    given = vars(parser().parse_args(arguments))
    command = given.pop("command")
    try:
        command(**given)
    except JinaClipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Commands and their options; those of JinaClip have its names and defaults."""
    whole = argparse.ArgumentParser(prog="python -m jinaclip", description="Text and image embeddings with jina-clip.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    about = "Measures how well a model retrieves on your own data, and says which search and which width to use."
    own = commands.add_parser("evaluate", help=about, description=about)
    own.set_defaults(command=run_evaluate)
    own.add_argument("items", help=".jsonl or .parquet with id, text, image, categories and perhaps attributes")
    own.add_argument("queries", help=".jsonl or .parquet with text and categories")
    own.add_argument("--out", help="folder for evaluation.md, the tables as CSV and matryoshka.png")
    own.add_argument("--weight", type=float, default=0.5, help="share of the text in the average (default: 0.5)")
    own.add_argument("--pool", type=int, default=50, help="results that diversify chooses from (default: 50)")
    own.add_argument("--clusters", type=int, default=5, help="of diversify (default: 5)")
    own.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (default: 1000)")
    own.add_argument("--seed", type=int, default=0, help="of the bootstrap and of diversify (default: 0)")
    add_embedder_options(own.add_argument_group("options of JinaClip", "meanings and defaults: see EmbedderConfig"))
    return whole


def add_embedder_options(group: Any) -> None:
    """Every option of JinaClip that is a word or a number."""
    hints = get_type_hints(EmbedderConfig)
    for field in fields(EmbedderConfig):
        if field.name not in UNSPOKEN:
            name, shown = f"--{field.name.replace('_', '-')}", f"default: {field.default}"
            group.add_argument(name, default=argparse.SUPPRESS, help=shown, **taken(hints[field.name]))


def taken(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": next((kind for kind in (int, float) if kind in kinds), str), "metavar": "VALUE"}


def run_evaluate(items: str, queries: str, out: str | None, **given: Any) -> None:
    """Evaluates, prints the tables, and writes them where asked."""
    known = {field.name for field in fields(EmbedderConfig)}
    options = {name: value for name, value in given.items() if name in known}
    rest = {name: value for name, value in given.items() if name not in known}
    with JinaClip(**options) as clip:
        table, wanted = read_items(items), read_queries(queries)
        texts = [item.text for item in table] + [query.text for query in wanted]
        cost = clip.estimate(texts, [item.image for item in table])
        print(f"{len(table)} items, {len(wanted)} queries: about {cost.tokens:,} tokens", file=sys.stderr)
        found = evaluate(clip, items, queries, **rest)
    print(found.markdown())
    for path in found.write(out) if out else []:
        print(f"wrote {path}", file=sys.stderr)
