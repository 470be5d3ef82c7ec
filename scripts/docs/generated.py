"""What pages show of the code: the layers of the core, where heavy libraries are named, the API reference.

A page has a line `<!-- generated: layers -->` where such a part goes.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from scripts.docs.api import api_modules
from tests.test_architecture import CORE, HOMES, LAYERS, home, home_of, imported, modules

MARK = re.compile(r"<!-- generated: (\w+) -->")


def fill_marks(text: str) -> str:
    """A page with its generated parts."""
    return MARK.sub(lambda mark: PARTS[mark[1]](), text)


def draw_layers() -> str:
    """A table of the modules of the core, a row each, from the ground up."""
    imports = find_imports()
    rows = ["| layer | module | what it is | imports |", "|---|---|---|---|"]
    for number, layer in enumerate(LAYERS, 1):
        for name in layer:
            uses = ", ".join(f"`{other}`" for other in sorted(imports[name]))
            rows.append(f"| {number} | `{name}` | {summary(name)} | {uses} |")
    return "\n".join(rows)


def find_imports() -> dict[str, set[str]]:
    """The modules of the core that each of them imports, as tests/test_architecture.py finds them."""
    known = {name for layer in LAYERS for name in layer}
    found: dict[str, set[str]] = defaultdict(set)
    for path in modules():
        for name in imported(path):
            _, *parts = name.split(".")
            if name.startswith("jinaclip.") and (other := home_of(parts)) in known:
                found[home(path)] |= {other} - {home(path)}
    return found


def summary(name: str) -> str:
    """The first sentence of a module's docstring."""
    path = CORE / name.replace(".", "/")
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split()).split(". ")[0].rstrip(".").replace("|", r"\|")


def draw_homes() -> str:
    """A table of heavy libraries and the modules that name them."""
    rows = ["| library | named in |", "|---|---|"]
    rows += [f"| `{name}` | {', '.join(f'`{place}`' for place in sorted(homes))} |" for name, homes in HOMES.items()]
    return "\n".join(rows)


def draw_api() -> str:
    """The list of the module pages."""
    return "\n".join(
        ["```{toctree}", ":maxdepth: 1", "", *(f"{module} </api/{module}>" for module in api_modules()), "```"]
    )


PARTS = {"layers": draw_layers, "homes": draw_homes, "api": draw_api}
