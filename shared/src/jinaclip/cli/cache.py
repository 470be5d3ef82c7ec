"""`jinaclip cache`: what the cache holds, and what to do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ABOUT = "Shows, empties, exports or imports the cache of vectors."
ACTIONS = {
    "stats": "how much it holds",
    "clear": "drops everything",
    "export": "writes it to a Parquet file",
    "import": "adds what such a file holds",
}


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("cache", help=ABOUT, description=ABOUT)
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for action, meaning in ACTIONS.items():
        own = actions.add_parser(action, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        if action in ("export", "import"):
            own.add_argument("file", metavar="FILE", type=Path, help="a Parquet file")
        own.add_argument("--cache", metavar="PATH", help="its file; JINACLIP_CACHE or your own if not given")
        own.set_defaults(run=run)


def run(action: str, cache: str | None, file: Path | None = None) -> int:
    """Does what was asked for, and prints one line."""
    from jinaclip.cache import find_cache, shared_cache
    from jinaclip.cache.tables import export_table, import_table

    opened = find_cache(cache) or shared_cache()
    try:
        if action == "clear":
            opened.clear()
            print(f"{opened.path}: empty")
        elif action == "stats":
            found = opened.stats()
            print(f"{opened.path}: {found.entries:,} entries, {found.size / 2**20:,.1f} MiB")
        elif action == "export" and file is not None:
            print(f"{export_table(opened, file):,} entries of {opened.path} are in {file}")
        elif file is not None:
            print(f"{import_table(opened, file):,} entries of {file} are new in {opened.path}")
    finally:
        opened.close()
    return 0
