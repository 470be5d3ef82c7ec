"""`make soak`, for a second: the machinery works, and it finds nothing."""

import os
import re
import subprocess
import sys

import pytest

from tests.raw import vector
from tests.soak.calls import Call, Tally
from tests.soak.service import PASSING

WIDTH = 64


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_second_of_soak_loses_and_leaks_nothing():
    command, environment = [sys.executable, "-m", "tests.soak"], {**os.environ, "JINACLIP_TEST_SECONDS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reached = re.search(r"^([\d,]+) items reached", done.stdout, re.MULTILINE)
    assert int(reached[1].replace(",", "")) > 50
    assert any(repr(fault) in done.stdout for fault in PASSING)
    assert "lost: 0, doubled: 0, misplaced: 0" in done.stdout


def results(*rows, errors=None):
    import numpy as np

    from jinaclip import Results

    return Results(np.stack(rows).astype(np.float32), errors or {})


def test_the_tally_sees_what_is_lost_doubled_and_misplaced():
    import numpy as np

    from jinaclip import ItemFailure
    from jinaclip.errors import ServerError

    one, two = vector("one", WIDTH), vector("two", WIDTH)
    missing, failure = np.full(WIDTH, np.nan), ItemFailure(ServerError("down"), 0, "text")
    call, tally = Call("embed", ["one", "two"], [one, two]), Tally()
    tally.judge(call, results(one, two))
    tally.judge(call, results(two, one))
    tally.judge(call, results(missing, two))
    tally.judge(call, results(missing, two, errors={0: failure}))
    tally.judge(call, results(one, two, errors={0: failure}))
    tally.judge(call, results(one))
    tally.judge(call, KeyError("x"))
    assert (tally.vectors, tally.misplaced, tally.lost, tally.doubled) == (6, 2, 2, 1)
    assert dict(tally.errors) == {"ServerError": 1}
    assert dict(tally.foreign) == {"KeyError('x')": 1}
