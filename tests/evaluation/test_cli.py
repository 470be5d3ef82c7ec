"""The command `jinaclip` as people run it."""

import base64
import io
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from PIL import Image

import jinaclip
from examples.catalogue.table import write_lines, write_table
from jinaclip import JinaClip
from jinaclip.cli.main import log_to_stderr, main, make_parser
from jinaclip.cli.options import LEFT_OUT, MEANINGS
from jinaclip.config import EmbedderConfig
from jinaclip.evaluation import evaluate

COMMAND = [sys.executable, "-m", "jinaclip"]
KEY = "jina_test_" + "0123456789abcdef" * 3


@pytest.mark.slow
def test_a_process_prints_the_tables_and_writes_the_files(model, catalogue_checkpoint, tmp_path):
    table, out = tmp_path / "table", tmp_path / "out"
    write_table(table, count=40, size=64)
    evaluation = evaluate(model, table / "items.jsonl", table / "queries.jsonl", pool=12, resamples=50)
    options = ["--model", catalogue_checkpoint, "--backend", "local", "--device", "cpu", "--out", str(out)]
    given = ["evaluate", "items.jsonl", "queries.jsonl", *options, "--pool", "12", "--resamples", "50"]
    done = subprocess.run([*COMMAND, *given], cwd=table, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == evaluation.markdown().strip()
    texts = evaluation.items + evaluation.queries
    assert f"to embed: {texts} texts, {evaluation.items} images, about" in done.stderr
    tables = {f"{name}.csv" for name in evaluation.tables}
    assert {path.name for path in out.iterdir()} == {
        *tables, "evaluation.md", "matryoshka.png", "quantization.png", "vectors.sqlite"
    }  # fmt: skip


@pytest.fixture
def shelf(tmp_path):
    """Files of a table of twenty, with two queries."""
    write_lines(tmp_path / "items.jsonl", map(square, range(20)))
    write_lines(tmp_path / "queries.jsonl", [{"text": f"kind {kind}", "categories": str(kind)} for kind in range(2)])
    return tmp_path


def square(number):
    data = io.BytesIO()
    Image.new("RGB", (16, 16), (number, 0, 0)).save(data, "PNG")
    image = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"id": number, "text": f"square {number}", "image": image, "categories": str(number % 2)}


@pytest.mark.slow
def test_what_ctrl_c_interrupts_goes_on_when_it_is_run_again(shelf, server):
    """A real process and a real signal, sent while the fourth request hangs: the second with pictures."""
    server.configure(script=[None, None, None, "hang"])
    options = ["--base-url", server.url, "--batch-size", "10", "--max-concurrency", "1", "--resamples", "20"]
    command = [*COMMAND, "evaluate", "items.jsonl", "queries.jsonl", "--out", "report", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=shelf, env={**os.environ, "JINA_API_KEY": KEY}, **pipes) as first:
        while first.poll() is None and server.ledger()["requests"] < 4:
            pass
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=30)
    assert (first.returncode, out) == (130, "")
    assert "interrupted; run it again to go on from report/vectors.sqlite" in err
    assert "Traceback" not in err
    paid = server.ledger()["tiles"]
    assert 0 < paid <= 10
    again = subprocess.run(command, cwd=shelf, env={**os.environ, "JINA_API_KEY": KEY}, check=False, **pipes)
    assert f"to embed: 2 texts, {20 - paid} images" in again.stderr
    assert (again.returncode, server.ledger()["tiles"]) == (0, 20)
    for text in map("square {}".format, range(20)):
        assert server.history("text", text)["answered"] == 1
    assert KEY not in out + err + again.stdout + again.stderr
    assert not [path for path in (shelf / "report").iterdir() if KEY.encode() in path.read_bytes()]


def test_every_word_and_number_among_the_options_can_be_given():
    """All but the key, which others could read, and the policy, which is no word."""
    given = ["evaluate", "i", "q", "--batch-size", "7", "--timeout", "2.5", "--no-truncate", "--backend", "local"]
    given += ["--deadline", "90"]
    found = vars(make_parser().parse_args(given))
    assert (found["batch_size"], found["timeout"], found["truncate"], found["backend"]) == (7, 2.5, False, "local")
    assert found["deadline"] == 90
    text = make_parser()._subparsers._group_actions[0].choices["evaluate"].format_help()
    for field in fields(EmbedderConfig):
        assert (f"--{field.name.replace('_', '-')}" in text) == (field.name not in LEFT_OUT), field.name


