"""`jinaclip export` as a process, and what other commands make of its folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jinaclip.cli.main import main
from tests.exported import BY_COMMAND, SAID, export_by_command, exported
from tests.needs import long

pytestmark = pytest.mark.slow  # an export takes many seconds


def check_what_it_said(said: str) -> None:
    assert "beside PyTorch: at length 1 a number is off by" in said
    assert "space checkpoint_" in said
    assert "torchvision" not in said


def test_it_says_how_far_the_graphs_are_from_pytorch_and_what_their_space_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of the export that all tests share: the command made it."""
    check_what_it_said((exported(BY_COMMAND, tmp_path_factory).parent / SAID).read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "more"), [("v1", "--int8"), long("v2", "--int8")], ids=lambda value: value.strip("-")
)
def test_it_exports_int8(version: str, more: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    done = export_by_command(checkpoints[version], tmp_path / "out", more)
    assert done.returncode == 0, done.stderr
    assert "int8" in done.stdout
    check_what_it_said(done.stdout + done.stderr)


def test_one_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["export", "jina-clip-v2", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["export", str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_compare_takes_an_exported_folder(tmp_path_factory: pytest.TempPathFactory, capsys) -> None:
    folder = exported("v2", tmp_path_factory)
    assert main(["compare", str(folder.parent / "checkpoint"), str(folder)]) == 0
    out = capsys.readouterr().out
    assert "verdict: the same vectors" in out
    assert main(["compare", str(folder), str(exported("v2-int8", tmp_path_factory))]) == 0
    assert "verdict: one space, rounded differently" in capsys.readouterr().out


def test_the_page_on_engines_runs_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tiny export where the page has that of v2."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "v2-onnx").symlink_to(exported("v2", tmp_path_factory))
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "engines.md"
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    found: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, found)
    assert found["query"].shape == (found["clip"].dimensions,)
