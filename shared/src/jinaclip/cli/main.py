"""The command `jinaclip`: its commands, exit codes and errors.

A command is a module with `add_command(commands)`, which adds its parser and sets `run`, a function that takes the
parsed options as keywords and returns the exit code; `failed` is what an error exits with, 1 unless set. Heavy modules
are imported in `run`: `jinaclip --version` and `--help` answer at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jinaclip
from jinaclip.cli import cache, check, compare, embed, evaluate, export, serve
from jinaclip.errors import JinaClipError

COMMANDS = (embed, evaluate, check, compare, serve, cache, export)
OK = 0
FAILED = 1
INTERRUPTED = 130
"""What shells expect of a command that Ctrl-C ended."""
NO_KEY = "keys are not taken from the command line, which others can read; set JINA_API_KEY in the environment"
KEY = re.compile(r"jina_\w{20,}")
KEY_OPTION = re.compile(r"(?:^|\s)--?(?!-?(?:make-key|keys):)[\w-]*key", re.IGNORECASE)
"""An option that seems to want a key; --make-key NAME and --keys FILE do not."""


def main(arguments: Sequence[str] | None = None, *, program: str = "jinaclip") -> int:
    """Runs a command.

    Args:
        arguments: None takes those of the process.
        program: what help and messages call the program.

    Returns:
        The exit code: 0, 1 after an error (one line on standard error; 2 of `compare`), 130 after Ctrl-C. Wrong
        arguments end the process with 2.
    """
    open_streams()
    options = vars(make_parser(program).parse_args(arguments))
    run, failed = options.pop("run"), options.pop("failed", FAILED)
    try:
        with log_to_stderr():
            code: int = run(**options)
    except BrokenPipeError:  # whoever reads has seen enough; what Python flushes at the end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(failed)
    except (JinaClipError, OSError) as error:
        print(f"error: {KEY.sub('jina_***', str(error))}", file=sys.stderr)
        return int(failed)
    except KeyboardInterrupt as interrupt:
        print("; ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return INTERRUPTED
    return code


def open_streams() -> None:
    """Opens standard output and error where the process was started without: what is written there goes nowhere.

    Else files of the output would get their numbers, and what libraries write there would land in those files.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  until the process ends


def make_parser(program: str = "jinaclip") -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog=program, description="Text and image embeddings with jina-clip.")
    parser.add_argument("--version", action="version", version=f"jinaclip {jinaclip.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(commands)
    return parser


class Parser(argparse.ArgumentParser):
    """Never repeats a key that somebody put where it does not belong."""

    def parse_known_args(self, *args: Any, **named: Any) -> Any:
        """What was given. What a command does not know is told with the usage of that command."""
        known, unknown = super().parse_known_args(*args, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Ends the program with a message."""
        super().error(NO_KEY if KEY.search(message) or KEY_OPTION.search(message) else message)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Shows what the package logs on standard error."""
    logger, handler = logging.getLogger("jinaclip"), logging.StreamHandler()
    level = logger.level
    logger.setLevel(logging.INFO)  # setting the attribute would leave what the logger remembers of its level
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
