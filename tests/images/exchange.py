"""A process that exchanges two names for as long as it lives: `python exchange.py A B`. It prints a line once it does.

Linux exchanges two names in one step (renameat2); elsewhere, and on file systems that cannot, there are three, and a
moment in which one of the names is missing.
"""

import ctypes
import os
import platform
import sys

NUMBERS = {"x86_64": 316, "aarch64": 276}
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def exchange(one: str, other: str) -> bool:
    """In one step; False if that cannot be done here."""
    number = NUMBERS.get(platform.machine())
    if not sys.platform.startswith("linux") or number is None:
        return False
    names = AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other)
    return ctypes.CDLL(None).syscall(number, *names, RENAME_EXCHANGE) == 0


def exchange_in_steps(one: str, other: str) -> bool:
    """With a third name."""
    os.rename(one, f"{one}.away")  # noqa: PTH104
    os.rename(other, one)  # noqa: PTH104
    os.rename(f"{one}.away", other)  # noqa: PTH104
    return True


if __name__ == "__main__":
    names = sys.argv[1:]
    step = exchange if exchange(*names) else exchange_in_steps
    print("exchanging", flush=True)
    while step(*names):
        pass
