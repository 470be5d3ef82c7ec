"""All crafted files: PNG, APNG, JPEG, GIF and WebP that are odd in one way each.

python -m tests.images.crafted FOLDER       writes them into a folder, to be looked at
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.images import gif_files, jpeg_files, png_files, webp_files
from tests.images.cases import Crafted


def crafted_files() -> list[Crafted]:
    """The same bytes on each machine, with each version of Python and its libraries."""
    files = [file for made in (png_files, jpeg_files, gif_files, webp_files) for file in made.cases()]
    twice = [name for name, count in Counter(file.id for file in files).items() if count > 1]
    assert not twice, twice
    return files


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file in crafted_files():
        (folder / f"{file.id}.{file.form.lower()}").write_bytes(file.data)
