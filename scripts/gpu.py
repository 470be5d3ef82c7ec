"""All that a GPU is needed for, in less than ten minutes: tests and figures, into a Markdown file.

    python scripts/gpu.py                       # on a machine with a card; writes gpu-report.md, or what $OUT names
    python scripts/gpu.py --rehearse            # the same on the CPU, tiny: only CUDA itself is left to fail on the day

The tests come first, as they need nothing but this checkout. Each part is a process with a limit of its own; one that
fails leaves the others alone, and the report is written after each, with the last lines of what a failed one said.
Nothing is downloaded. Any interpreter will do that has what `NEEDED` lists; the package itself is taken from this
checkout.

Exit codes: 0 all parts went well; 1 one failed; 2 there is no CUDA device, or something is not installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE_S = 560
"""All parts together, from the start of this process."""
PATIENCE = 6
"""How many times its limit a part of a rehearsal may take: nobody waits for that, and other tests share its cores."""
TAIL = 3000
"""Characters of a part's last lines that are worth reading."""
NEEDED = ("torch", "numpy", "PIL", "tokenizers", "safetensors", "httpx", "pytest")
BARE = ("-c", os.devnull, "--rootdir", ".", "--confcutdir", "tests/local", "--import-mode=importlib")
"""Of pytest: without the settings and fixtures of the whole suite, whose plugins and services need far more packages,
and which takes each warning of another PyTorch for an error."""
TESTS = "tests/local/test_cuda.py"
FACTS = """
import torch
for number in range(torch.cuda.device_count()):
    facts = torch.cuda.get_device_properties(number)
    size, kind = facts.total_memory / 2**30, f"{facts.major}.{facts.minor}"
    free = torch.cuda.mem_get_info(number)[0] / 2**30
    print(f"- cuda:{number}: {facts.name}, {size:.0f} GiB, {free:.0f} of them free, compute capability {kind}")
"""
"""Asked in a process of its own: one that has touched a card holds memory there, and of some cards all of it."""


@dataclass(frozen=True)
class Part:
    """One step.

    Attributes:
        name: of the step.
        command: what runs, without the interpreter.
        limit: seconds it may take, if so many are left.
    """

    name: str
    command: tuple[str, ...]
    limit: float


def bench(name: str, models: str, limit: float, *, rehearse: bool) -> Part:
    """A part of benchmarks/local.py."""
    where = ("--device", "cpu", "--quick") if rehearse else ("--device", "cuda", "--rounds", "2")
    command = ("benchmarks/local.py", *where, "--only", name, "--models", models)
    return Part(f"{name} {models}", command, limit)


def all_parts(*, rehearse: bool) -> list[Part]:
    """What runs, the most important first."""
    size = "--tiny" if rehearse else "--full"
    which = ("-m", "not gpu and not long", "-k", "normalised or own_vectors") if rehearse else ("-m", "gpu")
    pytest = ("-m", "pytest", *BARE, TESTS, *which, "-rfEs", "-p", "no:cacheprovider", "--durations=5")
    parts = [Part("tests", pytest, 150), Part("prepare", ("benchmarks/prepare.py", size), 150)]
    names = [("images", 60), ("precisions", 80), ("texts", 50), ("feeding", 40), ("queries", 30), ("lora", 25)]
    for name, limit in names:
        models = ["v2"] if name == "lora" else ["v2", "v1"]
        parts += [bench(name, model, limit, rehearse=rehearse) for model in models]
    return [*parts, bench("load", "v2", 60, rehearse=rehearse)]


