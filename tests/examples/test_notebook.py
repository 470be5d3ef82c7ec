"""The notebooks run from top to bottom, with the toy model and, one line changed, with jina-clip-v2."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOP, AGENT = "shop_the_look.ipynb", "an_agent_that_looks.ipynb"
BOTH = pytest.mark.parametrize("name", [SHOP, AGENT])
PICTURES = {SHOP: 7, AGENT: 5}
"""At least as many are shown."""
LINE = 'clip = JinaClip(str(CHECKPOINT), backend="local")  # <- the line to change'


def run(notebook, folder: Path) -> list[str]:
    """What its cells print, executed in a folder beside which the repository's root is found as in examples/."""
    for cell in notebook.cells:
        cell["source"] = cell["source"].replace("Path.cwd().parent", f"Path({str(EXAMPLES.parent)!r})")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def read(name: str):
    return nbformat.read(EXAMPLES / name, as_version=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The second run finds the pictures of the first."""
    return tmp_path_factory.mktemp("notebook")


def pictures(outputs) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def printed(outputs) -> str:
    return "".join(o.get("text", "") + str(o.get("data", {}).get("text/markdown", "")) for o in outputs)


def prose(outputs) -> str:
    """Without figures, of which another processor may round the last."""
    return re.sub(r"[+-]?\d+(\.\d+)?", "#", printed(outputs))


@pytest.mark.slow
@BOTH
def test_a_notebook_gives_what_it_shows(name, folder: Path) -> None:
    notebook = read(name)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    outputs = run(notebook, folder)
    assert pictures(outputs) == pictures(shown) >= PICTURES[name]
    assert prose(outputs) == prose(shown)


@BOTH
def test_no_output_names_a_machine(name) -> None:
    assert "site-packages" not in (EXAMPLES / name).read_text("utf-8")


@pytest.mark.long
def test_one_line_changes_the_model(folder: Path, modelled) -> None:
    notebook, changed = read(SHOP), 0
    for cell in notebook.cells:
        changed += cell["source"].count(LINE)
        v2 = f'clip = JinaClip("jina-clip-v2", api_key="jina_test_notebook", base_url={modelled.url!r})'
        cell["source"] = cell["source"].replace(LINE, v2).replace('"test", 240', '"test", 96')  # fewer, for speed
    assert changed == 1
    found = printed(run(notebook, folder))
    assert found.startswith("jina-clip-v2 1024 dimensions")
    assert "Choose **query-to-" in found
