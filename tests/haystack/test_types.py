"""The embedders as type checkers see them, where they are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API = ROOT / "tests" / "typing" / "haystack_api.py"
SETTINGS = """
[mypy]
strict = True
warn_return_any = False
explicit_package_bases = True
follow_imports = skip
[mypy-haystack.*,haystack_integrations.*,haystack_jinaclip.*,jinaclip.*]
follow_imports = normal
"""
"""As in pyproject.toml, but what Haystack itself imports does not matter here, and takes half a minute to read."""


@pytest.mark.slow
def test_every_public_call_has_the_types_it_should(tmp_path) -> None:
    """Haystack's protocols hold too, and wrong options are seen: an ignore that is not needed is an error."""
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", API],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
