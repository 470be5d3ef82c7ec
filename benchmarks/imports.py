"""What importing costs, as medians over fresh interpreters, and which heavy modules it loads.

    python benchmarks/imports.py [--runs 15]

An adapter is measured over its host: the interpreter imports the host first and the clock starts after that. What is
not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys

HEAVY = ("torch", "PIL", "onnxruntime", "ray", "numpy", "httpx", "orjson", "pybase64")
FORBIDDEN = {"torch", "PIL", "onnxruntime", "ray"}
GOAL_MS = 60
CASES = (
    # what is imported before, what is measured, whether the goal applies
    ("", "import jinaclip", True),
    ("", "import jinaclip; jinaclip.JinaClip", False),
    ("import langchain_core.embeddings", "import langchain_jinaclip", True),
    ("import llama_index.core.embeddings", "import llamaindex_jinaclip", True),
    ("import haystack", "import haystack_jinaclip", True),
    # the first name, over what a program that uses it has imported by then
    (
        "from langchain_core.vectorstores import InMemoryVectorStore",
        "from langchain_jinaclip import JinaClipEmbeddings",
        True,
    ),
    ("from llama_index.core import VectorStoreIndex", "from llamaindex_jinaclip import JinaClipEmbedding", True),
    ("import haystack; from haystack import Pipeline", "from haystack_jinaclip import JinaClipTextEmbedder", True),
)
SCRIPT = """
import json, sys, time
{before}
known, start = set(sys.modules), time.perf_counter()
{code}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {heavy} if name in sys.modules and name not in known]]))
"""


def measure(before: str, code: str) -> tuple[float, list[str]]:
    """Milliseconds that the code takes in a fresh interpreter, and what of HEAVY it loads."""
    script = SCRIPT.format(before=before, code=code, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    seconds, loaded = json.loads(done.stdout.splitlines()[-1])
    return seconds * 1e3, loaded


def row(before: str, code: str, runs: int, *, bounded: bool) -> str:
    """A line of the table."""
    measured = [measure(before, code) for _ in range(runs + 1)][1:]  # the first one may have compiled
    times, loaded = sorted(ms for ms, _ in measured), measured[0][1]
    middle = statistics.median(times)
    met = not FORBIDDEN & set(loaded) and (middle <= GOAL_MS or not bounded)
    over = f" over `{before}`" if before else ""
    goal = f"≤ {GOAL_MS} ms" if bounded else "-"
    return (
        f"| `{code}`{over} | {middle:.1f} ms | {times[0]:.1f} to {times[-1]:.1f} | {goal} | "
        f"{', '.join(loaded) or 'none'} | {'PASS' if met else '**MISS**'} |"
    )


def installed(code: str) -> bool:
    """Whether these imports work here."""
    return not subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, medians of {options.runs} fresh interpreters.")
    print(f"Heavy modules looked for: {', '.join(HEAVY)}.\n")
    print("| import | median | range | goal | heavy modules loaded | |\n|---|---|---|---|---|---|")
    for before, code, bounded in CASES:
        if installed(f"{before}\n{code}"):
            print(row(before, code, options.runs, bounded=bounded), flush=True)
        else:
            print(f"left out, as it or its host is not installed: {code}", file=sys.stderr)


if __name__ == "__main__":
    main()
