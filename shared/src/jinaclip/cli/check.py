"""`jinaclip check`: whether model, key and network give sound vectors."""

from __future__ import annotations

from typing import Any

from jinaclip.cli.options import add_options, split_options

ABOUT = "Embeds one text and one image, and says whether what comes back is sound."


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("check", help=ABOUT, description=ABOUT, usage="%(prog)s [options]")
    parser.set_defaults(run=run)
    add_options(parser)


def run(**options: Any) -> int:
    """Prints the report of `JinaClip.self_test`; 1 if there are problems."""
    from jinaclip.clip import JinaClip

    with JinaClip(**split_options(options)[0]) as clip:
        report = clip.self_test()
        space = clip.space if report.ok else "not known"
    print(f"{report.model}, backend {report.backend}, {report.dimensions} dimensions, {report.tokens} tokens")
    print(f"space {space}")
    parts = (("text", report.text_latency, report.text_norm), ("image", report.image_latency, report.image_norm))
    for name, seconds, norm in parts:
        if seconds is not None:
            print(f"{name}: {seconds:.2f} s, length {norm:.4f}")
    for problem in report.problems:
        print(f"problem: {problem}")
    print("ok" if report.ok else "not ok", flush=True)
    return 0 if report.ok else 1
