"""Asks Chromium what it shows, and stores it: `make browser`; see docs/images.md.

    python -m tests.images.browser          the crafted files, whose pixels are stored; then some that were mutated
    python -m tests.images.browser 5000     so many of these

Whoever changes a crafted file asks again. Exit status 1: for a mutated file we show something else than the browser
does, or show one that it refuses.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.faces import compare, is_blank_in_chromium, mutated_file, see
from tests.images.chromium import Chromium, find_browser, version
from tests.images.crafted import crafted_files
from tests.images.expected import MANIFEST, read_expected, write_expected

MUTATED = 500
KEPT = Path(".fuzz")


def ask_again(browser: Chromium) -> None:
    """Stores what the browser shows of each crafted file, and prints where that has changed."""
    before = read_expected() if MANIFEST.exists() else None
    shown = [(file, browser.show(file.data, file.form, file.frame or None)) for file in crafted_files()]
    write_expected(version(), shown)
    after = read_expected()
    changed = [name for name, what in after.files.items() if not before or before.files.get(name) != what]
    print(f"{after.browser}: {len(after.files)} files, {len(changed)} of them new or changed")
    print(*changed[:50], sep="\n")


def compare_mutated(browser: Chromium, count: int, first_seed: int) -> int:
    """Compares so many mutated files; how many we show and not as the browser does. These are kept."""
    print(f"{count} mutated files, seed {first_seed}")
    found = refused = 0
    for seed in range(first_seed, first_seed + count):
        data = mutated_file(random.Random(seed))
        ours = see(data)
        if ours is None:
            refused += 1
            continue
        theirs = browser.show(data)
        problem = compare(ours, theirs, data)
        if problem and (theirs is None or not is_blank_in_chromium(theirs, data)):
            found += 1
            keep(f"browser-{seed}", data, problem)
    print(f"{count - refused} accepted, {refused} refused, {found} differ from the browser")
    return found


def keep(name: str, data: bytes, problem: Any) -> None:
    KEPT.mkdir(exist_ok=True)
    (KEPT / name).write_bytes(data)
    print(f"{KEPT / name}: {problem}")


def main(arguments: Sequence[str]) -> int:
    if find_browser() is None:
        print("Chromium is not installed: apt-get install chromium, say", file=sys.stderr)
        return 2
    with Chromium() as browser:
        ask_again(browser)
        return int(compare_mutated(browser, int(arguments[0]) if arguments else MUTATED, int(time.time())) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
