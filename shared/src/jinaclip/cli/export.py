"""`jinaclip export`: a checkpoint as graphs for ONNX Runtime, which then runs it without PyTorch."""

from __future__ import annotations

from typing import Any

from jinaclip.requirements import check_installed

ABOUT = "Writes a folder of ONNX graphs from a checkpoint, for backend='local' without PyTorch, and compares the two."
NEEDED = ("torch", "onnx", "onnxscript", "onnxruntime", "tokenizers", "safetensors", "huggingface_hub")


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("export", help=ABOUT, description=ABOUT)
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help="jina-clip-v1 or -v2, a hub id, or a folder of weights")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make; it must be new or empty")
    parser.add_argument("--int8", action="store_true", help="weights in eight bits; another space")
    parser.add_argument("--revision", metavar="NAME", help="of the model at the hub")


def run(model: str, out: str, *, int8: bool, revision: str | None) -> int:
    """Exports and says how far the graphs are from PyTorch, and the name of their space.

    Raises:
        MissingDependencyError: the extra `export` is not installed.
    """
    check_installed(NEEDED, "jinaclip export", "export")
    from jinaclip.backends.local.export.run import export
    from jinaclip.clip import JinaClip
    from jinaclip.process import run_apart

    print(run_apart(export, model, out, int8=int8, revision=revision))
    with JinaClip(out, backend="local", cache=False) as clip:
        print(f"space {clip.space}")
    return 0
