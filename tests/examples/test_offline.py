"""The example of a test suite that runs offline from a cache file does so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jinaclip.testing import Server

ROOT = Path(__file__).parents[2]


def run(vectors: Path, url: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The example's tests in a process of their own, without a key unless it is given, and without other plugins."""
    keyless = {name: value for name, value in os.environ.items() if name not in ("JINA_API_KEY", "JINAAI_API_KEY")}
    environment = {**keyless, "SHOP_VECTORS": str(vectors), "SHOP_BASE_URL": url, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"]
    return subprocess.run(
        [*command, "examples/offline"], cwd=ROOT, env=environment | more, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file of what one run has stored, and the address of the service, which is gone since."""
    place = tmp_path_factory.mktemp("suite") / "vectors.sqlite"
    with Server() as server:
        done = run(place, server.url, SHOP_RECORD="1", JINA_API_KEY="jina_test_record")
        assert done.returncode == 0, done.stdout
        sent = server.ledger()
        assert (sent["texts"], sent["images"]) == (3 + 1, 3 + 1)
    return place, server.url


@pytest.mark.slow
def test_a_suite_runs_without_key_and_service_from_what_one_run_stored(recorded: tuple[Path, str]) -> None:
    vectors, url = recorded
    stored = vectors.read_bytes()
    assert [path.name for path in vectors.parent.iterdir()] == ["vectors.sqlite"], "one file, to be committed"
    replayed = run(vectors, url)
    assert replayed.returncode == 0, replayed.stdout
    assert vectors.read_bytes() == stored, "a run changes no file of the repository"


@pytest.mark.slow
@pytest.mark.parametrize("key", [{}, {"JINA_API_KEY": "jina_test_of_a_developer"}], ids=["no key", "a key"])
def test_what_was_not_stored_fails_and_is_not_sent(recorded: tuple[Path, str], key: dict[str, str]) -> None:
    """Here because it was stored of another service, which may have other weights."""
    with Server() as another:
        done = run(recorded[0], another.url, **key)
        assert (done.returncode, another.ledger()["requests"]) == (1, 0)
        assert "BudgetError" in done.stdout or not key
