"""What examples do with outcomes: nobody copies code from here that stores a row of NaN."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
METHODS = {"embed", "aembed"}
"""Of JinaClip and its adapters: they give Results, in which an item that failed has a row of NaN."""


def sources() -> dict[str, str]:
    """The code of every example."""
    found = {str(path.relative_to(EXAMPLES)): path.read_text("utf-8") for path in EXAMPLES.rglob("*.py")}
    for path in EXAMPLES.rglob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        found[path.name] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return found


def unread(code: str) -> list[int]:
    """Lines that take the vectors of Results, rather than what `unwrap` or `successes` gives."""
    tree = ast.parse(code)
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr != "vectors" or not isinstance(node.ctx, ast.Load):
            continue
        given = node.value
        call = isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr in METHODS
        if call or (isinstance(given, ast.Name) and given.id in names_of_results(tree)):
            lines.append(node.lineno)
    return lines


def names_of_results(tree: ast.Module) -> set[str]:
    """Variables that a call of `embed` is assigned to."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in METHODS
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@pytest.mark.parametrize("name", sorted(sources()))
def test_an_example_asks_which_items_failed_before_it_takes_vectors(name: str) -> None:
    assert unread(sources()[name]) == []


def test_the_search_finds_what_it_looks_for() -> None:
    assert unread("results = clip.embed(texts)\nstore.add(results.vectors)") == [2]
    assert unread("store.add(clip.embed(texts).vectors)") == [1]
    assert unread("vectors = clip.embed(texts).unwrap()\nself.vectors.upsert(vectors)") == []
