"""What docs/stores.md says is what the examples do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stores.md").read_text()
SECTIONS = {part.splitlines()[0]: part for part in PAGE.split("\n## ")[1:]}
FILES = {
    "Qdrant": "qdrant",
    "Chroma": "chroma",
    "LanceDB": "lance",
    "pgvector": "pgvector",
    "FAISS": "faiss_files",
    "Weaviate": "weaviate_cloud",
    "Pinecone": "pinecone_cloud",
}
MODULES = {"Qdrant": "qdrant_client", "Chroma": "chromadb", "LanceDB": "lancedb", "FAISS": "faiss"}


def snippet(section):
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    return code


@pytest.mark.parametrize("section", FILES)
def test_each_store_has_a_section_with_its_file_and_its_install_command(section):
    text = (ROOT / "examples" / "stores" / f"{FILES[section]}.py").read_text()
    (command,) = re.findall(r"^pip install .*$", text, re.MULTILINE)
    assert f"`{command}`, code in [{FILES[section]}.py](../examples/stores/{FILES[section]}.py)." in SECTIONS[section]
    compile(snippet(section), section, "exec")


@pytest.mark.parametrize("section", MODULES)
def test_the_snippets_of_local_stores_run(section, model, catalogue, tmp_path, monkeypatch):
    pytest.importorskip(MODULES[section])
    monkeypatch.chdir(tmp_path)
    names = {"clip": model}
    exec(snippet(section), names)
    with names["store"] as store:
        store.index(catalogue[:3])
        assert len(store.by_text("dress")) == 3


def test_base_and_a_store_are_under_200_lines():
    folder = ROOT / "examples" / "stores"
    lines = {name: len((folder / f"{name}.py").read_text().splitlines()) for name in [*FILES.values(), "base"]}
    assert max(lines[name] for name in FILES.values()) + lines["base"] < 200


def test_the_command_prints_three_searches(tmp_path):
    pytest.importorskip("faiss")
    command = [sys.executable, "-m", "examples.stores", "faiss", "--count", "12", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["text:", "picture", "that"]
    assert len(lines) == 3 * 5
