"""What the README says about options and errors is what the code says."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path

from jinaclip import errors as tree
from jinaclip.hosts import EmbedderConfig

README = (Path(__file__).parents[1] / "README.md").read_text()


def table(title: str) -> list[list[str]]:
    section = README.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_option_table_lists_every_option_in_order() -> None:
    named = [row[0].strip("`") for row in table("Options")]
    assert named == [field.name for field in fields(EmbedderConfig)]


def test_the_option_table_gives_the_defaults_of_the_code() -> None:
    config = EmbedderConfig()
    for name, default, _ in table("Options"):
        if default.startswith("`") and default != "`ImagePolicy()`":
            assert repr(getattr(config, name.strip("`"))) == default.strip("`").replace('"', "'"), name


def test_links_between_our_pages_lead_somewhere() -> None:
    root = Path(__file__).parents[1]
    for page in [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("packages/*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_error_table_names_every_error() -> None:
    names = {name for name in tree.__all__ if name.endswith("Error")} - {"JinaClipError", "APIError"}
    assert set(re.findall(r"`(\w+Error)`", " ".join(row[0] for row in table("Errors")))) == names


def test_what_pages_import_from_us_is_there() -> None:
    root = Path(__file__).parents[1]
    for page in [root / "README.md", root / "shared" / "README.md", *root.glob("docs/*.md")]:
        for module, names in re.findall(r"^from (jinaclip[\w.]*) import (.+)$", page.read_text(), re.MULTILINE):
            if module != "jinaclip.mteb":  # which needs mteb
                found = importlib.import_module(module)
                assert [name for name in names.split(", ") if not hasattr(found, name)] == [], page.name