def test_options_that_are_not_given_are_the_core_s():
    found = vars(make_parser().parse_args(["evaluate", "i", "q"]))
    assert not set(found) & {field.name for field in fields(EmbedderConfig)}


def test_what_goes_wrong_is_one_line_and_a_status(tmp_path, capsys, catalogue_checkpoint):
    given = ["evaluate", str(tmp_path / "no.jsonl"), "q.jsonl", "--model", catalogue_checkpoint, "--backend", "local"]
    assert main(given) == 1
    assert capsys.readouterr().err.startswith("error: there is no file")


@pytest.mark.parametrize(
    "given", [["--api-key", KEY], [f"--api-key={KEY}"], ["--apikey", "sekret"], ["--key=sekret"], [KEY], ["-k", KEY]]
)
def test_a_key_is_refused_and_not_repeated(capsys, given):
    with pytest.raises(SystemExit):
        main(["evaluate", "i", "q", *given])
    err = capsys.readouterr().err
    assert "JINA_API_KEY" in err
    assert "sekret" not in err
    assert KEY not in err


def test_a_key_in_the_place_of_a_file_is_not_repeated(capsys):
    assert main(["evaluate", KEY, "q"]) == 1
    assert "jina_***" in capsys.readouterr().err


def test_other_mistakes_are_told_as_they_are(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "i", "q", "x-monkey.jsonl"])
    assert "x-monkey.jsonl" in capsys.readouterr().err


def test_the_hosted_api_takes_its_key_from_the_environment(server, monkeypatch, shelf, capsys):
    files = [str(shelf / name) for name in ("items.jsonl", "queries.jsonl")]
    given = ["evaluate", *files, "--base-url", server.url, "--dimensions", "64", "--resamples", "20"]
    monkeypatch.setenv("JINA_API_KEY", KEY)
    assert main(given) == 0
    out = capsys.readouterr()
    assert "# Evaluation of jina-clip-v2" in out.out
    assert "about 80," in out.err  # twenty tiles of 4000 tokens, and a few words
    server.configure(echo_key=True)
    wrong = "jina_wrong_" + "0123456789abcdef" * 3
    monkeypatch.setenv("JINA_API_KEY", wrong)
    assert main(given) == 1
    out = capsys.readouterr()
    assert out.err.count("error: ") == 1
    assert wrong not in out.out + out.err


def test_progress_is_drawn_where_it_is_asked_for(server, monkeypatch, shelf, capsys):
    files = [str(shelf / name) for name in ("items.jsonl", "queries.jsonl")]
    given = ["evaluate", *files, "--base-url", server.url, "--dimensions", "64", "--resamples", "20"]
    monkeypatch.setenv("JINA_API_KEY", KEY)
    assert main([*given, "--show-progress"]) == 0
    assert "20/20" in capsys.readouterr().err
    assert main(given) == 0  # standard error is no terminal here
    assert "20/20" not in capsys.readouterr().err


def test_the_help_tells_the_form_of_the_files_and_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    out = capsys.readouterr().out
    examples = [json.loads(text) for text in re.findall(r"\{\"(?:[^{}]|\{[^{}]*\})*\}", out.split("items:")[1])]
    assert [sorted(row) for row in examples] == [
        ["attributes", "categories", "id", "image", "text"],
        ["categories", "text"],
    ]
    assert set(MEANINGS) == {field.name for field in fields(EmbedderConfig)} - set(LEFT_OUT)


def small_run(shelf, server, monkeypatch, *more):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    options = ["--base-url", server.url, "--dimensions", "64", "--resamples", "20", *map(str, more)]
    return ["evaluate", str(shelf / "items.jsonl"), str(shelf / "queries.jsonl"), *options]


@pytest.mark.slow
def test_a_reader_who_goes_away_costs_no_file(shelf, server, monkeypatch):
    given = small_run(shelf, server, monkeypatch, "--out", shelf / "report")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *given], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert (shelf / "report" / "evaluation.md").read_text().startswith("# Evaluation")


def test_files_that_cannot_be_written_cost_no_table_and_give_no_traceback(shelf, server, monkeypatch, capsys):
    (shelf / "report" / "evaluation.md").mkdir(parents=True)
    assert main(small_run(shelf, server, monkeypatch, "--out", shelf / "report")) == 1
    out = capsys.readouterr()
    assert out.out.startswith("# Evaluation")
    assert out.err.splitlines()[-1].startswith("error: [Errno")


