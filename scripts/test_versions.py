"""Runs the core's tests on the other Pythons that it declares, as far as the machine has them: `make test-versions`.

Each gets an environment of its own, `.venv-3.12` say, without PyTorch, whose wheels for Linux bring CUDA, several GB of
it. What needs PyTorch is skipped there and listed with that reason; what takes long is left out, as by `make test`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "shared" / "pyproject.toml"
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS = ROOT / "requirements-core-tests.txt"
PARALLEL = ["--numprocesses", "3", "--dist", "worksteal"]
OWN = "{}.{}".format(*sys.version_info)
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


def find_python(version: str) -> str | None:
    """An interpreter of this version that runs, on PATH or under pyenv: a shim of pyenv may be there and refuse."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in [*os.get_exec_path(), *pyenv.glob(f"versions/{version}.*/bin")]:
        if python := shutil.which(f"python{version}", path=folder):
            code = "import sys, venv; print('{}.{}'.format(*sys.version_info))"
            asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            if asked.returncode == 0 and asked.stdout.strip() == version:
                return python
    return None


def install(python: str, environment: Path) -> None:
    """Makes the environment, anew if the interpreter or a list of requirements has changed since."""
    stamp = environment / "installed"
    changed = max(path.stat().st_mtime for path in (PROJECT, CONSTRAINTS, REQUIREMENTS))
    if stamp.exists() and stamp.read_text() == python and stamp.stat().st_mtime > changed:
        return
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "--disable-pip-version-check"]
    what = [
        "--constraint",
        CONSTRAINTS,
        "--requirement",
        REQUIREMENTS,
        "--editable",
        "shared[pdf,parquet,redis,rerank,evaluate,testing]",
    ]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", *what], cwd=ROOT, check=True)
    stamp.write_text(python)


def test(version: str, python: str) -> bool:
    """Whether the core's tests pass."""
    print(f"\nPython {version}, {python}", flush=True)
    environment = ROOT / f".venv-{version}"
    command = [environment / "bin" / "python", "-m", "pytest", "-rs", *PARALLEL]
    try:
        install(python, environment)
        subprocess.run([*command, *(f"--ignore={path}" for path in NOT_THE_CORE)], cwd=ROOT, check=True)
    except subprocess.CalledProcessError as failed:
        print(f"{shlex.join(map(str, failed.cmd))} ended with status {failed.returncode}")
        return False
    return True


def main() -> int:
    """1 if the tests fail on any Python that was found, else 0."""
    report = {}
    for version in re.findall(r"Python :: (3\.\d+)", PROJECT.read_text()):
        if version == OWN:
            report[version] = "not run here: make test runs the whole suite on it"
        elif python := find_python(version):
            start = time.monotonic()
            outcome = "passed" if test(version, python) else "FAILED"
            report[version] = f"{outcome} in {time.monotonic() - start:.0f} s, without PyTorch"
        else:
            report[version] = "not run: no interpreter found"
    print()
    for version, line in report.items():
        print(f"Python {version}: {line}")
    print(f"Not of the core, run by make test only: {', '.join(NOT_THE_CORE)}")
    return int(any("FAILED" in line for line in report.values()))


if __name__ == "__main__":
    sys.exit(main())
