"""Runs the suites of the core and of each adapter at the lowest versions that they declare: `make test-lowest`.

Each gets an environment of its own, `.venv-lowest-langchain` say, on the lowest Python that is declared; see
`environments.py`. Names on the command line choose among them: core, langchain, llamaindex, haystack. `--wheels FOLDER`
tests the wheels there and not the source tree.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from environments import (
    CORE,
    CORE_TESTS,
    EXTRAS,
    ROOT,
    SUITES,
    Report,
    declared_pythons,
    distributions,
    find_python,
    install,
    project_of,
    test_libraries,
)
from environments import run_tests as run

RUNNER = "pytest"
"""Declared for the fixtures of `jinaclip.testing`. Here it runs the tests, as new as their other libraries want it."""
SEARCHED = {
    "langchain": [
        "langchain==1.2.4",
        "langchain-chroma==1.1.0",
        "langchain-classic==1.0.1",
        "langchain-tests==1.1.2",
        "langgraph-prebuilt==1.0.8",
    ],
}
"""Versions of test libraries, where pip would search long for those that fit."""


def main(names: list[str], wheels: Path | None = None) -> int:
    """1 if a suite fails, else 0."""
    report, version = Report(), declared_pythons()[0]
    python = find_python(version)
    for name in names or SUITES:
        if python is None:
            report.add(name, f"not run: no Python {version} found")
            continue
        environment, project, pins = ROOT / f".venv-lowest-{name}", project_of(name), lowest(declared(name))
        what = [*distributions(name, wheels), *pins, *test_libraries(name), *SEARCHED.get(name, [])]
        with report.attempt(f"{name} on Python {version}", f"without PyTorch, with {' '.join(pins)}"):
            install(python, environment, what, [project, CORE_TESTS])
            run(environment, SUITES[name])
    return report.show()


def declared(name: str) -> list[str]:
    """The requirements of the core, with the extras that its tests need, and those of an adapter."""
    core, own = read_project(CORE), read_project(project_of(name))
    extras = (core["optional-dependencies"][extra] for extra in EXTRAS.split(","))
    return [*dict.fromkeys([*core["dependencies"], *(one for extra in extras for one in extra), *own["dependencies"]])]


def read_project(path: Path) -> dict:
    """The table `project`."""
    return tomllib.loads(path.read_text())["project"]


def lowest(requirements: Iterable[str]) -> list[str]:
    """The lowest version that all requirements of a name allow, but for our own, which are tested as they are."""
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, requirements):
        for one in requirement.specifier:
            if one.operator == ">=" and requirement.name not in (RUNNER, read_project(CORE)["name"]):
                bounds[requirement.name] = max(Version(one.version), bounds.get(requirement.name, Version("0")))
    return [f"{name}=={version}" for name, version in bounds.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="all, if not one is named")
    parser.add_argument("--wheels", type=Path, help="a folder with the wheels to test")
    options = parser.parse_args()
    sys.exit(main(options.suites, options.wheels))
