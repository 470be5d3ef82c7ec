"""jinaclip.testing as others meet it: fixtures in a project of their own, a command, a missing extra."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

import jinaclip.testing
from jinaclip.testing import FAULTS, Server, Settings
from jinaclip.testing.__main__ import main

README = Path(__file__).parents[2] / "shared" / "README.md"


@pytest.fixture
def project(tmp_path):
    """Runs the tests of a project in a folder of its own, with its own conftest.py and nothing of ours."""

    def run(conftest, test, *options):
        (tmp_path / "conftest.py").write_text(conftest)
        (tmp_path / "test_plugin.py").write_text(test)
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | alone, capture_output=True, text=True, check=False
        )

    return run


def fail_without(module, statement):
    """What is printed when this is run where a module is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_readme_s_three_lines_are_all_that_a_plugin_needs(project):
    section = README.read_text().split("## Test a plugin of your own")[1]
    conftest, test = re.findall(r"```python\n(.*?)```", section, re.S)
    done = project(conftest, test)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.slow
def test_each_test_gets_an_honest_service_and_a_key_of_its_own(project):
    test = """
import pytest

keys = set()

@pytest.mark.parametrize("_", range(2))
def test_nothing_is_left_of_the_test_before(_, jinaclip_server, jinaclip_service, jinaclip_client, jinaclip_api_key):
    assert jinaclip_server is jinaclip_service
    assert jinaclip_server.ledger()["requests"] == 0
    keys.add(jinaclip_api_key)
    clip = jinaclip_client(dimensions=64)
    assert clip.embed_query("red").shape == (64,)
    assert jinaclip_client("jina-clip-v1").embed_query("red").shape == (768,)
    jinaclip_server.configure(fault_rate=1, faults=["auth_401"])

def test_the_keys_differed():
    assert len(keys) == 2
"""
    done = project('pytest_plugins = ["jinaclip.testing.fixtures"]\n', test)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_fixtures_explain_themselves(project):
    done = project('pytest_plugins = ["jinaclip.testing.fixtures"]\n', "", "--fixtures")
    for name in ("jinaclip_service", "jinaclip_server", "jinaclip_api_key", "jinaclip_client"):
        assert re.search(rf"^{name}\b.*\n    \w", done.stdout, re.M), name


def test_a_server_does_not_look_into_the_folder_it_is_started_from(tmp_path, monkeypatch):
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('the wrong uvicorn')")
    monkeypatch.chdir(tmp_path)
    with Server() as server:
        assert server.ledger()["requests"] == 0


def test_a_server_can_be_stopped_twice():
    server = Server()
    server.stop()
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"colour": "red"}, {"script": ["status_999"]}])
def test_a_server_with_wrong_settings_does_not_start(settings, capfd):
    with pytest.raises(RuntimeError, match="did not start"):
        Server(**settings)
    assert next(iter([*settings.get("script", []), *settings])) in capfd.readouterr().err


def test_the_command_serves_until_its_input_ends():
    command = [sys.executable, "-P", "-m", "jinaclip.testing", "--stop-at-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with urlopen(f"{url}/ledger") as response:
            assert json.load(response)["requests"] == 0
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("config", ["{", "[]", '"key"', '{"colour": 1}', '{"faults": ["status_999"]}'])
def test_the_command_refuses_settings_that_it_does_not_know(config, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--config", config])
    assert stopped.value.code == 2
    assert "error: --config: " in capsys.readouterr().err


def test_help_lists_every_setting_with_its_default_and_every_fault(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    settings = text.split("\nsettings:\n")[1].split("\n\n")[0].replace("\n      ", " ")
    described = re.findall(r"^  (\w+): .* \((.*)\)$", settings, re.M)
    defaults = dataclasses.asdict(Settings())
    assert [name for name, _ in described] == list(defaults)
    for name, default in described:
        assert json.loads(default) == json.loads(json.dumps(defaults[name])), name
    assert set(FAULTS) <= set(re.findall(r"\w+", text.split("\nfaults:\n")[1]))


def test_public_names_exist_and_load_late():
    assert [name for name in jinaclip.testing.__all__ if not hasattr(jinaclip.testing, name)] == []
    assert set(jinaclip.testing.__all__) <= set(dir(jinaclip.testing))
    with pytest.raises(AttributeError, match="no attribute 'Sever'"):
        jinaclip.testing.Sever  # noqa: B018
    code = "import sys, jinaclip.testing as t; t.Server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"starlette", "uvicorn", "pytest"} & set(done.stdout.split())


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
@pytest.mark.parametrize(
    "statement",
    [
        "from jinaclip.testing import Server",
        "import jinaclip.testing.vectors",
        "import runpy; runpy.run_module('jinaclip.testing', run_name='__main__')",
    ],
)
def test_a_missing_extra_is_named(module, statement):
    line = fail_without(module, statement)
    assert "MissingDependencyError" in line
    assert f"needs {module}" in line
    assert "pip install 'jinaclip[testing]'" in line


def test_fixtures_without_pytest_name_the_extra_and_the_server_does_not_care():
    line = fail_without("pytest", "import jinaclip.testing.__main__, jinaclip.testing.fixtures")
    assert "fixtures needs pytest, which is not installed: pip install 'jinaclip[testing]'" in line
