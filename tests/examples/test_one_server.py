"""The second half of `make demo`: one server, three frameworks, a cache, and what a second run sends."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from examples import one_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second run finds what the first left."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def port() -> int:
    """A free one, the same for both runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("run", ["first", "second"])
def test_three_frameworks_share_a_server_and_a_cache(
    run: str, folder: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_test_demo")  # set by the program too, and taken back after this test
    monkeypatch.setattr(one_server, "PORT", port)
    monkeypatch.setattr(one_server, "COUNT", 40)
    one_server.main(folder)
    printed = capsys.readouterr().out
    assert "all three found" in printed
    assert re.findall(r"(\d+) embedded by the server", printed) == ["44", "88", "132"]
    billed = {int(tokens.replace(",", "")) for tokens in re.findall(r"([\d,]+) tokens billed", printed)}
    assert len(billed) == 1
    assert (billed == {0}) is (run == "second")
    assert re.search(r"compare: (the same vectors|one space, rounded differently)", printed)
    assert "You showed me something blue. There is a red coat" in printed
