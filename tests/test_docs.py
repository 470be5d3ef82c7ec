"""What the README says about options and errors is what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import jinaclip

README = (Path(__file__).parents[1] / "README.md").read_text()


def table(title: str) -> list[list[str]]:
    section = README.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_option_table_lists_every_option_in_order() -> None:
    named = [row[0].strip("`") for row in table("Options")]
    assert named == [field.name for field in fields(jinaclip.EmbedderConfig)]


def test_the_option_table_gives_the_defaults_of_the_code() -> None:
    config = jinaclip.EmbedderConfig()
    for name, default, _ in table("Options"):
        if default.startswith("`") and default != "`ImagePolicy()`":
            assert repr(getattr(config, name.strip("`"))) == default.strip("`").replace('"', "'"), name


def test_links_between_our_pages_lead_somewhere() -> None:
    root = Path(__file__).parents[1]
    for page in [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("packages/*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_error_table_names_every_error() -> None:
    errors = {name for name in jinaclip.__all__ if name.endswith("Error")} - {"JinaClipError", "APIError"}
    assert set(re.findall(r"`(\w+Error)`", " ".join(row[0] for row in table("Errors")))) == errors
