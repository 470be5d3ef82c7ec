"""`make fuzz`, some inputs of each subject from one seed, and what it makes of a finding."""

from contextlib import ExitStack

import pytest
from hypothesis import strategies as st

from tests.fuzz.__main__ import Fuzz
from tests.fuzz.subjects import SUBJECTS, Folders, Options, Subject
from tests.needs import long

SLOW = (Options, Folders)
"""Those that load hosts or PyTorch."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries, about odd files
@pytest.mark.parametrize(
    ("make", "most"),
    [*((make, 100) for make in SUBJECTS if make not in SLOW), *(long(make, 2_000) for make in SUBJECTS)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_what_was_tampered_with_is_accepted_or_refused_as_documented(make, most, tmp_path):
    fuzz = Fuzz(make(), tmp_path)
    with ExitStack() as stack:
        fuzz.subject.open(stack)
        fuzz.run(30, most=most)
    assert not fuzz.findings, [path.read_text() for path in tmp_path.glob("*.txt")]
    assert fuzz.accepted
    assert fuzz.refused


class Faulty(Subject):
    """Takes what is even, refuses what is a multiple of three, and breaks at all else, in one place."""

    name = "faulty"
    inputs = st.integers(0, 255).map(lambda number: iter([bytes([number])]))

    def try_input(self, data):
        if data[0] % 2 and data[0] % 3:
            raise KeyError(data)
        return data[0] % 2 == 0


def test_of_equal_findings_one_is_kept_with_its_traceback(tmp_path):
    fuzz = Fuzz(Faulty(), tmp_path)
    fuzz.run(20, most=100)
    assert len(fuzz.findings) == 1
    assert fuzz.accepted + fuzz.refused + fuzz.broken == 100
    kept, text = sorted(tmp_path.iterdir())
    with pytest.raises(KeyError):
        Faulty().try_input(kept.read_bytes())
    assert "KeyError" in text.read_text()
