"""Pillow has settings for the whole process, which any library may make at any time. They change nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.doors import SETTINGS
from tests.needs import skip_without

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    """What came out of each door, under no setting and under each."""
    skip_without("pypdfium2")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.images.doors"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_settings_sound_images_open_and_damaged_ones_are_refused(found):
    for door, value in found[""].items():
        assert not str(value).startswith("raised"), (door, value)
        if not door.endswith("size"):  # which a header alone may tell
            assert (value == "InputError") == door.startswith(("cut ", "scan", "short")), door


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_changes_nothing(found, setting):
    """Neither what is seen and sent, nor what is refused; and nobody is warned."""
    left_out = {"warned", *(["page"] if setting == "other decoders" else [])}  # pypdfium2 makes the PIL image of a page
    changed = {door: (value, found[""].get(door)) for door, value in found[setting].items() if door not in left_out}
    assert {door: pair for door, pair in changed.items() if pair[0] != pair[1]} == {}
    assert found[setting]["warned"] == []
