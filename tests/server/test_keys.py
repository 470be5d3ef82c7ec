"""The file of keys: what it takes, what it refuses, and that it is read again."""

import hashlib
import logging
import os

import pytest

from jinaclip.errors import ConfigError
from jinaclip.server.keys import ANONYMOUS, KeyRing, find_ring, make_key
from jinaclip.server.refusals import Refused

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.txt"


@pytest.fixture
def clock():
    return Clock()


def code_of(ring, authorization):
    with pytest.raises(Refused) as caught:
        ring.find(authorization)
    assert caught.value.status == 401
    return caught.value.code


def test_a_key_that_was_made_is_found_with_its_name_and_limits(file):
    key, line = make_key("search", slots=4, requests_per_minute=600)
    file.write_text(f"# who may\n\n{line}  # since May\n")
    found = KeyRing.read(file).find(f"Bearer {key}")
    assert (found.name, found.slots, found.requests_per_minute) == ("search", 4, 600)


def test_a_line_holds_nothing_of_its_key(file):
    key, line = make_key("search")
    assert key not in line
    assert key.removeprefix("jina_own_")[:8] not in line
    assert hashlib.sha256(key.encode()).hexdigest() in line


def test_made_keys_have_256_bits_and_differ():
    keys = {make_key("a")[0] for _ in range(50)}
    assert len(keys) == 50
    assert {len(key) for key in keys} == {len("jina_own_") + 43}


def test_the_scheme_is_read_in_any_case(file):
    key, line = make_key("search")
    file.write_text(line)
    assert KeyRing.read(file).find(f"bearer  {key} ").name == "search"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "AUTH_MISSING_API_KEY"),
        ("Bearer", "AUTH_INVALID_FORMAT"),
        ("Bearer  ", "AUTH_INVALID_FORMAT"),
        ("Basic dXNlcjpwYXNz", "AUTH_INVALID_FORMAT"),
        ("Bearer " + "x" * 100_000, "AUTH_INVALID_FORMAT"),
        ("Bearer wrong", "AUTH_INVALID_API_KEY"),
        (f"Bearer {DIGEST}", "AUTH_INVALID_API_KEY"),
        ("Bearer jina_\u00e9\u00ff", "AUTH_INVALID_API_KEY"),
    ],
    ids=["none", "bare", "blank", "basic", "long", "unknown", "its hash", "latin"],
)
def test_what_is_no_key_is_refused_with_jinas_code(file, authorization, code):
    file.write_text(f"{DIGEST} search")
    assert code_of(KeyRing.read(file), authorization) == code


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("jina_SECRET search", "64 hex digits"),
        (f"{DIGEST[:-1]} search", "64 hex digits"),
        (DIGEST, "name"),
        (f"{DIGEST} a/SECRET", "name"),
        (f"{DIGEST} {'S' * 65}", "name"),
        (f"{DIGEST} jina_own_SECRET", "logs and metrics would show"),
        (f"{DIGEST} {DIGEST}", "logs and metrics would show"),
        (f"{DIGEST} search slots=0", "slots=N"),
        (f"{DIGEST} search slots=SECRET", "slots=N"),
        (f"{DIGEST} search slot=1", "slots=N"),
        (f"{DIGEST} search slots=1 slots=2", "slots=N"),
        (f"{'b' * 64} first", "unique"),
        (f"{'a' * 64} second", "unique"),
    ],
)
def test_a_wrong_line_is_named_and_not_shown(file, line, words):
    file.write_text(f"{'a' * 64} first\n# comment\n{line}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        KeyRing.read(file)
    assert f"{file}, line 3: " in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert DIGEST not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n# none yet\n"])
def test_a_file_without_keys_is_refused_and_says_how_to_make_one(file, content):
    file.write_text(content)
    with pytest.raises(ConfigError, match="--make-key"):
        KeyRing.read(file)


def test_a_file_that_is_not_there_is_a_config_error(file):
    with pytest.raises(ConfigError, match=r"keys\.txt: No such file"):
        KeyRing.read(file)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")
def test_a_file_into_which_anybody_may_write_is_refused(file):
    file.write_text(f"{DIGEST} search")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod"):
        KeyRing.read(file)


def test_keys_come_and_go_without_a_restart(file, clock):
    old, old_line = make_key("old")
    new, new_line = make_key("new")
    file.write_text(old_line)
    ring = KeyRing(file, clock)
    replace(file, new_line)
    clock.now += 1
    assert ring.find(f"Bearer {new}").name == "new"
    assert code_of(ring, f"Bearer {old}") == "AUTH_INVALID_API_KEY"


def test_a_broken_file_keeps_the_keys_and_is_logged_once(file, clock, caplog):
    key, line = make_key("search")
    file.write_text(line)
    ring = KeyRing(file, clock)
    replace(file, "jina_SECRET oops")
    with caplog.at_level(logging.ERROR, "jinaclip.server"):
        for _ in range(3):
            clock.now += 1
            assert ring.find(f"Bearer {key}").name == "search"
    assert len(caplog.records) == 1
    assert "line 1" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_file_that_vanishes_keeps_the_keys(file, clock):
    key, line = make_key("search")
    file.write_text(line)
    ring = KeyRing(file, clock)
    file.unlink()
    clock.now += 1
    assert ring.find(f"Bearer {key}").name == "search"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost"])
def test_a_server_of_this_machine_alone_needs_no_keys(host):
    assert find_ring(None, host).find("") is ANONYMOUS
    assert find_ring(None, host).find("Bearer anything") is ANONYMOUS


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "", "gpu-box", "localhost.example.com"])
def test_a_server_that_others_reach_needs_keys_and_says_how(host):
    with pytest.raises(ConfigError, match=r"--make-key NAME.*--keys FILE") as caught:
        find_ring(None, host)
    assert caught.value.option == "host"


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "jina_own_x", DIGEST])
def test_no_key_is_made_for_a_name_that_could_not_stand_in_the_file(name):
    with pytest.raises(ConfigError):
        make_key(name)


def replace(file, content):
    """Writes the file as an editor does."""
    other = file.with_name("new")
    other.write_text(content)
    other.rename(file)
