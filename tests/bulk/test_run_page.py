"""What docs/bulk.md shows of runs works as it stands, but for the address of the service."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.bulk.processes import read

PAGE = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text("utf-8")


def test_the_commands_of_the_first_minute(command, tmp_path, monkeypatch) -> None:
    """The dry run says the price, the run embeds, and the same run again finds all done."""
    monkeypatch.chdir(tmp_path)
    Path("products.csv").write_text("id,title\n1,a red dress\n2,a blue coat\n")
    lines = re.findall(r"^jinaclip embed (products.csv .*)$", PAGE, re.MULTILINE)
    outcomes = [command(*split(line)) for line in (*lines, lines[1])]
    assert [code for code, *_ in outcomes] == [0, 0, 0]
    assert "to embed: 2 texts" in outcomes[0][1]
    assert "skipped 2" in outcomes[2][1]
    assert len(read(Path("vectors"))) == 2


def split(line: str) -> tuple[str, ...]:
    """Source, output and options of a command line."""
    words = shlex.split(line)
    place = words.index("--out")
    return words[0], Path(words[place + 1]), *words[1:place], *words[place + 2 :]  # type: ignore[return-value]


def test_the_program_of_the_first_minute(server, tmp_path, monkeypatch, capsys) -> None:
    """It prints the report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_page")
    Path("products.csv").write_text("id,title\n1,a red dress\n")
    (code,) = re.findall(r"```python start\n(.*?)```", PAGE, re.DOTALL)
    exec(code.replace('text="title"', f'text="title", base_url={server.url!r}'), {})
    assert capsys.readouterr().out.startswith("done 1, failed 0")


def test_the_exit_codes_are_those_of_the_help(capsys) -> None:
    """The table of the page has a row for each."""
    from jinaclip.cli.embed import EPILOG

    named = re.findall(r"^ +(?:ends with +)?(\d+)  ", EPILOG.replace("ends with", "         "), re.MULTILINE)
    assert named == re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == ["0", "3", "1", "2", "130"]
