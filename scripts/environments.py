"""Environments of their own beside `.venv`, and the tests in them: for `test_versions.py` and `test_lowest.py`.

What is tested there is the source tree or, with `--wheels`, what was built of it. They are without PyTorch, whose
wheels for Linux bring CUDA, several GB of it. What needs PyTorch is skipped there and listed with that reason, and
under CI a skip for another one fails the run. What takes long is left out, as by `make test-all`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CORE = ROOT / "shared" / "pyproject.toml"
CORE_TESTS = ROOT / "requirements-core-tests.txt"
EXTRAS = "bulk,pdf,redis,rerank,evaluate,sagemaker,serve,testing"
"""Of the core: all that its tests need without PyTorch."""
OWN = "{}.{}".format(*sys.version_info)
PARALLEL = ["--numprocesses", "3", "--dist", "worksteal"]
END_ON_HANG = ["-o", "faulthandler_exit_on_timeout=true"]
"""A test that hangs ends its process, which fails it. pytest has this from 9 on."""
NOT_THE_CORE = [
    "tests/contract/test_frameworks.py",
    "tests/contract/test_hosts.py",
    "tests/contract/test_snapshots.py",
    "tests/examples",
    "tests/haystack",
    "tests/langchain",
    "tests/llamaindex",
    "tests/packaging",
    "tests/stores",
]
EACH_CHANGE = ["-m", "not network and not weights and not gpu and not browser and not long"]
"""The slow tests too, which pytest leaves out where it is not told otherwise."""
CORE_ONLY = [f"--ignore={path}" for path in NOT_THE_CORE]
SUITES = {
    "core": CORE_ONLY,
    "langchain": ["tests/langchain"],
    "llamaindex": ["tests/llamaindex"],
    "haystack": ["tests/haystack"],
}
"""Arguments of pytest for the tests of the core and of each adapter."""
LIBRARIES = {
    "langchain": [
        "faiss-cpu",
        "lancedb",
        "langchain",
        "langchain-chroma",
        "langchain-classic",
        "langchain-qdrant",
        "langchain-tests",
        "langgraph-prebuilt",
        "pytest-socket",
    ],
    "llamaindex": ["llama-index-vector-stores-qdrant"],
    "haystack": ["mypy", "qdrant-haystack"],
}
"""What the tests of a host need beside the core's."""


def declared_pythons() -> list[str]:
    """The versions of Python that the core declares, lowest first."""
    return re.findall(r"Python :: (3\.\d+)", CORE.read_text())


def find_python(version: str) -> str | None:
    """An interpreter of this version that runs: this one, one on PATH, or one of pyenv, whose shims may refuse."""
    if version == OWN:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in [*os.get_exec_path(), *pyenv.glob(f"versions/{version}.*/bin")]:
        if python := shutil.which(f"python{version}", path=folder):
            code = "import sys, venv; print('{}.{}'.format(*sys.version_info))"
            asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            if asked.returncode == 0 and asked.stdout.strip() == version:
                return python
    return None


def project_of(suite: str) -> Path:
    """The pyproject.toml of the core or of an adapter."""
    return CORE if suite == "core" else ROOT / "packages" / f"{suite}_jinaclip" / "pyproject.toml"


def distributions(suite: str, wheels: Path | None = None) -> list[str]:
    """Arguments of pip for the core with its extras and, for an adapter's suite, the adapter: editable, or wheels."""
    folders = dict.fromkeys([CORE.parent, project_of(suite).parent])
    core, *others = [str(find_wheel(folder, wheels) if wheels else folder.relative_to(ROOT)) for folder in folders]
    places = [f"{core}[{EXTRAS}]", *others]
    return places if wheels else [argument for place in places for argument in ("--editable", place)]


def find_wheel(folder: Path, wheels: Path) -> Path:
    """The wheel of what a folder holds."""
    name = "jinaclip" if folder == CORE.parent else folder.name
    [wheel] = wheels.resolve().glob(f"{name}-*.whl")
    return wheel


def test_libraries(suite: str) -> list[str]:
    """Names of what the tests of a suite need."""
    lines = [line for line in CORE_TESTS.read_text().splitlines() if line and not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    core = [one.name for one in found if one.marker is None or one.marker.evaluate()]
    return [*core, *LIBRARIES.get(suite, [])]


def python_of(environment: Path) -> Path:
    """The interpreter of an environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(python: str, environment: Path, what: list[str], lists: Iterable[Path] = ()) -> None:
    """Makes an environment, anew if the interpreter, what is installed or a list of requirements has changed since.

    Args:
        python: the interpreter.
        environment: its folder.
        what: arguments of `pip install`.
        lists: files that `what` refers to.
    """
    stamp, wanted = environment / "installed", shlex.join([python, *what])
    changed = max(path.stat().st_mtime for path in [CORE, *lists])
    if stamp.exists() and stamp.read_text() == wanted and stamp.stat().st_mtime > changed:
        return
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python_of(environment), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", *what], cwd=ROOT, check=True)
    stamp.write_text(wanted)


def run_tests(environment: Path, arguments: Iterable[str]) -> None:
    """Runs pytest in an environment, with the slow tests; what is skipped, or passed at the second try, is listed."""
    reruns = [f"--reruns={os.environ['RERUNS']}"] if "RERUNS" in os.environ else []
    command = [python_of(environment), "-m", "pytest", "-rfER", *reruns, *PARALLEL, *EACH_CHANGE, *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


class Report:
    """What came of each environment."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed = False

    def add(self, name: str, outcome: str) -> None:
        """Notes an outcome."""
        self.lines.append(f"{name}: {outcome}")

    @contextmanager
    def attempt(self, name: str, note: str) -> Iterator[None]:
        """Notes whether all that is run here ends well, how long it took, and the note."""
        print(f"\n{name}", flush=True)
        start, outcome = time.monotonic(), "passed"
        try:
            yield
        except subprocess.CalledProcessError as failed:
            print(f"{shlex.join(map(str, failed.cmd))} ended with status {failed.returncode}")
            outcome, self.failed = "FAILED", True
        self.add(name, f"{outcome} in {time.monotonic() - start:.0f} s, {note}")

    def show(self) -> int:
        """Prints what was noted. Gives 1 if anything failed, else 0, for `sys.exit`."""
        print("", *self.lines, sep="\n")
        return int(self.failed)