def run(part: Part, seconds: float) -> tuple[int, str, str]:
    """Runs a part; gives its exit code, -9 where it was ended, what it printed, and the last lines of its stderr."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until what was started can be ended
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            output, _ = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            end(process)
            output, code = process.communicate()[0], -9
        finally:
            end(process)  # whatever ends this script must leave nothing on the card
        told.seek(0)
        return code, output, told.read().decode(errors="replace")[-TAIL:].strip()


def end(process: subprocess.Popen[str]) -> None:
    """Ends a part, and the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """Of a part: the package and the benchmarks are those of this checkout; no hub, no plugins of pytest."""
    paths = [*map(str, (ROOT / "shared" / "src", ROOT / "benchmarks", ROOT)), os.environ.get("PYTHONPATH", "")]
    alone = {"HF_HUB_OFFLINE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **alone}


def ask_cards() -> tuple[str, str]:
    """A line of Markdown for each card, empty if there is none; and what PyTorch complains of."""
    _, cards, told = run(Part("cards", ("-c", FACTS), 90), 90)
    return cards.strip(), told


def machine(cards: str) -> str:
    """Card, driver, versions and date, as lines of Markdown; without cards a rehearsal."""
    python, cores = sys.version.split()[0], len(os.sched_getaffinity(0))
    lines = [
        f"- date: {time.strftime('%Y-%m-%d %H:%M %Z')}",
        f"- Python {python}, torch {importlib.metadata.version('torch')}, {cores} cores",
    ]
    if not cards:
        return "\n".join(["- a rehearsal on the CPU: **the figures mean nothing**", *lines])
    return "\n".join([*lines, cards, f"- driver: {driver()}"])


def driver() -> str:
    """Version of the driver, as nvidia-smi says."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi does not say"
    return ", ".join(sorted(set(done.stdout.split())))


def find_missing() -> str | None:
    """Which packages this interpreter lacks, in a sentence; None if it has all."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return f"{sys.executable} lacks {', '.join(missing)}; run this with an interpreter that has them"
    return None


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Runs the parts, writes the report, gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="file of the report; $OUT, or gpu-report.md in it, if not given")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny checkpoints")
    parser.add_argument("--parts", help="first words of the parts to run, with commas between; all if not given")
    parser.add_argument("--seconds", type=float, default=WHOLE_S, help=f"for all parts together ({WHOLE_S})")
    options = parser.parse_args()
    ends_at = time.monotonic() + options.seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as on Ctrl-C, the part under way is ended
    if missing := find_missing():
        tell(missing)
        return 2
    cards, told = ("", "") if options.rehearse else ask_cards()
    if not cards and not options.rehearse:
        tell(f"there is no CUDA device here; --rehearse runs the same on the CPU\n{told}")
        return 2
    wanted = None if options.parts is None else options.parts.split(",")
    parts = [p for p in all_parts(rehearse=options.rehearse) if wanted is None or p.name.split()[0] in wanted]
    return run_all(parts, options.out or default_report(), ends_at, machine(cards), rehearse=options.rehearse)


def default_report() -> Path:
    """Where the report goes: $OUT, a file or a folder, else gpu-report.md here."""
    out = Path(os.environ.get("OUT") or "gpu-report.md")
    return out / "gpu-report.md" if out.is_dir() else out


def run_all(parts: list[Part], report: Path, ends_at: float, facts: str, *, rehearse: bool) -> int:
    """Runs parts one after another; gives 1 if one failed, else 0."""
    text, failed = [f"# On a GPU\n\n{facts}\n"], list[str]()
    report.parent.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts, 1):
        left = ends_at - time.monotonic()
        tell(f"[{number}/{len(parts)}] {part.name}, {left:.0f} s left: python {' '.join(part.command)}")
        begun = time.monotonic()
        limit = min(part.limit * (PATIENCE if rehearse else 1), left)
        code, output, told = run(part, limit) if left > 1 else (-9, "", "no time was left for it")
        text.append(section(part, code, time.monotonic() - begun, output, told))
        tell(text[-1] if code else f"    {text[-1].splitlines()[0]}")
        failed += [part.name] if code else []
        report.write_text("\n".join(text))
    last = f"Failed: {', '.join(failed)}." if failed else "All parts went well."
    report.write_text("\n".join([*text, last, ""]))
    tell(f"{last} The report is {report}.")
    return 1 if failed else 0


def section(part: Part, code: int, took: float, output: str, told: str) -> str:
    """What the report says of a part."""
    ending = {0: "", -9: f" **ended after {took:.0f} s, its limit**"}.get(code, f" **failed with exit code {code}**")
    shown = output if "|---" in output else f"```\n{output[-TAIL:].strip()}\n```"
    complaint = f"\n\nThe last lines of its stderr:\n\n```\n{told}\n```" if code else ""
    return f"## {part.name}: {took:.0f} s{ending}\n\n{shown.strip()}{complaint}\n"


if __name__ == "__main__":
    sys.exit(main())
