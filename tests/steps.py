"""Counts the steps of Python that something takes, and breaks in at each of them: no clock, the same on any machine."""

import gc
import sys
from contextlib import contextmanager


def steps_of(function, *args):
    """How many lines of Python a call runs, and what it gives."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = function(*args)
    finally:
        sys.settrace(before)
    return count, found


class Break(Exception):
    """What a signal handler raises."""


@contextmanager
def without_collection():
    """Lets no garbage be collected meanwhile: what is raised in a callback of the collector reaches nobody."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@without_collection()
def breaking_at(number, function, *args):
    """Calls a function and raises `Break` before its instruction of this number, as a signal handler may; gives whether
    it had so many.
    """
    left = number

    def trace(frame, event, _):
        nonlocal left
        frame.f_trace_opcodes = True
        if event in ("opcode", "return"):
            left -= 1
            if left == 0:
                raise Break
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*args)
    except Break:
        return True
    finally:
        sys.settrace(before)
    return False
