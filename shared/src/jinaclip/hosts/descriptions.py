"""Descriptions of options for the schemas that hosts show, read from where they are written: from docstrings."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from jinaclip.config import EmbedderConfig

_ARGUMENT = re.compile(r"^ {4}(\w+): ((?:.|\n {5,})+)", re.MULTILINE)


def describe_fields(schema: dict[str, Any], owner: type, words: Mapping[str, str] | None = None) -> None:
    """Gives the fields of a JSON schema their descriptions. Made for `json_schema_extra` of a Pydantic model.

    A description is what the class or a base of it says of the field, under `Args:` or in a docstring below the field;
    for an option of the core that it says nothing of, what `EmbedderConfig` says. What the schema has stays.

    Args:
        schema: with `properties`, changed in place.
        owner: the class that the schema is of.
        words: the host's own words for options of the core, such as {"model_name": "model"}.
    """
    options = describe_options(EmbedderConfig)
    own = {word: options[option] for word, option in (words or {}).items()}
    told = {**options, **own, **describe_options(owner)}
    for name, field in schema.get("properties", {}).items():
        if name in told:
            field.setdefault("description", told[name])


@cache
def describe_options(owner: type) -> dict[str, str]:
    """What docstrings say of the arguments and fields of a class and its bases, by name, each on one line.

    Where the source is not at hand, in a frozen application, docstrings below fields are missing.
    """
    told: dict[str, str] = {}
    for kind in reversed(owner.__mro__[:-1]):
        told |= dict(_ARGUMENT.findall(_section(inspect.cleandoc(kind.__doc__ or ""), "Args:")))
        told |= dict(_field_docstrings(kind))
    return {name: " ".join(text.split()) for name, text in told.items()}


def _section(docstring: str, title: str) -> str:
    """The indented lines below a title."""
    return re.split(r"\n(?=\S)", docstring.partition(f"{title}\n")[2])[0]


def _field_docstrings(owner: type) -> Iterator[tuple[str, str]]:
    try:
        body = _body_of(owner)
    except (OSError, TypeError):  # no source, as in a frozen application or of a built-in class
        return
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, text


def _body_of(owner: type) -> list[ast.stmt]:
    """The statements of a class.

    `inspect` parses all of a module to find a class, which importing a host would wait for. So the lines up to the next
    that is not indented are tried first; a string within the class may have such lines.

    Raises:
        OSError: the source is not at hand.
        TypeError: the class is built in.
    """
    try:
        tree = ast.parse(_lines_of(owner))
    except (SyntaxError, LookupError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    (statement,) = tree.body
    return statement.body if isinstance(statement, ast.ClassDef) else []


def _lines_of(owner: type) -> str:
    """The source of a class of a module, as far as indentation tells. Raises LookupError if it is not found so."""
    lines = linecache.getlines(inspect.getfile(owner))
    begins = re.compile(rf"class {owner.__name__}\b")
    first = next((place for place, line in enumerate(lines) if begins.match(line)), None)
    if first is None or owner.__qualname__ != owner.__name__:
        raise LookupError(owner.__name__)
    last = next((place for place in range(first + 1, len(lines)) if re.match(r"[^\s)]", lines[place])), len(lines))
    return "".join(lines[first:last])
