"""The command in this process, which starts in no time; tests/bulk/processes.py has it as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jinaclip.cli.main import main


@pytest.fixture
def command(server, jinaclip_api_key, monkeypatch, capsys):
    """Runs `jinaclip embed` against the fault server; gives the exit code, and what was printed and logged."""
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)

    def run(source: Any, out: Path, *options: str, key: str | None = jinaclip_api_key) -> tuple[int, str, str]:
        monkeypatch.delenv("JINA_API_KEY", raising=False)
        if key is not None:
            monkeypatch.setenv("JINA_API_KEY", key)
        capsys.readouterr()
        code = main(["embed", str(source), "--out", str(out), "--base-url", server.url, *options])
        return code, *capsys.readouterr()

    return run
