"""`jinaclip embed`: a folder of pictures or a table to vectors in Parquet, resumable."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinaclip.cli.options import add_options, split_options
from jinaclip.cli.sources import read_file
from jinaclip.errors import ConfigError

ABOUT = "Embeds a folder of pictures or a table, of any size, into Parquet files. The same command again goes on."
EPILOG = """\
SOURCE  a folder of pictures and PDF files, or a glob; texts, one on each line of a .txt file;
        .jsonl, .csv or .parquet, also a folder of such files; - for standard input.
        On this machine, or at s3://, gs:// and other addresses.
DIR     gets part-*.parquet with id, kind, vector, digest, space, tokens and error, and a
        manifest. What DIR has is skipped: the command can be stopped, killed and given again.

The hosted API takes its key from JINA_API_KEY in the environment.
ends with  0  every item has a vector
           3  some have not: failed, over --token-budget or --limit, an id that came twice
           1  an error ended the run; all that was answered is written
           2  wrong arguments, or DIR was begun with others
         130  Ctrl-C or SIGTERM; the first waits for what is in flight, the second does not"""
WRONG = 2
INTERRUPTED = 130


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "embed",
        help=ABOUT,
        description=ABOUT,
        epilog=EPILOG,
        usage="%(prog)s SOURCE --out DIR [--model NAME] [--backend {api,local}] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="what to embed: see below")
    add("--out", metavar="DIR", required=True, help="folder of the output, here or at s3://, gs://")
    add_columns(parser)
    add_run(parser)
    add_ray(parser)
    meaning = "a .toml or .json file of options of JinaClip, headers and image_policy among them; those given here win"
    add("--options", metavar="FILE", type=Path, default=None, help=meaning)
    add_options(parser)


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Options that say what of the source is embedded."""
    add = parser.add_argument_group("what is embedded").add_argument
    for name in ("id", "text", "image"):
        but = "" if name == "id" else f"; '' for no {name}s"
        add(f"--{name}", metavar="COLUMN", default=None, help=f"column of the {name} ({name}){but}")
    add("--pair", choices=("fuse", "both"), default=None, help="of a row with text and image: one vector, or two")
    add("--weight", metavar="X", type=float, default=0.5, help="share of the text with --pair fuse (0.5)")
    add("--task", choices=("document", "query"), default="document", help="what texts are (document)")
    add("--limit", metavar="N", type=int, default=None, help="look at the first N rows alone, and drop nothing")
    add("--shard", metavar="I/N", default=None, help="embed the I-th of N shares, told apart by id")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Options of the run."""
    add = parser.add_argument_group("the run").add_argument
    precisions = ("float32", "float16", "int8", "ubinary")
    add("--precision", choices=precisions, default="float32", help="of the vectors that are written (float32)")
    meaning = "write why an item failed and go on, or end with the first that fails (keep)"
    add("--on-error", choices=("keep", "stop"), default="keep", help=meaning)
    add("--retry-failed", action="store_true", help="try again what failed in an earlier run")
    add("--dry-run", action="store_true", help="say what there is to embed and what it costs; nothing is sent")
    add("--price", metavar="X", type=float, default=None, help="of a million tokens: --dry-run then tells the money")


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Options of Ray."""
    add = parser.add_argument_group("on Ray").add_argument
    add("--executor", choices=("local", "ray"), default="local", help="this process, or Ray Data (local)")
    add("--address", metavar="HOST", default=None, help="of a Ray cluster; one on this machine if not given")
    add("--actors", metavar="N", type=int, default=None, help="how many processes embed; 1, or one for each GPU")
    add("--gpus-per-actor", metavar="X", type=float, default=None, help="of each actor: 1, or 0.5 for two on one GPU")


def run(source: str, out: str, options: Path | None, dry_run: bool, price: float | None, **given: Any) -> int:
    """Embeds, and prints what came of it.

    Raises:
        JinaClipError: an extra is not installed, or the run could not go on.
        OSError: the output cannot be written, or there is no such file of options.
        KeyboardInterrupt: Ctrl-C; its message says how to go on.
    """
    try:
        clip_options, others = split_options(given)
        show_progress = clip_options.pop("show_progress")
        in_file = {} if options is None else read_file(options, unused=())
        show_progress = in_file.pop("show_progress", show_progress)
        merged = {**in_file, **clip_options}
        if dry_run:
            return show_plan(source, out, price, {**others, **merged})
        if price is not None:
            raise ConfigError("--price means something with --dry-run alone", option="price")
        return embed(source, out, show_progress, {**others, **merged})
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG


def show_plan(source: str, out: str, price: float | None, options: dict[str, Any]) -> int:
    """Prints what a run would take. Raises as `run`."""
    from jinaclip.bulk import plan

    unused = ("executor", "address", "actors", "gpus_per_actor", "on_error")
    kept = {name: value for name, value in options.items() if name not in unused}
    print(plan(source, out, price=price, **kept))
    return 0


def embed(source: str, out: str, show_progress: bool, options: dict[str, Any]) -> int:
    """Embeds. Raises as `run`."""
    from jinaclip import bulk
    from jinaclip.bulk.collector import slow_collector_for_run

    try:
        with sigterm_as_interrupt(), slow_collector_for_run():
            report = bulk.embed(source, out, show_progress=show_progress, **options)
    except BaseException as error:
        if isinstance(partial := getattr(error, "partial", None), bulk.Report):
            print(partial, flush=True)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt("the same command goes on from there") from None
        raise
    print(report, flush=True)
    return report.exit_code


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM do what Ctrl-C does: it is how schedulers end what has to leave."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
