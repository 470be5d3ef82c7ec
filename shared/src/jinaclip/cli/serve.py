"""`jinaclip serve`: a server of the same engine, for every client of Jina's wire and of OpenAI's."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from jinaclip.cli.options import add_options, split_options, value_type
from jinaclip.cli.sources import read_file
from jinaclip.server.settings import Settings

ABOUT = "Serves embeddings over HTTP, to clients of Jina's API and of OpenAI's."
EPILOG = """\
Without keys only programs of this machine are answered. A key is made by --make-key NAME, which prints it, and the line
that goes into the file of --keys; behind the name that line may have slots=N and requests_per_minute=N.
A request takes --deadline seconds at most: 300, or of a gateway 30, unless it has more than 8 inputs, where it is not
given; one with images may wait as long again for its turn. --device may name several, such as cuda:0,cuda:1, or every
card as cuda:all: there is a copy of the model on each, and they share the work."""
LOCAL: dict[str, Any] = {"backend": "local"}
"""What JinaClip takes from the hosted service unless told otherwise is here on this machine."""
DEADLINE = 300.0
"""Seconds for each request to a model of this machine, where no --deadline is given: few clients wait for longer. A
gateway has the 30 seconds that JinaClip gives to what somebody waits for, so that clients learn of a rate limit."""


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "serve", help=ABOUT, description=ABOUT, epilog=EPILOG, usage="%(prog)s [--model NAME] [options]"
    )
    parser.set_defaults(run=run)
    parser.add_argument("--make-key", metavar="NAME", default=None, help="print a new key and its line, and do no more")
    meaning = "a .toml or .json file of options of JinaClip, headers and image_policy among them; those given here win"
    parser.add_argument("--options", metavar="FILE", type=Path, default=None, help=meaning)
    hints = get_type_hints(Settings)
    for field in fields(Settings):
        shown = "" if field.default is None or isinstance(field.default, bool) else f" ({field.default})"
        meaning, name = field.metadata["meaning"] + shown, f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, default=argparse.SUPPRESS, help=meaning, **value_type(hints[field.name]))
    add_options(parser, **LOCAL)


def run(make_key: str | None, options: Path | None, **given: Any) -> int:
    """Serves until it is told to stop.

    Raises:
        OSError: there is no such file of options.
        MissingDependencyError: an extra is not installed.
        ConfigError: an option is wrong.
        CheckpointError: the weights cannot be used.
    """
    from jinaclip import server

    if make_key is not None:
        key, line = server.make_key(make_key)
        print(f"the key, shown this once: {key}\nits line for the file of --keys:\n{line}")
        return 0
    clip_options, own = split_options(given)
    settings = Settings(**own)
    in_file = {} if options is None else read_file(options, unused=())
    clip_options = {**LOCAL, **in_file, **clip_options}
    if clip_options["backend"] == "local":
        clip_options.setdefault("deadline", DEADLINE)
    return server.serve(settings, server.Engines({**clip_options, "show_progress": False}))
