"""The command line of the server, as far as it serves nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jinaclip.cli.main import main
from jinaclip.server.engines import Engines
from jinaclip.server.keys import digest
from tests.needs import skip_without

WITHOUT = """
import sys
sys.modules[{module!r}] = None
from jinaclip.cli.main import main
sys.exit(main(["serve", "--backend", "api", "--port", "0"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_extra_is_named(module: str) -> None:
    code = WITHOUT.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'jinaclip[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_is_made_and_shown_once_with_its_line_for_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--make-key", "shop"]) == 0
    shown = capsys.readouterr().out.splitlines()
    key = shown[0].split()[-1]
    assert shown[-1] == f"{digest(key).hex()} shop"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "port=70000 must be"),
        (["--host", "0.0.0.0"], "without keys"),
        (["--keys", "/there/is/no/such/file"], "/there/is/no/such/file"),
        (["--model", "jina-clip-v3"], "jina-clip-v3"),
        (["--make-key", "a name"], "no key for"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_option_is_one_line_and_exit_code_1(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--backend", "api", *options]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert words in shown


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    skip_without("torch")
    assert main(["serve", "--model", "/there/is/no/model"]) == 1
    assert "/there/is/no/model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--modle", "x"], "unrecognized arguments: --modle x"),
        (["jina-clip-v2"], "unrecognized arguments: jina-clip-v2"),
        (["--make-key"], "argument --make-key: expected one argument"),
        (["--keys"], "argument --keys: expected one argument"),
        (["--api-key", "sk-1234"], "keys are not taken from the command line"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_misspelt_option_is_told_with_the_usage_of_serve(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *options])
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert shown.startswith("usage: jinaclip serve ")
    assert words in shown
    assert "1234" not in shown


def test_options_of_a_file_are_those_of_the_command_line_which_win(
    tmp_path, capsys: pytest.CaptureFixture[str], catalogue_checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(
        f'model = "{catalogue_checkpoint}"\ndimensions = 32\ntruncate = true\nimage_policy = {{max_pixels = 1000}}\n'
    )
    made = list[Engines]()
    monkeypatch.setattr("jinaclip.server.serve", lambda _, engines: made.append(engines) or 0)
    assert main(["serve", "--options", str(file), "--dimensions", "64", "--device", "cpu"]) == 0
    config = made[0].config
    assert (config.backend, config.dimensions, config.truncate, config.image_policy.max_pixels) == (
        "local",
        64,
        True,
        1000,
    )
    file.write_text("transport = 1")
    assert main(["serve", "--options", str(file)]) == 1
    assert "transport" in capsys.readouterr().err


@pytest.mark.slow
def test_a_gateway_without_a_key_ends_and_names_the_variable() -> None:
    command = [sys.executable, "-m", "jinaclip", "serve", "--backend", "api", "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if name not in ("JINA_API_KEY", "JINAAI_API_KEY")}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no API key: pass api_key, or set JINA_API_KEY")


@pytest.mark.long
def test_weights_that_cannot_be_used_end_the_server_with_their_error(tmp_path, catalogue_checkpoint: str) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(catalogue_checkpoint, folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    command = [sys.executable, "-m", "jinaclip", "serve", "--model", str(folder), "--device", "cpu", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "model.safetensors" in done.stderr
