"""What docs/stores.md says is what the examples do."""

import re
import subprocess
import sys

import pytest

from examples.stores.__main__ import main
from tests.stores.clients import client
from tests.stores.conftest import LOCAL
from tests.stores.page import FILES, PAGE, ROOT, SECTIONS

EXAMPLES = ROOT / "examples" / "stores"
LOCALS = [
    pytest.param("Qdrant", "qdrant_client", marks=LOCAL),
    ("Chroma", "chromadb"),
    ("LanceDB", "lancedb"),
    ("FAISS", "faiss"),
]


def snippet(section):
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    return code


def test_each_example_has_a_section():
    others = {"__init__", "__main__", "base"}
    assert set(FILES.values()) == {file.stem for file in EXAMPLES.glob("*.py")} - others
    assert SECTIONS.keys() >= FILES.keys()


@pytest.mark.parametrize("section", FILES)
def test_a_section_names_its_file_and_its_install_command(section):
    text = (EXAMPLES / f"{FILES[section]}.py").read_text()
    (command,) = re.findall(r"^pip install .*$", text, re.MULTILINE)
    assert f"`{command}`, code in [{FILES[section]}.py](../examples/stores/{FILES[section]}.py)." in SECTIONS[section]
    compile(snippet(section), section, "exec")


@pytest.mark.slow
@pytest.mark.parametrize(("section", "module"), LOCALS)
def test_the_snippets_of_local_stores_run(section, module, model, catalogue, tmp_path, monkeypatch):
    client(module)
    monkeypatch.chdir(tmp_path)
    names = {"clip": model}
    exec(snippet(section), names)
    with names["store"] as store:
        store.index(catalogue[:3])
        assert len(store.by_text("dress")) == 3


def test_pgvectors_snippet_runs_at_another_address(postgres, model, catalogue):
    names = {"clip": model}
    exec(snippet("pgvector").replace("postgresql://localhost/shop", postgres.database()), names)
    with names["store"] as store:
        store.index(catalogue[:3])
        assert len(store.by_text("dress")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("section", "module"), LOCALS)
def test_the_command_searches_local_stores(section, module, tmp_path, monkeypatch, capsys):
    client(module)
    command = FILES[section].removesuffix("_files")
    assert command in PAGE.split("`python -m examples.stores ")[1].split(".\n")[0]
    monkeypatch.setattr(sys, "argv", ["stores", command, "--count", "40", "--folder", str(tmp_path)])
    main()
    assert_four_searches(capsys.readouterr().out)


@pytest.mark.slow
def test_the_command_searches_the_database_of_database_url(postgres, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", postgres.database())
    monkeypatch.setattr(sys, "argv", ["stores", "pgvector", "--count", "40"])
    main()
    assert_four_searches(capsys.readouterr().out)


@pytest.mark.slow
def test_the_command_as_the_page_has_it_prints_no_warnings(tmp_path):
    client("qdrant_client")
    command = [sys.executable, "-m", "examples.stores", "qdrant", "--count", "40", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert_four_searches(done.stdout)
    assert done.stderr == ""


def assert_four_searches(printed):
    asked = [line.split()[0] for line in printed.splitlines() if not line.startswith(" ")]
    assert asked == ["text:", "picture", "jackets", "that"]
    assert len(printed.splitlines()) > 4 + 3 * 4
