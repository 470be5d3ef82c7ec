"""While the command runs, Python's collector of garbage looks less often; it is as it was afterwards."""

from __future__ import annotations

import gc
import json

from jinaclip.bulk.collector import THRESHOLDS, slow_collector_for_run
from jinaclip.cli.main import main


def test_the_collector_is_as_it_was_after_a_run() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with slow_collector_for_run():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > before[1]
    assert gc.get_threshold() == before[0]


def test_the_command_slows_it_for_its_own_run_alone(server, tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(gc, "set_threshold", lambda *numbers: seen.append(numbers))
    monkeypatch.setenv("JINA_API_KEY", "jina_test_collector")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"id": 1, "text": "hello"}))
    source, out = str(tmp_path / "texts.jsonl"), str(tmp_path / "out")
    assert main(["embed", source, "--out", out, "--base-url", server.url]) == 0
    assert seen == [THRESHOLDS, gc.get_threshold()]
