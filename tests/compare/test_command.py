"""`jinaclip compare`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields

import pytest

from jinaclip.cli.main import main
from jinaclip.cli.sources import read_source
from jinaclip.config import EmbedderConfig, ImagePolicy

KEY = "jina_test_" + "0123456789abcdef" * 3


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs the command in this process; gives the exit code, and what it wrote."""
    monkeypatch.setenv("JINA_API_KEY", KEY)

    def run_here(*arguments):
        try:
            code = main(["compare", *map(str, arguments)])
        except SystemExit as end:  # of wrong arguments
            code = end.code
        return code, *capsys.readouterr()

    return run_here


@pytest.mark.slow
def test_one_space_exits_with_0_as_a_process(tiny):
    sides = [str(tiny), f"{tiny},device=cpu,dtype=float32"]
    command = [sys.executable, "-m", "jinaclip", "compare", *sides, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verdict: the same vectors" in done.stdout


def test_two_spaces_exit_with_1(run, tiny, other):
    code, out, err = run(tiny, other, "--device", "cpu", "--no-show-progress")
    assert (code, err) == (1, "")
    assert "verdict: two spaces" in out


def test_a_page_names_both_sides_their_spaces_and_the_bounds(run, tiny):
    code, out, _ = run(tiny, f"{tiny},space=mine")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith(f"A: {tiny}, space ")
    assert lines[1].startswith(f"B: {tiny},space=mine, space mine, ")
    assert "give one side the name of the other" in out
    assert lines[-2].endswith("every cosine at least 0.99, and 95% of the neighbours at 10 kept")


def test_the_estimate_is_told_on_standard_error(run, server, tmp_path):
    (tmp_path / "wishes.txt").write_text("a red dress\na blue dress\na coat")
    code, out, err = run(server.url, f"{server.url},dimensions=1024", tmp_path / "wishes.txt", "--limit", 2)
    assert code == 0
    assert f"A ({server.url}): 2 texts, 2 queries, about " in err
    assert "sample: 2 of 3 texts" in out
    assert server.ledger()["texts"] == 8


def test_options_count_for_both_unless_a_side_has_its_own(run, server):
    code, out, _ = run(server.url, f"{server.url},dimensions=64", "--dimensions", 128)
    assert code == 1
    assert "vectors of 128 and 64 numbers" in out


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("api", "nowhere", "'nowhere' is no source: write api, local, a folder"),
        ("api", "local,truncate_dim=3", "did you mean 'dimensions'"),
        ("api", "local,dimensions=many", "invalid int value"),
        ("api", "local,backend=cloud", "invalid choice"),
        ("api", "local,cache=x.sqlite", "cache means nothing here"),
        ("api", "local,normalized=perhaps", "normalized"),
        ("api", f"local,api_key={KEY}", "api_key is not taken from the command line"),
        ("api", KEY, "set JINA_API_KEY"),
        ("api", "missing.toml", "missing.toml"),
        ("api,dimensions=5000", "api", "api,dimensions=5000: dimensions=5000 does not fit"),
        ("ftp://host", "api", "ftp://host: base_url must be an http(s) URL"),
    ],
)
def test_wrong_arguments_exit_with_2_and_a_line(run, a, b, message):
    code, out, err = run(a, b)
    assert (code, out) == (2, "")
    assert message in err
    assert KEY not in err


def test_files_are_not_among_what_is_missing(run):
    code, _, err = run("api")
    assert code == 2
    assert err.endswith("the following arguments are required: B\n")


def test_a_source_that_does_not_answer_is_no_verdict(run, server, monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", "sk_unknown")
    code, out, err = run(server.url, server.url)
    assert (code, out) == (2, "")
    assert f"error: A ({server.url}): " in err


def test_a_file_of_options_may_hold_a_key_and_a_policy(run, server, tmp_path, monkeypatch):
    monkeypatch.delenv("JINA_API_KEY")
    (tmp_path / "new.toml").write_text(
        f'base_url = "{server.url}"\napi_key = "{KEY}"\ntimeout = 20\n[image_policy]\nformats = ["PNG"]\n'
    )
    (tmp_path / "old.json").write_text(
        json.dumps({"base_url": server.url, "headers": {"Authorization": f"Bearer {KEY}"}})
    )
    code, out, err = run(tmp_path / "new.toml", tmp_path / "old.json")
    assert code == 0, err
    assert KEY not in out + err
    assert read_source(str(tmp_path / "new.toml"))["image_policy"] == ImagePolicy(formats=("PNG",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("api_key = jina_secret_of_somebody", "is no TOML"),
        ("modle = 'x'", "did you mean 'model'"),
        ("transport = 'x'", "transport is not taken"),
        ("[image_policy]\nformat = 'x'", "has no field 'format'"),
        ("[image_policy]\nmax_bytes = 'x'", "image_policy.max_bytes"),
        ("dimensions = 'x'", "dimensions='x' must be"),
    ],
)
def test_a_file_of_options_that_is_wrong_is_told_without_its_values(run, tmp_path, text, message):
    (tmp_path / "side.toml").write_text(text)
    code, _, err = run(tmp_path / "side.toml", "local")
    assert code == 2
    assert message in err
    assert "jina_secret" not in err


def test_any_option_can_be_given_for_one_side():
    """All but those that no command line takes; none is declared here."""
    words = {
        "model": "a/b", "backend": "local", "dimensions": 64, "normalized": False, "truncate": True, "batch_size": 3,
        "max_concurrency": 2, "max_retries": 1, "timeout": 2.5, "deadline": 9.0, "base_url": "http://h:1",
        "space": "mine", "requests_per_minute": 5, "tokens_per_minute": 6, "token_budget": 7, "device": "cpu",
        "dtype": "float32", "revision": "main", "image_resize": "pad", "image_quality": 80, "image_decode": "fast",
        "url_mode": "forward", "engine": "onnx", "threads": 3,
    }  # fmt: skip
    found = read_source(",".join(f"{name}={value}" for name, value in words.items()))
    assert found == words
    untold = {field.name for field in fields(EmbedderConfig)} - set(words)
    assert {"api_key", "headers", "transport", "cache", "image_policy", "show_progress"} <= untold


def test_a_folder_whose_name_holds_a_comma_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "a,b=c").mkdir()
    (tmp_path / "a, b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_source("a,b=c") == {"backend": "local", "model": "a,b=c"}
    assert read_source("a, b,device=cpu") == {"backend": "local", "model": "a, b", "device": "cpu"}


def test_help_tells_what_a_source_is(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "http://host:8000" in out
    assert "Exit status: 0 one space, 1 two spaces, 2 not known" in out
    assert "--cache" not in out
    assert os.linesep in out
