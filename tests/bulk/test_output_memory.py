"""A run of a million rows takes no more memory than one of a hundred thousand, but for the index."""

import subprocess
import sys

import pytest

CHILD = """
import resource, sys
import numpy, filelock, pyarrow.parquet
from tests.bulk.test_output_index import fill

base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
states, _ = fill(sys.argv[1], int(sys.argv[2]), 1024)
print(states[0], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""
"""Prints the rows that it wrote and the MB by which it grew."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ru_maxrss counts otherwise")
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_memory_is_flat(tmp_path, count):
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written, grown = map(int, done.stdout.split())
    print(f"{count} rows of 1,024 numbers: {grown} MB")
    assert written == count
    assert grown < 300
