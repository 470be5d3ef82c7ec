"""Makes what the benchmarks of the local backend need, on the CPU: checkpoints and photos. Made once, outside the repo.

python benchmarks/prepare.py --full | --tiny
"""

from __future__ import annotations

import argparse
import time

from checkpoints import checkpoint
from inputs import make_photos

PHOTOS = 300
"""As many as a GPU is shown."""


def main() -> None:
    """Reads the command line and makes what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--full", action="store_true", help="of the published sizes, some 3 GB")
    size.add_argument("--tiny", action="store_true", help="for a smoke test")
    options = parser.parse_args()
    for version in ("v1", "v2"):
        begun = time.perf_counter()
        print(f"{checkpoint(version, tiny=options.tiny)}: {time.perf_counter() - begun:.0f} s", flush=True)
    begun = time.perf_counter()
    count = len(make_photos(8 if options.tiny else PHOTOS))
    print(f"{count} photos: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
