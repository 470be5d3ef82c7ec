"""A source of vectors, as a command line describes it: every option of JinaClip in one word.

`api` and `local`; a folder of weights; `http://host:8000`; options behind such a word, as in
`local,device=cpu,dtype=bfloat16`, or alone, as in `model=org/name,backend=local`; or a `.toml` or `.json` file of
options, which may hold what a command line must not: a key, headers, an `image_policy`.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from jinaclip.cli.options import LEFT_OUT, add_options
from jinaclip.config import EmbedderConfig, ImagePolicy, refuse_unknown
from jinaclip.errors import ConfigError

NAMES = tuple(field.name for field in fields(EmbedderConfig))
UNUSED = ("cache", "show_progress")
"""Options that no description takes: what is compared is always embedded anew."""
NEXT_OPTION = re.compile(r",(?=[A-Za-z_-]+=)")
"""A comma before an option; those in paths and values stay."""
FILES = (".toml", ".json")


class OptionParser(argparse.ArgumentParser):
    """Says what is wrong as an error of the one argument that it reads."""

    def error(self, message: str) -> NoReturn:
        """Raises ArgumentTypeError."""
        raise argparse.ArgumentTypeError(message)


def read_source(words: str) -> dict[str, Any]:
    """Options of JinaClip from a description, for `argparse` as a type.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return read_file(Path(words)) if words.endswith(FILES) else read_words(words)
    except (ConfigError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_words(words: str) -> dict[str, Any]:
    """Options from a short word, from name=value, or from both.

    Raises:
        ConfigError: it is no such word, or an option is unknown or not taken here.
    """
    if Path(words).is_dir():
        return {"backend": "local", "model": words}
    parts = NEXT_OPTION.split(words)
    first = {} if re.match(r"[A-Za-z_-]+=", words) else read_short(parts.pop(0))
    pairs = {name.strip().replace("-", "_"): value for name, _, value in (part.partition("=") for part in parts)}
    check_names([*pairs], LEFT_OUT)
    return {**first, **convert(pairs)}


def read_short(word: str) -> dict[str, Any]:
    """Options that a short word stands for.

    Raises:
        ConfigError: it stands for none.
    """
    if word in ("api", "local"):
        return {"backend": word}
    if "://" in word:
        return {"backend": "api", "base_url": word}
    if Path(word).is_dir():
        return {"backend": "local", "model": word}
    raise ConfigError(
        f"{word!r} is no source: write api, local, a folder of weights, an http:// address, options such as "
        "model=NAME,backend=local, or a .toml or .json file of options"
    )


def check_names(names: list[str], refused: tuple[str, ...], unused: tuple[str, ...] = UNUSED) -> None:
    """Whether these options are taken.

    Raises:
        ConfigError: one is not.
    """
    refuse_unknown(names, NAMES)
    for name in names:
        if name in unused:
            raise ConfigError(f"{name} means nothing here: whatever is compared is embedded anew, and shown at the end")
        if name in refused:
            raise ConfigError(
                f"{name} is not taken from the command line, which others can read, or which has no words for it; "
                "write it into a .toml or .json file of options and name that"
            )


def convert(pairs: dict[str, str]) -> dict[str, Any]:
    """Values as the command line reads them everywhere."""
    parser = OptionParser(add_help=False, allow_abbrev=False)
    add_options(parser)
    return vars(parser.parse_args([write_argument(name, value) for name, value in pairs.items()]))


def write_argument(name: str, value: str) -> str:
    """An option as one argument: of a bool, --name or --no-name."""
    option = name.replace("_", "-")
    if value.lower() in ("true", "false") and isinstance(getattr(EmbedderConfig, name, None), bool):
        return f"--{option}" if value.lower() == "true" else f"--no-{option}"
    return f"--{option}={value}"


def read_file(path: Path, unused: tuple[str, ...] = UNUSED) -> dict[str, Any]:
    """Options from a file.

    Args:
        path: ends in .toml, or else it is read as JSON.
        unused: options that mean nothing to the command.

    Raises:
        ConfigError: it cannot be read, or an option is unknown or not taken here.
        OSError: it is not there.
    """
    text = path.read_bytes().decode(errors="replace")
    try:
        options = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError):  # whose text may quote a key
        raise ConfigError(f"{path} is no {path.suffix[1:].upper()}") from None
    if not isinstance(options, dict):
        raise ConfigError(f"{path} must hold options by name")
    check_names([*options], ("transport",), unused)
    if isinstance(options.get("image_policy"), dict):
        options["image_policy"] = read_policy(options["image_policy"], path)
    return options


def read_policy(values: dict[str, Any], path: Path) -> ImagePolicy:
    """The image policy of a file.

    Raises:
        ConfigError: a value is wrong, or there is no such field.
    """
    unknown = sorted(set(values) - {field.name for field in fields(ImagePolicy)})
    if unknown:
        raise ConfigError(f"image_policy of {path} has no field {unknown[0]!r:.64}")
    options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return ImagePolicy(**options)
