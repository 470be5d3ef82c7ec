"""A PostgreSQL of the test's own: made in a folder, reached through a socket there, gone afterwards."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian and Ubuntu keep the programs, a folder for each version."""


OLDEST = (0, 8)
"""The pgvector that looks on when a filter left too few."""


USER = "postgres"
"""Runs the server where the tests run as root; Debian's package makes it."""


def find() -> Path:
    """The folder of the newest PostgreSQL that has a pgvector new enough.

    Raises:
        LookupError: there is none; says what to install.
    """
    folders = sorted(INSTALLED.glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    if program := shutil.which("pg_ctl"):
        folders.append(Path(program).resolve().parent)
    with_server = [folder for folder in folders if (folder / "initdb").exists()]
    if not with_server:
        raise LookupError("PostgreSQL is not installed: apt-get install postgresql")
    if os.geteuid() == 0 and USER not in {user.pw_name for user in pwd.getpwall()}:
        raise LookupError(f"PostgreSQL does not run as root, and there is no user {USER}: adduser --system {USER}")
    for folder in with_server:
        if _pgvector(folder) >= OLDEST:
            return folder
    oldest = ".".join(map(str, OLDEST))
    raise LookupError(f"no pgvector {oldest} or newer for {with_server[0].parent}; docs/stores.md says how to get it")


def _pgvector(folder: Path) -> tuple[int, ...]:
    """Its version, () if there is none."""
    control = _shared(folder) / "extension" / "vector.control"
    stated = re.search(r"default_version = '([\d.]+)'", control.read_text()) if control.exists() else None
    return tuple(int(number) for number in stated[1].split(".")) if stated else ()


def _shared(folder: Path) -> Path:
    done = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


class Postgres:
    """Runs until its `with` ends."""

    def __init__(self) -> None:
        self.programs = find()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # short: the path of a socket has 107 bytes at most
        self.data = f"--pgdata={self.folder / 'data'}"
        self.databases = itertools.count()

    def __enter__(self) -> Postgres:
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
        unshared = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
        self._run("initdb", self.data, *unshared)
        alone = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", self.data, "--wait", f"--log={self.folder / 'log'}", f"--options={alone}", "start")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", self.data, "--wait", "--mode=immediate", "stop")
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"test{next(self.databases)}"
        self._run("createdb", f"--host={self.folder}", "--username=postgres", name)
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        # Files, not pipes: the server keeps what it is given open.
        with (self.folder / f"{program}.out").open("w") as out:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/").returncode
        if code:
            raise RuntimeError(f"{program} failed:\n{(self.folder / f'{program}.out').read_text()}")
