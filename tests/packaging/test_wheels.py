"""The four distributions build, and what is in the wheels works without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {
    "jinaclip": "shared",
    "langchain_jinaclip": "packages/langchain_jinaclip",
    "llamaindex_jinaclip": "packages/llamaindex_jinaclip",
    "haystack_jinaclip": "packages/haystack_jinaclip",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Built as `python -m build` builds them: the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for source in DISTRIBUTIONS.values():
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT / source]
        subprocess.run(command, check=True, capture_output=True)
    return {name: next(folder.glob(f"{name}-*.whl")) for name in DISTRIBUTIONS}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_types_and_licence(wheels: dict[str, Path], name: str) -> None:
    files = zipfile.ZipFile(wheels[name]).namelist()
    assert f"{name}/py.typed" in files
    assert any(file.endswith("/licenses/LICENSE") for file in files)
    assert not any(file.startswith(("tests/", "src/")) for file in files)


def test_the_wheels_import_without_the_source_tree(wheels: dict[str, Path], tmp_path: Path) -> None:
    for wheel in wheels.values():
        zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import importlib\n"
        "for name in sys.argv[2:]:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__file__.startswith(sys.argv[1]), module.__file__\n"
        "    assert module.__version__ == '0.1.0'\n"
        "    [getattr(module, public) for public in module.__all__]\n"
        "import jinaclip.backends.api.backend, jinaclip.images\n"
        "assert jinaclip.backends.api.backend.__file__.startswith(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *DISTRIBUTIONS]
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


def test_all_distributions_share_one_version() -> None:
    import tomllib

    versions = set()
    for source in DISTRIBUTIONS.values():
        versions.add(tomllib.loads((ROOT / source / "pyproject.toml").read_text())["project"]["version"])
    assert len(versions) == 1
