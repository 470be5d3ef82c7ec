"""`jinaclip cache`: one line, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jinaclip import Cache, JinaClip
from jinaclip.cli.main import main
from tests.needs import skip_without

Make = Callable[..., JinaClip]
Run = Callable[..., tuple[str, str]]
TEXTS = [f"text {number}" for number in range(25)]


@pytest.fixture
def path(clip: Make, tmp_path: Path) -> Path:
    """A cache of some texts, closed."""
    place = tmp_path / "cache" / "vectors.sqlite"
    clip(cache=place).embed_documents(TEXTS)
    Cache(place).close()
    return place


def run_process(*arguments: Any, code: int = 0, **environment: str) -> tuple[str, str]:
    """As people run it."""
    command = [sys.executable, "-m", "jinaclip", "cache", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if name != "JINACLIP_CACHE"} | environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same in this process, which starts at once."""

    def run_here(*arguments: Any, code: int = 0, **environment: str) -> tuple[str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            assert main(["cache", *map(str, arguments)]) == code
        except SystemExit as end:  # of wrong arguments
            assert end.code == code
        return tuple(capsys.readouterr())

    return run_here


@pytest.mark.slow
def test_stats_and_clear(path: Path) -> None:
    out, err = run_process("stats", "--cache", path)
    assert out.startswith(f"{path}: 25 entries, 0.1 MiB")
    assert err == ""
    assert run_process("clear", "--cache", path) == (f"{path}: empty\n", "")
    assert run_process("stats", JINACLIP_CACHE=str(path))[0].startswith(f"{path}: 0 entries")


def test_what_cannot_be_used_is_one_line_and_no_traceback(path: Path) -> None:
    path.write_bytes(b"no database at all " * 1000)
    out, err = run_process("stats", "--cache", path, code=1)
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.slow
def test_the_place_is_the_variable_s_or_one_s_own(run: Run, path: Path, tmp_path: Path) -> None:
    assert run("stats", JINACLIP_CACHE=str(path))[0].startswith(f"{path}: 25 entries")
    own = tmp_path / "own"
    for value in ("", "1", "0"):
        out, _ = run("stats", JINACLIP_CACHE=value, XDG_CACHE_HOME=str(own), HOME=str(own))
        assert str(own) in out
        assert ": 0 entries" in out


def test_export_and_import(run: Run, clip: Make, path: Path, tmp_path: Path) -> None:
    skip_without("pyarrow")
    table, there = tmp_path / "table.parquet", tmp_path / "there" / "vectors.sqlite"
    assert run("export", table, "--cache", path) == (f"25 entries of {path} are in {table}\n", "")
    assert run("import", table, "--cache", there) == (f"25 entries of {table} are new in {there}\n", "")
    assert run("import", table, "--cache", there)[0].startswith("0 entries")
    assert clip(cache=there).embed(TEXTS).usage.hits == len(TEXTS)


@pytest.mark.slow
def test_what_cannot_be_done_is_one_line(run: Run, path: Path, tmp_path: Path) -> None:
    skip_without("pyarrow")
    path.write_bytes(b"no database at all " * 1000)
    wrong = tmp_path / "wrong.parquet"
    wrong.write_bytes(b"no table")
    there = tmp_path / "there" / "v.sqlite"
    cases = [
        ("stats", "--cache", path),
        ("clear", "--cache", path),
        ("export", tmp_path / "table.parquet", "--cache", path),
        ("import", wrong, "--cache", there),
        ("import", tmp_path / "nowhere.parquet", "--cache", there),
        ("export", tmp_path / "nowhere" / "table.parquet", "--cache", there),
    ]
    for case in cases:
        out, err = run(*case, code=1)
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert not (tmp_path / "table.parquet").exists()


@pytest.mark.parametrize("arguments", [(), ("import",), ("export",), ("forget",), ("stats", "more")], ids=str)
def test_wrong_arguments(run: Run, arguments: Any) -> None:
    out, err = run(*arguments, code=2)
    assert out == ""
    assert "usage: " in err
