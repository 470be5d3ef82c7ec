"""Runs the suites of the core and of each adapter at the lowest versions that they declare: `make test-lowest`.

Each gets an environment of its own, `.venv-lowest-langchain` say, on the lowest Python that is declared; see
`environments.py`. Names on the command line choose among them: core, langchain, llamaindex, haystack.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from environments import CORE, CORE_ONLY, CORE_TESTS, EXTRAS, ROOT, Report, declared_pythons, find_python, install
from environments import run_tests as run
from packaging.requirements import Requirement

RUNNER = "pytest"
"""Declared for the fixtures of `jinaclip.testing`. Here it runs the tests, as new as their other libraries want it."""
SUITES = {
    "core": CORE_ONLY,
    "langchain": ["tests/langchain"],
    "llamaindex": ["tests/llamaindex"],
    "haystack": ["tests/haystack"],
}
LIBRARIES = {
    "langchain": [
        "faiss-cpu",
        "lancedb",
        "langchain==1.2.4",
        "langchain-chroma==1.1.0",
        "langchain-classic==1.0.1",
        "langchain-qdrant",
        "langchain-tests==1.1.2",
        "langgraph-prebuilt==1.0.8",
        "pytest-socket",
    ],
    "llamaindex": ["llama-index-vector-stores-qdrant"],
    "haystack": ["mypy"],
}
"""What the tests of a host need beside the core's; versions only where pip would search long for those that fit."""


def main(names: list[str]) -> int:
    """1 if a suite fails, else 0."""
    report, version = Report(), declared_pythons()[0]
    python = find_python(version)
    for name in names or SUITES:
        if python is None:
            report.add(name, f"not run: no Python {version} found")
            continue
        environment, project, pins = ROOT / f".venv-lowest-{name}", project_of(name), lowest(declared(name))
        with report.attempt(f"{name} on Python {version}", f"without PyTorch, with {' '.join(pins)}"):
            install(python, environment, [*editable(project), *pins, *test_libraries(name)], [project, CORE_TESTS])
            run(environment, SUITES[name])
    return report.show()


def project_of(name: str) -> Path:
    """The pyproject.toml of the core or of an adapter."""
    return CORE if name == "core" else ROOT / "packages" / f"{name}_jinaclip" / "pyproject.toml"


def editable(project: Path) -> list[str]:
    """Arguments of pip for the core with its extras and, if it is another, for the project."""
    core = ["--editable", f"shared[{EXTRAS}]"]
    return core if project == CORE else [*core, "--editable", str(project.parent)]


def declared(name: str) -> list[str]:
    """The requirements of the core, with the extras that its tests need, and those of an adapter."""
    core, own = read_project(CORE), read_project(project_of(name))
    extras = (core["optional-dependencies"][extra] for extra in EXTRAS.split(","))
    return [*dict.fromkeys([*core["dependencies"], *(one for extra in extras for one in extra), *own["dependencies"]])]


def read_project(path: Path) -> dict:
    """The table `project`."""
    return tomllib.loads(path.read_text())["project"]


def lowest(requirements: Iterable[str]) -> list[str]:
    """The lowest version of each requirement that names one."""
    pins = []
    for requirement in map(Requirement, requirements):
        bounds = [one.version for one in requirement.specifier if one.operator == ">="]
        if bounds and requirement.name != RUNNER:
            pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


def test_libraries(name: str) -> list[str]:
    """What the tests need, the core's without their lower bounds, which are for the newest versions of all else."""
    lines = [line for line in CORE_TESTS.read_text().splitlines() if line and not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    return [*(one.name for one in found if one.marker is None or one.marker.evaluate()), *LIBRARIES.get(name, [])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
