"""The Dockerfile as it reads. It was never built in a test: that takes a daemon and gigabytes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from jinaclip.cli.main import make_parser
from jinaclip.server.settings import Settings

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """Each instruction with what follows it, lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def last(name: str) -> str:
    return [rest for own, rest in instructions() if own == name][-1]


def test_every_instruction_is_one_that_docker_knows() -> None:
    known = {
        "ARG",
        "FROM",
        "ENV",
        "RUN",
        "COPY",
        "USER",
        "WORKDIR",
        "VOLUME",
        "EXPOSE",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {name for name, _ in instructions()} <= known
    assert next(name for name, _ in instructions() if name != "ARG") == "FROM"


def test_it_runs_as_a_user_without_rights_whom_orchestrators_know_by_number() -> None:
    names = [name for name, _ in instructions()]
    assert int(last("USER")) > 0
    assert "RUN" not in names[names.index("USER") :]
    assert f"--uid {last('USER')}" in last("RUN")


def test_every_stage_begins_with_a_slim_python_that_we_support() -> None:
    stages = [rest for name, rest in instructions() if name == "FROM"]
    assert all(stage.startswith("python:${PYTHON}-slim") for stage in stages)
    wanted = tomllib.loads((ROOT / "shared/pyproject.toml").read_text())["project"]["classifiers"]
    version = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")["PYTHON"]
    assert f"Programming Language :: Python :: {version}" in wanted


def test_what_is_copied_is_there_and_not_ignored() -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [rest.split()[0] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source in let_in


def test_the_extras_that_it_installs_are_there() -> None:
    extras = tomllib.loads((ROOT / "shared/pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"shared\[([\w,]+)\]", (ROOT / "Dockerfile").read_text())
    assert set(named.split(",")) <= set(extras)


def test_its_command_is_one_that_the_program_takes() -> None:
    command = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    options = vars(make_parser().parse_args(command[1:]))
    assert command[0] == "jinaclip"
    assert options["keys"], "other machines reach a container, so it needs keys"


def test_its_port_and_its_health_are_those_of_the_server() -> None:
    assert int(last("EXPOSE")) == Settings().port
    (url,) = re.findall(r"http://[^']+", last("HEALTHCHECK"))
    assert (urlsplit(url).port, urlsplit(url).path) == (Settings().port, "/ready")


def test_no_secret_is_built_in() -> None:
    assert not re.search(r"(?i)key=|token=|password", " ".join(rest for _, rest in instructions()))
