"""The API reference: pages in Markdown, made from signatures and docstrings as they stand in the sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

from scripts.docs.nav import DOCS, ROOT

SOURCES = [ROOT / "shared" / "src", *sorted((ROOT / "packages").glob("*/src"))]
WIDTH = 88
"""Signatures that are longer have a line for each parameter."""
SHOWN = (griffe.Kind.CLASS, griffe.Kind.FUNCTION)


def api_modules() -> list[str]:
    """Those in the first column of the table of docs/api.md."""
    return re.findall(r"^\| `([\w.]+)` \|", (DOCS / "api.md").read_text("utf-8"), re.MULTILINE)


def api_pages() -> dict[str, str]:
    """The page of each module, by its name in the site."""
    loader = griffe.GriffeLoader(search_paths=SOURCES, docstring_parser=griffe.Parser.google)
    for package in sorted({path.parent.name for source in SOURCES for path in source.glob("*/__init__.py")}):
        loader.load(package)
    for haystack in sorted(
        (ROOT / "packages" / "haystack_jinaclip" / "src").glob("haystack_integrations/*/*/jinaclip")
    ):
        loader.load(".".join(haystack.parts[-4:]))
    return {f"api/{name}": draw_module(loader.modules_collection[name], name) for name in api_modules()}


def draw_module(module: griffe.Module, name: str) -> str:
    """A page: what the module is for, then its public names."""
    parts = [f"# Module {name}", draw_docstring(module)]
    parts += [draw(module[public], public) for public in public_names(module)]
    return "\n\n".join(filter(None, parts)) + "\n"


def public_names(module: griffe.Module) -> list[str]:
    """Of `__all__`, else what the module itself defines and describes."""
    own = [name for name, member in module.members.items() if not member.is_alias and member.docstring]
    return [str(name) for name in module.exports or own if not str(name).startswith("_")]


def draw(found: griffe.Object | griffe.Alias, name: str) -> str:
    """A section for a class, a function or a value."""
    thing = found.final_target if isinstance(found, griffe.Alias) else found
    if isinstance(thing, griffe.Class):
        return "\n\n".join(filter(None, _class_parts(thing, name)))
    if isinstance(thing, griffe.Function):
        return "\n\n".join([f"## {name}", code(signature(thing, name)), draw_docstring(thing)])
    value = f"{name}: {thing.annotation}" if getattr(thing, "annotation", None) else name
    return "\n\n".join(filter(None, [f"## {name}", code(value), draw_docstring(thing)]))


def _class_parts(thing: griffe.Class, name: str) -> Iterator[str]:
    yield f"## {name}"
    yield code(f"class {constructor(thing, name)}")
    yield draw_docstring(thing)
    public = [member for member in thing.members.values() if not member.is_alias and not member.name.startswith("_")]
    told = [member for member in public if member.docstring]
    fields = [member for member in told if member.kind not in SHOWN]
    yield "\n".join(f"- `{declaration(field)}`: {one_line(field)}" for field in fields)
    for method in told:
        if isinstance(method, griffe.Function):
            yield f"### {name}.{method.name}"
            yield code(signature(method, method.name))
            yield draw_docstring(method)


def constructor(thing: griffe.Class, name: str) -> str:
    """How an object is made; where an `__init__` takes the options of the core, without listing them."""
    init = thing.members.get("__init__")
    if isinstance(init, griffe.Function) and any("configured" in str(one.value) for one in init.decorators):
        return f'{name}(model: str = "jina-clip-v2", **options)'
    if isinstance(init, griffe.Function) and len(init.parameters) > 1:
        return signature(init, name).removeprefix("def ").removesuffix(" -> None")
    return name


def declaration(field: griffe.Object) -> str:
    """`max_bytes: int`."""
    annotation = getattr(field, "annotation", None) or getattr(field, "returns", None)
    return f"{field.name}: {annotation}" if annotation else field.name


def one_line(thing: griffe.Object) -> str:
    """The text of a docstring, without its line breaks."""
    return " ".join(draw_docstring(thing).split())


def signature(function: griffe.Function, name: str) -> str:
    """As it stands in the source, without `self`."""
    parameters = [part for part in _parameters(function) if part not in ("self", "cls")]
    start, end = f"{'async ' * ('async' in function.labels)}def {name}(", f") -> {function.returns}"
    line = start + ", ".join(parameters) + end
    if len(line) <= WIDTH:
        return line
    return "\n".join([start, *(f"    {part}," for part in parameters), end])


def _parameters(function: griffe.Function) -> Iterator[str]:
    before = None
    for parameter in function.parameters:
        if parameter.name.startswith("__"):  # of dataclasses, and no argument
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and before not in (kind, griffe.ParameterKind.var_positional):
            yield "*"
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        typed = f": {parameter.annotation}" if parameter.annotation else ""
        has_default = parameter.default is not None and not stars
        yield f"{stars}{parameter.name}{typed}" + (f" = {parameter.default}" if has_default else "")
        before = kind


def draw_docstring(thing: griffe.Object) -> str:
    """A docstring in Markdown: its text, then lists of arguments, what it gives, and errors."""
    sections = thing.docstring.parse(griffe.Parser.google, warnings=False) if thing.docstring else []
    return "\n\n".join(filter(None, map(_draw_section, sections)))


def _draw_section(section: griffe.DocstringSection) -> str:
    title = section.kind.value.title()
    if section.kind is griffe.DocstringSectionKind.text:
        return section.value
    if section.kind is griffe.DocstringSectionKind.admonition:
        return f"**{section.title}**\n\n{section.value.contents}"
    if isinstance(section.value, str):
        return f"**{title}**\n\n{section.value}"
    lines = [f"- {_subject(entry)}{' '.join(str(entry.description).split())}" for entry in section.value]
    return "\n".join([f"**{title}**", "", *lines])


def _subject(entry: griffe.DocstringElement) -> str:
    """The name of an argument or an error, before what is said of it."""
    name = getattr(entry, "name", "")
    if not name and isinstance(entry, griffe.DocstringRaise):
        name = str(entry.annotation)
    return f"`{name}`: " if name else ""


def code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```"


def write_pages(folder: Path) -> dict[str, str]:
    """Writes the pages below a folder; gives them by name."""
    pages = api_pages()
    (folder / "api").mkdir()
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, "utf-8")
    return pages
