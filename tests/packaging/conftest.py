"""The wheels, built once for all tests of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {
    "jinaclip": "shared",
    "langchain_jinaclip": "packages/langchain_jinaclip",
    "llamaindex_jinaclip": "packages/llamaindex_jinaclip",
    "haystack_jinaclip": "packages/haystack_jinaclip",
    "llama_index_embeddings_jinaclip": "packages/llama_index_embeddings_jinaclip",
}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Built as `python -m build` builds them: the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for source in DISTRIBUTIONS.values():
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT / source]
        subprocess.run(command, check=True, capture_output=True)
    return {name: next(folder.glob(f"{name}-*.whl")) for name in DISTRIBUTIONS}
