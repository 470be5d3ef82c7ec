"""A run lists what it skipped, and where CI asks for it fails if a reason is not one of those listed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import NOT_WITH_THE_CORE, is_expected

ROOT = Path(__file__).parents[1]
MODULE = """
import pytest

def test_runs(): pass
def test_cannot(): pytest.skip("needs the moon, which is not installed")
@pytest.mark.parametrize("width", [1, 2])
def test_cuts(width): pytest.skip("this model cannot be cut")
"""


def run_with(folder, *options):
    (folder / "conftest.py").write_text("pytest_plugins = ['tests.skips']")
    (folder / "test_some.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist", f"--rootdir={folder}", *options]
    # Other plugins take seconds to import.
    environment = {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run([*command, folder], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code"),
    [((), 0), (("--skips=full",), 1), (("--skips=core", "--numprocesses=1"), 1), (("--skips=full", "-k=cuts"), 0)],
    ids=["listed", "full", "core, in a worker", "expected alone"],
)
def test_what_is_skipped_is_listed_and_fails_the_run_if_it_is_not_expected(tmp_path, options, code):
    done = run_with(tmp_path, *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "this model cannot be cut: test_some.py (2)" in done.stdout
    if "-k=cuts" not in options:
        assert "needs the moon, which is not installed: test_some.py (1)" in done.stdout
    assert ("UNEXPECTED SKIP: needs the moon" in done.stdout) == bool(code)


@pytest.mark.parametrize("module", NOT_WITH_THE_CORE)
def test_what_the_core_is_tested_without_must_be_there_in_a_full_run(module):
    for reason in (
        f"needs {module}, which is not installed",
        f"all of tests/x: needs {module}, which is not installed",
    ):
        assert is_expected(reason, "core")
        assert not is_expected(reason, "full")


def test_a_reason_is_compared_whole():
    assert is_expected("this model cannot be cut", "full")
    assert not is_expected("this model cannot be cut today", "full")
    assert not is_expected("needs torchvision, which is not installed", "core")
