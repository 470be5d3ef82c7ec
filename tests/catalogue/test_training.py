"""The recipe: every loss falls, and an interrupted run ends with the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from examples.catalogue.train.__main__ import Run, Stage, train
from examples.catalogue.train.batches import Batches
from examples.catalogue.train.student import WIDTHS, contrast, find, gather
from jinaclip.local import load_towers
from tests.needs import long

pytestmark = pytest.mark.slow

STAGES = (Stage(1, 3, 4, 2e-3), Stage(3, 2, 4, 2e-3))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small batches gain nothing from a second thread, and wait long for it where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A run of a few steps, not interrupted."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(out, stages=STAGES, validated=6)


@pytest.mark.parametrize("kinds", [(1,), long((1, 2, 3))], ids=str)
def test_every_loss_falls(tmp_path: Path, kinds: tuple[int, ...]) -> None:
    """Eight or a dozen steps of each stage, over the same products."""
    run, names = train(tmp_path, stages=()), set()
    for stage in (Stage(kind, 12 if len(kinds) == 3 else 8, 24, 6e-3) for kind in kinds):
        run.freeze(stage)
        tasks = Batches(stage.kind, stage.batch, "test", run.tokenizer)[stage.kind]
        steps = [run.step(stage, step, tasks) for step in range(stage.steps)]
        assert not {name: (steps[0][name], steps[-1][name]) for name in steps[0] if steps[-1][name] >= steps[0][name]}
        names |= set(steps[-1])
    every = {"captions", "wishes", "pictures", "text pairs", "descriptions", "triplets"}
    assert names and (names == every if len(kinds) == 3 else names <= every)


@pytest.mark.parametrize("stops", [(2, None), long((2, 2, None))], ids=str)
def test_an_interrupted_run_ends_with_the_same_weights_and_losses(whole, tmp_path: Path, stops) -> None:
    for stop in stops:
        again = train(tmp_path, stages=STAGES, validated=6, stop_after=stop)
    expected = whole[1].student.state_dict()
    assert again.losses == whole[1].losses
    assert all(torch.equal(value, expected[name]) for name, value in again.student.state_dict().items())
    assert again.scores == whole[1].scores


def test_a_finished_run_leaves_a_checkpoint_that_loads_like_published_ones(whole: tuple[Path, Run]) -> None:
    out, run = whole
    assert set(json.loads((out / "scores.json").read_text())) == {"1", "3"}
    towers = load_towers(out / "checkpoint")
    ids = torch.tensor([[0, 50, 60, 2]])
    run.student.eval()
    with torch.no_grad():
        assert torch.allclose(towers.text(ids), run.student.text(ids), atol=2e-2)
        pixels = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
        assert torch.allclose(towers.vision(pixels), run.student.vision(pixels), atol=2e-2)


def test_only_the_last_stage_trains_the_adapter(tmp_path: Path) -> None:
    run = train(tmp_path, stages=(Stage(1, 1, 6, 1e-3),), validated=6)
    assert all(not p.any() for n, p in run.student.named_parameters() if n.endswith("lora_B"))
    words = {
        n: p.clone() for n, p in run.student.named_parameters() if n.startswith("assembly.text") and "lora" not in n
    }
    run = train(tmp_path, stages=(Stage(1, 1, 6, 1e-3), Stage(3, 2, 6, 1e-3)), validated=6)
    after = dict(run.student.named_parameters())
    assert any(p.any() for n, p in after.items() if n.endswith("lora_B"))
    assert all(torch.equal(p, after[n]) for n, p in words.items())


def test_the_loss_is_the_cross_entropy_worked_by_hand() -> None:
    """Two queries, two answers and one hard negative, at every width; from the definition, in float64."""
    generator = torch.Generator().manual_seed(0)
    q, d = (torch.randn(n, WIDTHS[-1], generator=generator).double() for n in (2, 3))
    wanted = torch.eye(2, 3, dtype=torch.bool)
    total = 0.0
    for width in WIDTHS:
        a = q[:, :width] / q[:, :width].norm(dim=1, keepdim=True)
        b = d[:, :width] / d[:, :width].norm(dim=1, keepdim=True)
        s = (5 * a @ b.T).exp()
        total += sum(-(s[i, i] / s[i].sum()).log() for i in range(2)) / 2
        total += sum(-(s[i, i] / s[:, i].sum()).log() for i in range(2)) / 2
    assert torch.isclose(contrast(q, d, wanted, torch.tensor(5.0).double()), total / (2 * len(WIDTHS)))


def test_any_of_several_answers_will_do() -> None:
    q, d = torch.eye(1, WIDTHS[-1]), torch.randn(3, WIDTHS[-1], generator=torch.Generator().manual_seed(0))
    one, two, all_ = (find(q, d, torch.tensor([[True, n > 1, n > 2]]), 5.0) for n in (1, 2, 3))
    assert one > two > all_
    assert torch.isclose(all_, torch.tensor(0.0), atol=1e-6)
    assert find(q, d, torch.zeros(1, 3, dtype=torch.bool), 5.0) == 0


def test_near_twins_do_not_count_as_neighbours() -> None:
    """Two skirts alike but for the colour, one unlike them, and a coat like the first."""
    facts = torch.tensor([[1, 1, 1, 0, 1, 0, 0], [1, 2, 1, 0, 1, 0, 0], [1, 3, 2, 4, 2, 0, 0], [2, 1, 1, 0, 1, 0, 0]])
    pictures = torch.randn(4, WIDTHS[-1], generator=torch.Generator().manual_seed(1))
    assert gather(pictures[:2], facts[:2]) == 0  # twins alone
    near = pictures.clone()
    near[2] = pictures[0]
    assert gather(near, facts) < gather(pictures, facts)
