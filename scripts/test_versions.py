"""Runs tests on the other Pythons that the core declares, as far as the machine has them: `make test-versions`.

Each gets an environment of its own, `.venv-3.12` say; see `environments.py`. Versions on the command line choose among
them, this one too. `--suite` chooses an adapter's tests in place of the core's, `--wheels FOLDER` tests the wheels
there and not the source tree, and `--newest` takes the newest versions of all else, not those of constraints.txt.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from environments import (
    CORE_TESTS,
    END_ON_HANG,
    NOT_THE_CORE,
    OWN,
    ROOT,
    SUITES,
    Report,
    declared_pythons,
    distributions,
    find_python,
    install,
    project_of,
    run_tests,
    test_libraries,
)

CONSTRAINTS = ROOT / "constraints.txt"
SKIPS = {"core": ["--skips=core"]} if "CI" in os.environ else {}
"""What a suite's tests may be skipped for, where CI asks."""


def main(options: argparse.Namespace) -> int:
    """1 if the tests fail on any Python that was found, or one that was named was not found; else 0."""
    report = Report()
    for version in options.versions or declared_pythons():
        if version == OWN and not options.versions:
            report.add(f"Python {version}", "not run here: make test-all runs the whole suite on it")
        elif python := find_python(version):
            with report.attempt(f"Python {version}, {options.suite}", "without PyTorch"):
                environment = ROOT / environment_name(version, options)
                install(
                    python, environment, requirements(options), [CORE_TESTS, CONSTRAINTS, project_of(options.suite)]
                )
                run_tests(environment, [*END_ON_HANG, *SKIPS.get(options.suite, []), *SUITES[options.suite]])
        else:
            report.add(f"Python {version}", "not run: no interpreter found")
            report.failed |= bool(options.versions)
    if options.suite == "core":
        report.add("Not of the core, run by make test-all only", ", ".join(NOT_THE_CORE))
    return report.show()


def environment_name(version: str, options: argparse.Namespace) -> str:
    """`.venv-3.12` for what `make test-versions` runs; others say in what they differ."""
    parts = (
        [options.suite] * (options.suite != "core") + ["newest"] * options.newest + ["wheels"] * bool(options.wheels)
    )
    return "-".join([f".venv-{version}", *parts])


def requirements(options: argparse.Namespace) -> list[str]:
    """Arguments of pip: our own, what the tests need, and at which versions."""
    bounds = [] if options.newest else [f"--constraint={CONSTRAINTS}"]
    own = distributions(options.suite, options.wheels)
    return [*bounds, f"--requirement={CORE_TESTS}", *own, *test_libraries(options.suite)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", help="all but this one, if not one is named")
    parser.add_argument("--suite", choices=SUITES, default="core", help="whose tests")
    parser.add_argument("--wheels", type=Path, help="a folder with the wheels to test")
    parser.add_argument("--newest", action="store_true", help="without constraints.txt")
    sys.exit(main(parser.parse_args()))
