"""The programs of the package's README run as they stand, one after the other, but for the address of the service."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from llama_index.core import Settings
from PIL import Image as Pillow

from examples.answers.llamaindex_answer import ColourSeer

README = (Path(__file__).parents[2] / "packages" / "llamaindex_jinaclip" / "README.md").read_text()
OPENING = "JinaClipEmbedding(dimensions=512)"

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture
def defaults():
    """LlamaIndex's settings, which the README changes, as they were."""
    before = Settings._embed_model, Settings._llm
    Settings.llm = ColourSeer()
    yield
    Settings._embed_model, Settings._llm = before


async def run(code, names):
    """Runs a program that may await, as a notebook does."""
    compiled = compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, names)
    if inspect.isawaitable(waiting):
        await waiting


async def test_every_program_runs_in_the_order_of_the_page(server, tmp_path, monkeypatch, defaults):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_llamaindex_readme")
    for name, colour in (("dress.jpg", "red"), ("coat.png", "blue")):
        Pillow.new("RGB", (40, 30), colour).save(name)
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(programs) == 8
    assert OPENING in programs[0]
    names = {}
    for code in programs:
        await run(code.replace("dimensions=512", f'dimensions=512, base_url="{server.url}"'), names)
    assert [len(vector) for vector in names["vectors"]] == [512]
    assert names["found"][0].node.node_id
    assert [Path(one.node.image_path).name for one in names["failed"]] == ["lost.jpg"]
    assert len(names["sources"]) == 3
    assert len(names["engine"].query("a red dress").source_nodes) == 4
    await names["embed"].clip.aclose()


def test_the_tables_of_migration_name_options_that_exist():
    """A right-hand cell `name=...` is an option, or a role in an index."""
    from llamaindex_jinaclip import JinaClipEmbedding

    section = README.split("## Coming from another plugin")[1]
    cells = [row.strip("|").split("|")[1] for row in section.splitlines() if row.startswith("| ")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)=", cell)}
    assert named
    assert named <= {*JinaClipEmbedding.model_fields, "model"}
