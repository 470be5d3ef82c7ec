"""Builds what would be published, and tries it as a user would: `make release-check`.

The five sdists and wheels are built and judged by twine; the wheels are installed into an empty environment, one after
the other, and there the first programs of their READMEs run and the typing tests are read. `--dist FOLDER` tries what
was built before. With `--tag` the version must be that of the tag, and every page install from an index; with
`--repository` that must be the address in the metadata.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import install_lines
from build import build
from install_lines import PATHS, REPOSITORY, ROOT

EXTRAS = {"jinaclip": "[testing]", "haystack-jinaclip": "[pdf]"}
"""What the programs of the READMEs need: the test service, and pages of PDF files."""


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Runs a program without the source tree on its path; a failure ends the check."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    print("+", *command, flush=True)
    subprocess.run([*map(str, command)], cwd=cwd, env=environment, check=True)


def find_files(dist: Path, name: str) -> tuple[Path, Path]:
    """The sdist and the wheel of a distribution."""
    stem = name.replace("-", "_")
    sdists, wheels = [*dist.glob(f"{stem}-*.tar.gz")], [*dist.glob(f"{stem}-*.whl")]
    if len(sdists) != 1 or len(wheels) != 1:
        sys.exit(f"{dist}: {len(sdists)} sdists and {len(wheels)} wheels of {name}, not one of each")
    return sdists[0], wheels[0]


def inspect_files(dist: Path) -> str:
    """The one version of all files. Ends if there are several, or if a file is not fit for an index."""
    versions = set()
    for name in PATHS:
        sdist, wheel = find_files(dist, name)
        versions |= {inspect_wheel(wheel), inspect_sdist(sdist)}
    if len(versions) != 1:
        sys.exit(f"{dist}: several versions, {', '.join(sorted(versions))}")
    return versions.pop()


def inspect_wheel(wheel: Path) -> str:
    """The version. Ends if licence or types are missing, or if the README has links that an index cannot follow."""
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        headers = next(file for file in files if file.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(headers).decode())
    if missing := [end for end in ("/py.typed", "/licenses/LICENSE") if not any(file.endswith(end) for file in files)]:
        sys.exit(f"{wheel.name} lacks {' and '.join(missing)}")
    if relative := re.findall(r"\]\((?!https://|#)[^)]*\)", metadata.get_payload()):
        sys.exit(f"{wheel.name}: an index cannot follow these links of its README: {' '.join(relative)}")
    return metadata["Version"]


def inspect_sdist(sdist: Path) -> str:
    """The version. Ends if licence or types are missing."""
    with tarfile.open(sdist) as archive:
        files = archive.getnames()
    if missing := [end for end in ("/py.typed", "/LICENSE") if not any(file.endswith(end) for file in files)]:
        sys.exit(f"{sdist.name} lacks {' and '.join(missing)}")
    return sdist.name.removesuffix(".tar.gz").rpartition("-")[2]


def install(dist: Path, environment: Path, name: str) -> None:
    """Installs a wheel, and from an index what it needs; of our own only what is there already."""
    _, wheel = find_files(dist, name)
    pip = [sys.executable, "-m", "pip", "--python", python_of(environment), "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", f"{wheel}{EXTRAS.get(name, '')}")


def python_of(environment: Path) -> Path:
    """The interpreter of an environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run_readme(environment: Path, name: str) -> None:
    """Runs the programs of the README that came with the wheel, elsewhere than in the source tree."""
    with tempfile.TemporaryDirectory() as folder:
        script = shutil.copy(ROOT / "scripts" / "readme_programs.py", Path(folder) / "readme_programs.py")
        run(python_of(environment), "-W", "error::DeprecationWarning:jinaclip", script, name, cwd=Path(folder))


def read_types(environment: Path) -> None:
    """Has mypy read what users would write, with the wheels as they are installed."""
    with tempfile.TemporaryDirectory() as folder:
        tests = shutil.copytree(ROOT / "tests" / "typing", Path(folder) / "typing_tests")
        mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-incremental"]
        run(*mypy, "--python-executable", python_of(environment), *sorted(tests.glob("*.py")), cwd=Path(folder))


def compare_with_release(version: str, tag: str | None, repository: str | None) -> None:
    """Ends where pages, tag or address say something else than what would be published."""
    if repository is not None and repository.lower() != REPOSITORY.lower():
        sys.exit(f"this is {repository}, but the metadata send people to {REPOSITORY}")
    if tag is not None and tag != f"v{version}":
        sys.exit(f"the tag {tag} is not v{version}, which shared/src/jinaclip/__init__.py says")
    if tag is not None and install_lines.main(["--check", "--published"]):
        sys.exit("these pages do not install from an index: set PUBLISHED in scripts/install_lines.py and run it")


def try_out(dist: Path) -> None:
    """Installs the wheels into an empty environment, and uses them there."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        venv.create(environment)
        for name in PATHS:
            install(dist, environment, name)
            run_readme(environment, name)
        run(sys.executable, "-m", "pip", "--python", python_of(environment), "check")
        read_types(environment)


def main() -> None:
    """Ends with a message and status 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, help="a folder of sdists and wheels that were built before")
    parser.add_argument("--tag", help="the tag that is released to PyPI, v and the version")
    parser.add_argument("--repository", help="address of the repository that releases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dist = (options.dist or Path(folder)).resolve()
        if options.dist is None:
            build(dist, "--no-isolation")
        version = inspect_files(dist)
        compare_with_release(version, options.tag, options.repository)
        run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.glob("*jinaclip-*")))
        try_out(dist)
    print(f"\n{len(PATHS)} distributions of version {version} build, install and run")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(f"ended with status {failed.returncode}: {' '.join(failed.cmd)}")
