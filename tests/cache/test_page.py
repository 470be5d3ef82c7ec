"""What docs/cache.md shows works as it stands, but for the address of the service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jinaclip.testing import Server
from tests.needs import skip_without

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text("utf-8")


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_first_program_pays_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_test_page")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = programs()[0]
    assert code.count("cache=True") == 1
    exec(code.replace("cache=True", f"cache=True, base_url={server.url!r}"), {})
    assert server.ledger()["texts"] == 2
    assert capsys.readouterr().out.startswith("2 ")


def test_redis_is_named_as_it_is_made() -> None:
    """Nothing is dialled before there is something to look up."""
    skip_without("redis")
    names: dict[str, object] = {}
    exec(programs()[1].replace("cache.internal", "127.0.0.1:9"), names)
    assert "127.0.0.1:9" in repr(names["clip"].cache)  # type: ignore[attr-defined]
    assert "password" not in repr(names["clip"].cache)  # type: ignore[attr-defined]


def test_the_fixture_for_tests_is_that_of_the_example() -> None:
    """Which is run by tests/examples; here only that the page says the same."""
    example = (Path(__file__).parents[2] / "examples" / "offline" / "conftest.py").read_text("utf-8")
    for word in ("shutil.copyfile(FILE, ", "tmp_path_factory.mktemp", "token_budget=", '.with_name("vectors.sqlite")'):
        assert word in programs()[2]
        assert word in example
