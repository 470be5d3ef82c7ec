"""All that a GPU is needed for, in less than ten minutes: tests and figures, into a Markdown file.

    python scripts/gpu.py                       # on a machine with a card; writes gpu-report.md, or what $OUT names
    python scripts/gpu.py --rehearse            # the same on the CPU, tiny: only CUDA itself is left to fail on the day

What can be made without the card is made first. Each part has a limit of its own; one that fails leaves the others
alone, and the report is written after each. Nothing is downloaded. Any interpreter will do that has PyTorch, numpy,
Pillow, tokenizers, safetensors, httpx and pytest; the package itself is taken from this checkout.

Exit codes: 0 all parts went well; 1 one failed; 2 there is no CUDA device, or something is not installed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHOLE_S = 570
"""All parts together."""
NEEDED = ("torch", "numpy", "PIL", "tokenizers", "safetensors", "httpx", "pytest")
TESTS = "tests/local/test_cuda.py"


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
    which = ("-m", "not gpu and not long", "-k", "patches or normalised") if rehearse else ("-m", "gpu")
    pytest = ("-m", "pytest", TESTS, *which, "-p", "no:cacheprovider", "--durations=5")
    parts = [Part("prepare", ("benchmarks/prepare.py", size), 200), Part("tests", pytest, 150)]
    names = [("images", 60), ("precisions", 50), ("texts", 50), ("feeding", 40), ("queries", 30), ("lora", 25)]
    for name, limit in names:
        models = ["v2"] if name == "lora" else ["v2", "v1"]
        parts += [bench(name, model, limit, rehearse=rehearse) for model in models]
    return [*parts, bench("load", "v2", 60, rehearse=rehearse)]


def run(part: Part, seconds: float) -> tuple[int, str]:
    """Runs a part and shows what it prints on stderr; gives its exit code, -9 where it was ended, and its output."""
    paths = [str(ROOT / "shared" / "src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *part.command]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
            output, _ = process.communicate()
            return -9, output
    return process.returncode, output


def machine(*, rehearse: bool) -> str:
    """Card, driver, versions and date, as lines of Markdown."""
    import torch

    python, cores = sys.version.split()[0], len(os.sched_getaffinity(0))
    lines = [
        f"- date: {time.strftime('%Y-%m-%d %H:%M %Z')}",
        f"- Python {python}, torch {torch.__version__}, CUDA {torch.version.cuda}, {cores} cores",
    ]
    if rehearse:
        return "\n".join(["- a rehearsal on the CPU: **the figures mean nothing**", *lines])
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        size, kind = facts.total_memory / 2**30, f"{facts.major}.{facts.minor}"
        lines.append(f"- cuda:{number}: {facts.name}, {size:.0f} GiB, compute capability {kind}")
    return "\n".join([*lines, f"- driver: {driver()}"])


def driver() -> str:
    """Version of the driver, as nvidia-smi says."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi does not say"
    return ", ".join(sorted(set(done.stdout.split())))


def find_obstacle(*, rehearse: bool) -> str | None:
    """Why nothing can run here, or None."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return f"{sys.executable} lacks {', '.join(missing)}; run this with an interpreter that has them"
    import torch

    if not rehearse and not torch.cuda.is_available():
        return "there is no CUDA device here; --rehearse runs the same on the CPU"
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
    if obstacle := find_obstacle(rehearse=options.rehearse):
        tell(obstacle)
        return 2
    wanted = None if options.parts is None else options.parts.split(",")
    parts = [p for p in all_parts(rehearse=options.rehearse) if wanted is None or p.name.split()[0] in wanted]
    return run_all(parts, options.out or default_report(), options.seconds, rehearse=options.rehearse)


def default_report() -> Path:
    """Where the report goes: $OUT, a file or a folder, else gpu-report.md here."""
    out = Path(os.environ.get("OUT") or "gpu-report.md")
    return out / "gpu-report.md" if out.is_dir() else out


def run_all(parts: list[Part], report: Path, seconds: float, *, rehearse: bool) -> int:
    """Runs parts one after another; gives 1 if one failed, else 0."""
    text, failed, ends_at = [f"# On a GPU\n\n{machine(rehearse=rehearse)}\n"], list[str](), time.monotonic() + seconds
    for number, part in enumerate(parts, 1):
        left = ends_at - time.monotonic()
        tell(f"[{number}/{len(parts)}] {part.name}, {left:.0f} s left: python {' '.join(part.command)}")
        begun = time.monotonic()
        code, output = run(part, min(part.limit, left)) if left > 1 else (-9, "")
        took = time.monotonic() - begun
        end = {0: "", -9: f" **ended after {took:.0f} s, its limit**"}.get(code, f" **failed with exit code {code}**")
        if code:
            failed.append(part.name)
        tell(f"    {took:.0f} s{end}")
        shown = output if "|---" in output else f"```\n{output[-3000:].strip()}\n```"
        text.append(f"## {part.name}: {took:.0f} s{end}\n\n{shown.strip()}\n")
        report.write_text("\n".join(text))
    last = f"Failed: {', '.join(failed)}." if failed else "All parts went well."
    report.write_text("\n".join([*text, last, ""]))
    tell(f"{last} The report is {report}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
