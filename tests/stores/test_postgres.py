"""Whoever lacks PostgreSQL or pgvector is told what to install; the tests that need them skip with those words."""

import pytest

from tests.stores import postgres


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An empty folder of PostgreSQLs, and none on the PATH."""
    monkeypatch.setattr(postgres, "INSTALLED", tmp_path)
    monkeypatch.setattr(postgres.shutil, "which", lambda program: None)
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 1000)
    return tmp_path


def test_without_postgresql_its_package_is_named(installed):
    with pytest.raises(LookupError, match="PostgreSQL is not installed: apt-get install postgresql"):
        postgres.find()


def test_as_root_without_a_user_for_it_that_user_is_named(installed, monkeypatch):
    programs = installed / "15" / "bin"
    programs.mkdir(parents=True)
    (programs / "initdb").touch()
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres.pwd, "getpwall", list)
    with pytest.raises(
        LookupError, match="does not run as root, and there is no user postgres: adduser --system postgres"
    ):
        postgres.find()


def test_without_pgvector_the_page_is_named_that_says_how(installed):
    programs = installed / "15" / "bin"
    programs.mkdir(parents=True)
    (programs / "initdb").touch()
    (programs / "pg_config").write_text(f"#!/bin/sh\necho {installed}\n")
    (programs / "pg_config").chmod(0o755)
    control = installed / "extension" / "vector.control"
    control.parent.mkdir()
    for version in (None, "0.6.0"):  # Ubuntu 24.04 has the latter
        if version:
            control.write_text(f"default_version = '{version}'\n")
        with pytest.raises(LookupError, match=f"no pgvector 0.8 or newer for {installed}/15; docs/stores.md says how"):
            postgres.find()
    control.write_text("default_version = '0.10.1'\n")
    assert postgres.find() == programs
