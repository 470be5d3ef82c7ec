"""The three-stage recipe of the jina-clip papers (Koukounas et al. 2024), at toy scale, on two CPU cores.

    python -m examples.catalogue.train --out runs/catalogue

1. Captions and pictures, with pairs of short texts between them: both towers learn one space.
2. Half of the captions become paragraphs, and the text pairs too: the text tower learns to read long texts.
3. Queries with paragraphs that answer them and paragraphs of products that differ in one attribute: the query adapter
   (LoRA) learns what matters to a search, while the text tower's own weights stay.

The three are gone through twice; the second round, at a lower rate, makes the fine distinctions.

After each stage the validation products are scored; `scores.json` keeps the table. Interrupt it whenever you like: the
same command goes on where it was, and ends with the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from examples.catalogue.scores import score, table
from examples.catalogue.train.batches import Batches, Pairs
from examples.catalogue.train.student import Student, contrast, find, gather
from examples.catalogue.train.tokenizer import train_tokenizer
from jinaclip import JinaClip


@dataclass(frozen=True, slots=True)
class Stage:
    """How long, how many products a step sees, how fast. Numbers 4 to 6 are a second round of 1 to 3."""

    number: int
    steps: int
    batch: int
    rate: float

    @property
    def kind(self) -> int:
        """Which of the three stages it is."""
        return (self.number - 1) % 3 + 1


STAGES = (
    Stage(1, 600, 192, 2e-3),
    Stage(2, 150, 128, 1e-3),
    Stage(3, 60, 128, 5e-4),
    Stage(4, 400, 192, 1.5e-3),
    Stage(5, 120, 128, 8e-4),
    Stage(6, 50, 128, 4e-4),
)
WARMUP = 50
DECAY = 0.05
KEEP_EVERY = 50
"""Steps between two saves of the state."""


def main() -> None:
    """Trains, or goes on training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the state and the finished checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train(given.out, seed=given.seed)


def train(
    out: Path,
    *,
    stages: tuple[Stage, ...] = STAGES,
    seed: int = 0,
    validated: int = 300,
    stop_after: int | None = None,
) -> Run:
    """Runs the stages; what `out` holds of them already is not run again.

    Args:
        out: gets `state.pt` while it runs, then `scores.json` and `checkpoint/`.
        stages: the recipe.
        seed: of the weights and of every batch.
        validated: products to score each stage on.
        stop_after: steps after which to leave off, as an interruption would.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer()
    run = Run(out, Student(tokenizer.get_vocab_size()), tokenizer, validated)
    left = stop_after
    for stage in stages:
        left = run.stage(stage, seed, left)
    return run


class Run:
    """Weights, optimiser and how far they are."""

    def __init__(self, out: Path, student: Student, tokenizer: Tokenizer, validated: int) -> None:
        self.out, self.student, self.tokenizer, self.validated = out, student, tokenizer, validated
        matrices = [p for p in student.parameters() if p.ndim > 1]
        rest = [p for p in student.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.done: dict[str, int] = {}
        self.scores: dict[str, Any] = {}
        self.losses: list[dict[str, float]] = []
        if (out / "state.pt").exists():
            self._restore()

    def stage(self, stage: Stage, seed: int, most: int | None) -> int | None:
        """What is left of one stage, at most so many steps, and its scores; returns the steps that are left."""
        start = self.done.get(str(stage.number), 0)
        end = stage.steps if most is None else min(stage.steps, start + most)
        self.freeze(stage)
        batches = Batches(stage.kind, stage.batch, f"{seed}/{stage.number}", self.tokenizer)
        bar = tqdm(_loaded(batches, start, end), f"stage {stage.number}", stage.steps, initial=start)
        for step, tasks in zip(range(start, end), bar, strict=False):
            self.losses.append(self.step(stage, step, tasks))
            bar.set_postfix({name: f"{loss:.3f}" for name, loss in self.losses[-1].items()})
            self.done[str(stage.number)] = step + 1
            if (step + 1) % KEEP_EVERY == 0:
                self._keep()
        if end == stage.steps and str(stage.number) not in self.scores:
            self._finish(stage)
        self._keep()
        return None if most is None else most - (end - start)

    def step(self, stage: Stage, step: int, tasks: dict[str, Pairs]) -> dict[str, float]:
        """One update from all the tasks of the step."""
        for group in self.optimiser.param_groups:
            group["lr"] = stage.rate * _shape(step, stage.steps)
        losses = {name: loss for task, pairs in tasks.items() for name, loss in self.losses_of(task, pairs).items()}
        self.optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimiser.step()
        return {name: loss.item() for name, loss in losses.items()}

    def losses_of(self, task: str, pairs: Pairs) -> dict[str, Tensor]:
        """Of texts against texts; or of texts and wishes against pictures, and of the pictures among themselves."""
        student, temperature = self.student, self.student.temperature
        queries = student.text(pairs.queries)
        if pairs.wishes is None or pairs.granted is None or pairs.facts is None:
            return {task: contrast(queries, student.text(pairs.documents), pairs.wanted, temperature)}
        pictures = student.vision(pairs.documents)
        return {
            task: contrast(queries, pictures, pairs.wanted, temperature),
            "wishes": find(student.text(pairs.wishes), pictures, pairs.granted, temperature),
            "pictures": gather(pictures, pairs.facts),
        }

    def freeze(self, stage: Stage) -> None:
        """The last stage teaches the adapter alone, the first two everything but the adapter."""
        last = stage.kind == 3
        for parameters, trained in ((self.student.adapters(), last), (self.student.text_weights(), not last)):
            for parameter in parameters:
                parameter.requires_grad_(trained)
                parameter.grad = None

    def _finish(self, stage: Stage) -> None:
        """Saves the checkpoint as it is, and scores it by loading it, as its users will."""
        folder = self.out / "checkpoint"
        self.student.save(folder)
        self.tokenizer.no_padding()
        self.tokenizer.save(str(folder / "tokenizer.json"))
        with JinaClip(str(folder), backend="local", show_progress=False) as clip:
            self.scores[str(stage.number)] = score(clip, "validation", count=self.validated, seed=0)
        said = f"after stage {stage.number}, {self.validated} validation products"
        tqdm.write(f"\n{said}\n{table(self.scores[str(stage.number)])}\n")
        (self.out / "scores.json").write_text(json.dumps(self.scores, indent=2) + "\n")

    def _keep(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "scores": self.scores,
            "losses": self.losses,
        }
        torch.save(state, self.out / "state.new")
        (self.out / "state.new").replace(self.out / "state.pt")

    def _restore(self) -> None:
        state = torch.load(self.out / "state.pt", weights_only=True)
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.scores, self.losses = state["done"], state["scores"], state["losses"]


def _shape(step: int, steps: int) -> float:
    """Warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / WARMUP)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _loaded(batches: Batches, start: int, end: int) -> Iterator[dict[str, Pairs]]:
    """The batches in order, drawn ahead by a process of their own."""
    return iter(DataLoader(batches, batch_size=None, sampler=range(start, end), num_workers=1, prefetch_factor=4))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
