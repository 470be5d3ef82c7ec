"""`python -m jinaclip evaluate` as people run it."""

import subprocess
import sys
from dataclasses import fields

import pytest

from jinaclip import EmbedderConfig
from jinaclip.cli import UNSPOKEN, main, parser


def python(*arguments, **options):
    command = [sys.executable, "-m", "jinaclip", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_a_process_prints_the_tables_and_writes_the_files(catalogue, catalogue_checkpoint, evaluation, tmp_path):
    out = tmp_path / "out"
    options = ["--model", catalogue_checkpoint, "--backend", "local", "--device", "cpu", "--out", out]
    done = python("evaluate", "items.jsonl", "queries.jsonl", *options, "--pool", 15, "--resamples", 300, cwd=catalogue)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == evaluation.markdown().strip()
    assert "300 items, 48 queries: about" in done.stderr
    names = {"categories.csv", "diversity.csv", "evaluation.md", "matryoshka.csv", "matryoshka.png", "recall.csv"}
    assert {path.name for path in out.iterdir()} == names


def test_every_word_and_number_among_the_options_can_be_given():
    """All but the key, which others could read, and the policy, which is no word."""
    given = ["evaluate", "i", "q", "--batch-size", "7", "--timeout", "2.5", "--no-truncate", "--backend", "local"]
    found = vars(parser().parse_args(given))
    assert (found["batch_size"], found["timeout"], found["truncate"], found["backend"]) == (7, 2.5, False, "local")
    text = parser()._subparsers._group_actions[0].choices["evaluate"].format_help()
    for field in fields(EmbedderConfig):
        assert (f"--{field.name.replace('_', '-')}" in text) == (field.name not in UNSPOKEN), field.name


def test_options_that_are_not_given_are_the_core_s():
    found = vars(parser().parse_args(["evaluate", "i", "q"]))
    assert not set(found) & {field.name for field in fields(EmbedderConfig)}


def test_what_goes_wrong_is_one_line_and_a_status(tmp_path, capsys, catalogue_checkpoint):
    given = ["evaluate", str(tmp_path / "no.jsonl"), "q.jsonl", "--model", catalogue_checkpoint, "--backend", "local"]
    assert main(given) == 1
    assert capsys.readouterr().err.startswith("error: there is no file")


def test_a_key_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "i", "q", "--api-key", "jina_secret"])
    assert "--api-key" in capsys.readouterr().err


def test_the_hosted_api_takes_its_key_from_the_environment(server, monkeypatch, tmp_path, capsys):
    from PIL import Image

    from tests.evaluation.conftest import write

    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{i}.png")
    write(
        tmp_path / "items.jsonl",
        ({"id": i, "text": f"item {i}", "image": f"{i}.png", "categories": str(i)} for i in range(2)),
    )
    write(tmp_path / "queries.jsonl", [{"text": "nought", "categories": "0"}])
    monkeypatch.setenv("JINA_API_KEY", "jina_test_cli")
    files = [str(tmp_path / name) for name in ("items.jsonl", "queries.jsonl")]
    assert main(["evaluate", *files, "--base-url", server.url, "--dimensions", "64", "--resamples", "20"]) == 0
    out = capsys.readouterr()
    assert "# Evaluation of jina-clip-v2" in out.out
    assert "about 8," in out.err  # two tiles of 4000 tokens, and a few words