def test_vectors_that_cannot_be_stored_are_one_line(shelf, server, monkeypatch, capsys):
    """The file is of another program's: its table has no such columns."""
    (shelf / "report").mkdir()
    with closing(sqlite3.connect(shelf / "report" / "vectors.sqlite")) as file:
        file.execute("create table vectors (other text)")
    assert main(small_run(shelf, server, monkeypatch, "--out", shelf / "report")) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("vectors.sqlite cannot be used: it is a database of another program; name another file")
    )


def test_a_seed_out_of_range_is_one_line(shelf, server, monkeypatch, capsys):
    assert main(small_run(shelf, server, monkeypatch, "--seed", "-1")) == 1
    assert "error: seed=-1" in capsys.readouterr().err
    assert server.ledger()["requests"] == 0


# the command itself


def test_it_is_installed_as_jinaclip():
    project = tomllib.loads((Path(__file__).parents[2] / "shared" / "pyproject.toml").read_text())["project"]
    assert EntryPoint("jinaclip", project["scripts"]["jinaclip"], "console_scripts").load() is main


def test_the_version_is_printed_at_once():
    """Without numpy, which alone takes longer than all else."""
    code = """
import sys
from jinaclip.cli.main import main
try:
    main(["--version"])
finally:
    assert "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"jinaclip {jinaclip.__version__}\n"


@pytest.mark.parametrize("command", [[], ["evaluate"], ["check"]])
def test_help_calls_it_by_the_name_it_was_called_by(capsys, command):
    for program in ("jinaclip", "python -m jinaclip"):
        with pytest.raises(SystemExit):
            main([*command, "--help"], program=program)
        assert capsys.readouterr().out.startswith(" ".join(["usage:", program, *command]))


def test_as_a_module_it_names_itself_so():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m jinaclip ")


def test_check_says_whether_vectors_are_sound(server, monkeypatch, capsys):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    assert main(["check", "--base-url", server.url]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("jina-clip-v2, backend api, 1024 dimensions")
    assert out[1] == f"space {JinaClip(base_url=server.url).space}"
    assert [line.endswith(" s, length 1.0000") for line in out[2:4]] == [True, True]
    assert out[-1] == "ok"
    monkeypatch.delenv("JINA_API_KEY")
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    assert main(["check", "--base-url", server.url]) == 1
    out = capsys.readouterr().out
    assert "problem: text: AuthenticationError" in out
    assert out.endswith("not ok\n")


def test_ctrl_c_is_one_line_and_the_status_that_shells_expect(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jinaclip.clip.JinaClip.self_test", interrupt)
    assert main(["check"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_check_asks_the_service_each_time_whatever_is_in_the_cache(server, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    monkeypatch.setenv("JINACLIP_CACHE", str(tmp_path / "vectors.sqlite"))
    for _ in range(2):
        assert main(["check", "--base-url", server.url, "--dimensions", "64"]) == 0
    assert main(["check", "--base-url", server.url, "--cache", str(tmp_path / "vectors.sqlite")]) == 0
    assert (server.ledger()["texts"], server.ledger()["images"]) == (3, 3)
    assert capsys.readouterr().out.count("\nok\n") == 3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_cache_that_is_named_goes_before_that_of_the_folder(shelf, server, monkeypatch, capsys, how):
    place, more = shelf / "shared" / "vectors.sqlite", []
    if how == "option":
        more = ["--cache", place]
    else:
        monkeypatch.setenv("JINACLIP_CACHE", str(place))
    for folder in ("one", "two"):
        assert main(small_run(shelf, server, monkeypatch, "--out", shelf / folder, *more)) == 0
        assert not (shelf / folder / "vectors.sqlite").exists()
    assert (place.exists(), server.ledger()["tiles"]) == (True, 20)


@pytest.mark.slow
def test_off_is_off(shelf, server, monkeypatch, capsys):
    for _ in range(2):
        assert main(small_run(shelf, server, monkeypatch, "--out", shelf / "report", "--cache", "off")) == 0
    assert server.ledger()["tiles"] == 40
    assert not (shelf / "report" / "vectors.sqlite").exists()


def test_lines_of_the_log_are_shown_whatever_was_logged_before(capsys):
    logger = logging.getLogger("jinaclip")
    logger.info("dropped, and remembered to be")
    with log_to_stderr():
        logger.info("a line")
    assert capsys.readouterr().err == "a line\n"
