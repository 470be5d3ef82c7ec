"""The five distributions build, and what is in the wheels works without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jinaclip
from tests.packaging.conftest import DISTRIBUTIONS, ROOT

pytestmark = pytest.mark.slow  # builds five distributions

MODULES = {
    **{name: name for name in DISTRIBUTIONS},
    "llama_index_embeddings_jinaclip": "llama_index.embeddings.jinaclip",
}
"""What each is imported as."""


@pytest.fixture(scope="module")
def site(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what all wheels hold, as an installation puts it there."""
    folder = tmp_path_factory.mktemp("site")
    for wheel in wheels.values():
        zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_types_and_licence(wheels: dict[str, Path], name: str) -> None:
    files = zipfile.ZipFile(wheels[name]).namelist()
    assert f"{MODULES[name].replace('.', '/')}/py.typed" in files
    assert any(file.endswith("/licenses/LICENSE") for file in files)
    assert not any(file.startswith(("tests/", "src/")) for file in files)


def test_the_wheel_of_the_core_holds_the_page_of_the_server(wheels: dict[str, Path]) -> None:
    files = zipfile.ZipFile(wheels["jinaclip"]).namelist()
    folder = ROOT / "shared" / "src" / "jinaclip" / "server" / "page"
    names = {path.name for path in folder.iterdir() if path.suffix in (".html", ".css", ".js", ".svg")}
    assert names >= {"index.html", "page.css", "page.js"}
    assert {f"jinaclip/server/page/{name}" for name in names} <= set(files)


def test_the_wheels_import_without_the_source_tree(site: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import importlib\n"
        "for name in sys.argv[3:]:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__file__.startswith(sys.argv[1]), module.__file__\n"
        "    assert module.__version__ == sys.argv[2], module.__version__\n"
        "    [getattr(module, public) for public in module.__all__]\n"
        "import jinaclip.backends.api.backend, jinaclip.images\n"
        "assert jinaclip.backends.api.backend.__file__.startswith(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, str(site), jinaclip.__version__, *MODULES.values()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SAME = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
import llama_index.core  # whose namespace is still its own
from llama_index.embeddings.jinaclip import *
from llama_index.embeddings.jinaclip import JinaClipEmbedding, __all__
import llamaindex_jinaclip
assert all(globals()[name] is getattr(llamaindex_jinaclip, name) for name in llamaindex_jinaclip.__all__)
assert __all__ == llamaindex_jinaclip.__all__
made = JinaClipEmbedding(dimensions=64)
assert made.class_name() == "JinaClipEmbedding"
assert type(pickle.loads(pickle.dumps(made))) is llamaindex_jinaclip.JinaClipEmbedding
assert b"llama_index.embeddings" not in pickle.dumps(made)
assert "llama_index.embeddings" not in made.to_json()
"""


def test_llamaindex_s_name_for_its_integrations_gives_the_same_classes(site: Path, tmp_path: Path) -> None:
    files = {file.relative_to(site / "llama_index").parts[:2] for file in site.glob("llama_index/**/*.*")}
    assert files == {("embeddings", "jinaclip")}, "the rest of the namespace belongs to LlamaIndex"
    command = [sys.executable, "-W", "error", "-c", SAME, str(site)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_test_service_runs_from_a_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    zipfile.ZipFile(wheels["jinaclip"]).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    code = (
        "import jinaclip.testing, sys\n"
        "assert jinaclip.testing.__file__.startswith(sys.argv[1])\n"
        "with jinaclip.testing.Server() as server:\n"
        "    print(server.ledger()['requests'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path / "elsewhere",
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
