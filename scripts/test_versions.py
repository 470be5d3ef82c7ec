"""Runs the core's tests on the other Pythons that it declares, as far as the machine has them: `make test-versions`.

Each gets an environment of its own, `.venv-3.12` say; see `environments.py`.
"""

from __future__ import annotations

import os
import sys

from environments import (
    CORE_ONLY,
    CORE_TESTS,
    END_ON_HANG,
    EXTRAS,
    NOT_THE_CORE,
    ROOT,
    Report,
    declared_pythons,
    find_python,
    install,
    run_tests,
)

CONSTRAINTS = ROOT / "constraints.txt"
OWN = "{}.{}".format(*sys.version_info)
SKIPS = ["--skips=core"] if "CI" in os.environ else []
LISTS = {"--constraint": CONSTRAINTS, "--requirement": CORE_TESTS}


def main() -> int:
    """1 if the tests fail on any Python that was found, else 0."""
    report = Report()
    what = [*(f"{option}={path}" for option, path in LISTS.items()), "--editable", f"shared[{EXTRAS}]"]
    for version in declared_pythons():
        if version == OWN:
            report.add(f"Python {version}", "not run here: make test runs the whole suite on it")
        elif python := find_python(version):
            with report.attempt(f"Python {version}", "without PyTorch"):
                install(python, ROOT / f".venv-{version}", what, LISTS.values())
                run_tests(ROOT / f".venv-{version}", [*END_ON_HANG, *SKIPS, *CORE_ONLY])
        else:
            report.add(f"Python {version}", "not run: no interpreter found")
    report.add("Not of the core, run by make test only", ", ".join(NOT_THE_CORE))
    return report.show()


if __name__ == "__main__":
    sys.exit(main())
