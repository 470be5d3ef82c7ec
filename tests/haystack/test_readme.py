"""The programs of the package's README run as they stand, one after the other, but for the address of the service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.haystack.conftest import ALL, options_of, picture

README = (Path(__file__).parents[2] / "packages" / "haystack_jinaclip" / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_programs_run(server, tmp_path, monkeypatch) -> None:
    """Indexing, searching by text and by picture, and ranking."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_haystack_readme")
    (tmp_path / "catalogue").mkdir()
    picture(1).save(tmp_path / "catalogue" / "dress.jpg")
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "lime", "blue")]
    pages[0].save(tmp_path / "catalogue" / "brochure.pdf", save_all=True, append_images=pages[1:])
    names: dict = {}
    for program in PROGRAMS:
        made = "|".join(kind.__name__ for kind in ALL)
        exec(re.sub(rf"({made})\(", rf'\1(base_url="{server.url}", ', program), names)
    assert len(PROGRAMS) == 6
    assert names["store"].count_documents() == 3
    assert names["found"][0].meta["file_path"] == "dress.jpg"
    assert names["found"][0].score == pytest.approx(1)
    assert len(names["shown"]) == 3
    for pipe in ("index", "search", "shop"):
        names[pipe].close()


def test_every_option_of_the_table_exists() -> None:
    rows = [line for line in README.split("## Options")[1].split("\n## ")[0].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named <= {name for kind in ALL for name in options_of(kind)}
    assert len(named) > 15
