"""The local backend: one copy of the weights, merged batches, bounded memory, errors that name what is wrong."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from jinaclip import BudgetError, ConfigError, InputError, JinaClip, JinaClipError, Results
from jinaclip.backends.local import scheduler
from jinaclip.backends.local.backend import CHARACTERS_AT_ONCE
from jinaclip.backends.local.batcher import Item
from jinaclip.backends.local.device import Device
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.backends.local.towers.loader import Towers
from jinaclip.backends.local.towers.runner import BATCH_TOKENS

LENGTHS = [1, 3, 4, 9, 17, 40, 41, 90, 200, 333]


def texts_of(lengths: list[int], seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("abcdefgh ijklmnop"), n - 1)) + "z" for n in lengths]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The lengths in every batch that the scheduler runs, images as 0."""
    seen: list[list[int]] = []
    run = Device.run_batch

    def recorded(self: Device, batch: list[Item]) -> None:
        seen.append([item.length for item in batch])
        run(self, batch)

    monkeypatch.setattr(Device, "run_batch", recorded)
    return seen


@pytest.mark.parametrize(
    ("call", "urgent"),
    [
        (lambda clip: clip.embed_query("a"), True),
        (lambda clip: clip.embed_queries(["a", "b"]), True),
        (lambda clip: clip.embed_documents(["a"]), False),
        (lambda clip: clip.embed(["a"], task="query"), False),
    ],
    ids=["query", "queries", "documents", "embed"],
)
def test_what_somebody_waits_for_is_urgent(
    local: Callable[..., JinaClip], monkeypatch: pytest.MonkeyPatch, call: Callable[[JinaClip], object], urgent: bool
) -> None:
    seen, run = list[bool](), Device.run_batch

    def note(worker: Device, batch: list[Item]) -> None:
        seen.extend(item.consumer.urgent for item in batch)
        run(worker, batch)

    clip = local()
    clip.load()
    monkeypatch.setattr(Device, "run_batch", note)
    call(clip)
    assert set(seen) == {urgent}


def fail_on(monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[Item]], Exception | None]) -> None:
    """Lets a batch fail where `fault` gives an error for its items."""
    embed = Device.embed

    def failing(self: Device, batch: list[Item]) -> np.ndarray:
        if (error := fault(batch)) is not None:
            raise error
        return embed(self, batch)

    monkeypatch.setattr(Device, "embed", failing)


# -- vectors


def test_batch_and_order_and_threads_never_change_a_vector(local) -> None:
    texts = texts_of(LENGTHS)
    alone = np.stack([local().embed_documents([text])[0] for text in texts])
    for batch_size in (1, 3, 64):
        assert np.abs(local(batch_size=batch_size).embed_documents(texts) - alone).max() <= 1e-6
    assert np.abs(local().embed_documents(texts[::-1])[::-1] - alone).max() <= 1e-6
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert np.abs(local().embed_documents(texts) - alone).max() <= 1e-6
    finally:
        torch.set_num_threads(threads)


def test_a_query_is_its_instruction_and_its_text(local) -> None:
    clip = local()
    asked = clip.embed_query("a red dress")
    assert clip.count_tokens(["a red dress"], task="query") == [clip.usage.tokens], "both are counted"
    written = clip.embed_documents([clip.spec.query_instruction + "a red dress"])[0]
    assert np.abs(asked - written).max() <= 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_types_stay_close_to_float32(local, dtype: str) -> None:
    texts = texts_of(LENGTHS[:6])
    shown = [np.random.default_rng(i).integers(0, 256, (70, 90, 3), np.uint8) for i in range(3)]
    exact, narrow = local(), local(dtype=dtype)
    for a, b in (
        (exact.embed_documents(texts), narrow.embed_documents(texts)),
        (exact.embed_images(shown), narrow.embed_images(shown)),
    ):
        assert b.dtype == np.float32
        assert (a * b).sum(axis=1).min() > 0.995
    assert exact.fingerprint != narrow.fingerprint


# -- length


@pytest.mark.slow
def test_a_text_over_the_limit_is_refused_by_name_or_cut(local) -> None:
    long = "ab " * 4000
    with pytest.raises(InputError, match=r"text 1: has 12,002 tokens.*8,192.*truncate=True") as caught:
        local().embed_documents(["short", long, "also short"])
    assert caught.value.index == 1
    assert caught.value.partial.successes()[0].tolist() == [0, 2]
    cut = local(truncate=True).embed_documents([long])[0]
    assert np.abs(cut - local().embed_documents([long[: 8192 - 2]])[0]).max() <= 1e-6


@pytest.mark.slow
def test_no_text_pads_another_far_beyond_its_length(local, passes: list[list[int]]) -> None:
    rng = np.random.default_rng(3)
    lengths = np.clip(rng.lognormal(3.5, 1, 400), 2, 600).astype(int).tolist()
    local().embed_documents(texts_of(lengths))
    padded = sum(max(batch) * len(batch) for batch in passes)
    assert padded <= 1.35 * sum(map(sum, passes))
    assert max(max(batch) * len(batch) for batch in passes if len(batch) > 1) <= BATCH_TOKENS["cpu"]


# -- sharing


@pytest.mark.slow
def test_equal_objects_hold_one_copy_of_the_weights(folder: Path) -> None:
    others = {*threading.enumerate()}
    first, second, narrow = (
        JinaClip(str(folder), backend="local", device="cpu", dtype=dtype) for dtype in (None, "float32", "bfloat16")
    )
    for clip in (first, second, narrow):
        clip.embed_query("load")
    towers = [clip._backend._model.runner.towers for clip in (first, second, narrow)]
    assert towers[0] is towers[1] is not towers[2]
    gone = weakref.ref(towers[0])
    del towers
    first.close()
    gc.collect()
    assert gone() is not None, "the second object still uses it"
    workers = {thread for thread in threading.enumerate() if thread.name == "jinaclip-scheduler"} - others
    second.close()
    narrow.close()
    gc.collect()
    assert workers
    for thread in workers:
        thread.join(10)
    gc.collect()
    assert gone() is None, "nobody uses it any more"


def test_queries_at_once_cost_a_few_passes_not_one_each(local, passes: list[list[int]]) -> None:
    clips = [local(), local()]
    clips[0].embed_query("load")
    clips[1].embed_query("load")
    passes.clear()

    async def ask() -> None:
        await asyncio.gather(*(clips[i % 2].aembed_query(f"query {i}") for i in range(200)))

    asyncio.run(ask())
    assert sum(map(len, passes)) == 200
    assert len(passes) <= 20


# -- life


@pytest.mark.slow
def test_a_generator_is_read_as_it_is_needed(local) -> None:
    clip, read, answered = local(), 0, []

    def endless() -> Iterator[str]:
        nonlocal read
        for read in range(1, 6_001):
            answered.append(clip.usage.items)
            yield f"text {read}"

    assert clip.embed_documents(endless()).shape[0] == 6_000
    ahead = max(given - done for given, done in enumerate(answered, 1))
    assert ahead <= scheduler.MAX_WAITING_TEXTS + 2 * 256 + 2 * 64


@pytest.mark.slow
def test_the_event_loop_goes_on_while_a_batch_runs(local) -> None:
    clip = local()

    async def watch() -> int:
        ticks = 0
        task = asyncio.create_task(clip.aembed_documents(texts_of([200] * 150)))
        while not task.done():
            await asyncio.sleep(0)
            ticks += 1
        await task
        return ticks

    assert asyncio.run(watch()) > 100


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_loads_its_own(local) -> None:
    clip = local()
    before = clip.embed_query("before")
    asyncio.run(clip.aembed_documents(texts_of([300] * 30)))
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that hangs ends by this, and not with 0
        asyncio.run(clip.aembed_documents(texts_of([300] * 30)))
        os._exit(0 if np.abs(clip.embed_query("before") - before).max() < 1e-6 else 1)
    assert os.waitpid(child, 0)[1] == 0


# -- failures


def run_out_of_memory(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """Lets torch find no memory on the CPU for more texts at a time; gives the sizes of the passes."""
    text, sizes = Towers.text, list[int]()

    def full(self: Towers, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        sizes.append(len(ids))
        if len(ids) > room:
            torch.empty(10**14)
        return text(self, ids, mask)

    monkeypatch.setattr(Towers, "text", full)
    return sizes


def test_out_of_memory_halves_the_batch(local, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {i}" for i in range(200)]
    expected = local().embed_documents(texts)
    sizes = run_out_of_memory(monkeypatch, room=3)
    assert np.abs(local().embed_documents(texts) - expected).max() <= 1e-6
    assert sum(size > 3 for size in sizes) <= 16, "the size that fits is learnt"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_what_finds_no_memory_in_a_small_process_is_named_and_all_else_comes(checkpoints: dict[str, Path]) -> None:
    """The bias of a text of 1900 tokens takes 86 MB, of which the process may have 32 more."""
    code = """
import resource
clip = JinaClip(sys.argv[1], backend='local', device='cpu')
clip.embed_documents(['load', 'x' * 300])
texts = ['l' * 1900 + str(i) for i in range(4)] + [f'short {i}' for i in range(100)]
now = int(next(line for line in open('/proc/self/status') if line.startswith('VmSize')).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + 32 * 2**20, resource.RLIM_INFINITY))
results = clip.embed(texts)
print([*results.errors], {str(failure.reason)[:20] for failure in results.errors.values()}, results.stopped)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(int(clip.embed(texts).ok.sum()))
"""
    assert ends(code, checkpoints["v1"]) == "[0, 1, 2, 3] {'out of memory on cpu'} None\n104\n"


def test_out_of_memory_with_one_item_says_what_to_do(local, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = local()
    clip.embed_query("load")
    run_out_of_memory(monkeypatch, room=0)
    with pytest.raises(ConfigError, match="out of memory on cpu"):
        clip.embed_query("a")


def test_a_text_that_the_model_fails_on_is_named_and_the_others_come(local, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {i}" for i in range(200)]
    expected = local().embed_documents(texts)
    fail_on(
        monkeypatch, lambda batch: RuntimeError("bad kernel") if {item.index for item in batch} & {7, 120} else None
    )
    with pytest.raises(JinaClipError, match=r"text 7: the model failed: RuntimeError: bad kernel") as caught:
        local().embed_documents(texts)
    results = caught.value.partial
    assert sorted(results.errors) == [7, 120]
    places, vectors = results.successes()
    assert np.abs(vectors - expected[places]).max() <= 1e-6


def test_a_broken_engine_ends_the_call_after_a_handful_of_passes(
    local, passes: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = local()
    fail_on(monkeypatch, lambda batch: RuntimeError("bad kernel"))
    results = clip.embed([f"text {i}" for i in range(2000)])
    assert "the engine embeds nothing any more" in str(results.stopped)
    assert len(results.errors) == 2000
    assert len(passes) <= 12


def test_texts_of_nothing_but_padding_are_refused_and_cost_other_callers_nothing(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """A tokenizer without post-processor puts nothing around a text, so that `<pad>` is padding and no more."""
    folder = tmp_path / "bare"
    shutil.copytree(checkpoints["v2"], folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    texts = [f"text {i}" for i in range(30)]
    with JinaClip(str(folder), backend="local", device="cpu") as clip:
        alone = clip.embed_documents(texts)

        def embed(number: int) -> list[Results]:
            items = [*texts[:10], "<pad>"] if number % 2 else texts
            return [clip.embed(items) for _ in range(5)]

        with ThreadPoolExecutor(8) as pool:
            for number, found in enumerate(pool.map(embed, range(8))):
                for results in found:
                    assert [*results.errors] == ([10] if number % 2 else [])
                    assert np.abs(results.vectors[:10] - alone[:10]).max() <= 1e-6
                    assert number % 2 == 0 or "nothing but padding" in str(results.errors[10].reason)
        with pytest.raises(InputError, match="nothing but padding"):
            clip.embed_documents(["<pad>" * 3])


def test_a_text_that_the_tokenizer_fails_on_is_named_and_the_others_come(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "words"
    shutil.copytree(checkpoints["v2"], folder)
    words = ["<s>", "<pad>", "a", "b", "two", "words", ",", "and", "more"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    with JinaClip(str(folder), backend="local", device="cpu") as clip:
        results = clip.embed(["two words", "a dress", "a", "and more"])
    assert [*results.errors] == [1]
    assert "cannot tokenize" in str(results.errors[1].reason)


def test_a_vector_that_is_not_finite_is_an_error_of_its_item(local, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Device.embed

    def spoiled(self: Device, batch: list[Item]) -> np.ndarray:
        rows = embed(self, batch)
        rows[[i for i, item in enumerate(batch) if item.index == 2]] = np.nan
        return rows

    monkeypatch.setattr(Device, "embed", spoiled)
    with pytest.raises(InputError, match=r"text 2.*finite") as caught:
        local().embed_documents(["a", "b", "c", "d"])
    assert caught.value.partial.successes()[0].tolist() == [0, 1, 3]


def test_one_caller_s_trouble_does_not_end_the_scheduler(local, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = local()
    from jinaclip.call.call import Call

    monkeypatch.setattr(Call, "_advance", lambda self, items: (_ for _ in ()).throw(BrokenPipeError("no terminal")))
    with pytest.raises(BrokenPipeError):
        clip.embed_query("a")
    monkeypatch.undo()
    assert clip.embed_query("a").shape == (clip.dimensions,)


def ends(code: str, folder: Path) -> str:
    """What a program prints that has to end by itself."""
    command = [sys.executable, "-c", f"from jinaclip import JinaClip\nimport asyncio, atexit, sys, threading\n{code}"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_iterator_that_never_goes_on_holds_up_nobody(checkpoints: dict[str, Path]) -> None:
    code = """
clip = JinaClip(sys.argv[1], backend='local', device='cpu')
def source():
    yield 'a'
    threading.Event().wait()
async def main():
    try: await asyncio.wait_for(clip.aembed_documents(source()), 0.2)
    except TimeoutError: print('timed out')
asyncio.run(main())
"""
    assert ends(code, checkpoints["v2"]) == "timed out\n"


@pytest.mark.slow
def test_embedding_while_the_process_ends_is_refused_and_does_not_hang(checkpoints: dict[str, Path]) -> None:
    code = """
def late():
    try: clip.embed_query('too late')
    except Exception as error: print(error)
atexit.register(late)
clip = JinaClip(sys.argv[1], backend='local', device='cpu')
clip.embed_query('in time')
"""
    assert "process is ending" in ends(code, checkpoints["v2"])


def test_a_budget_counts_what_the_tokenizer_counts(local) -> None:
    clip = local(token_budget=100)
    with pytest.raises(BudgetError):
        clip.embed_documents(f"text {i}" for i in range(300))
    assert clip.usage.tokens <= 100
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    assert local(token_budget=0).embed_image(picture).shape == (clip.dimensions,), "pictures cost nothing here"


def test_a_failed_call_gives_its_budget_back(local, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = local(token_budget=300)
    fail_on(monkeypatch, lambda batch: RuntimeError("bad kernel"))
    for _ in range(5):
        with pytest.raises(JinaClipError, match="bad kernel"):
            clip.embed_documents(texts_of([200]))
    monkeypatch.undo()
    assert clip.embed_documents(texts_of([200])).shape == (1, clip.dimensions)


@pytest.mark.slow
def test_the_tokenizer_never_has_more_at_once_than_memory_is_meant_for(
    local: Callable[..., JinaClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred times the text takes a hundred times the memory, were it all tokenized together."""
    sizes, under_way, most = list[int](), list[int](), list[int]()
    encode = Tokenizer.encode

    def note(tokenizer: Tokenizer, texts: list[str], *, truncate: bool) -> list[list[int] | InputError]:
        sizes.append(sum(map(len, texts)))
        under_way.append(1)
        most.append(len(under_way))
        encoded = encode(tokenizer, texts, truncate=truncate)
        under_way.pop()
        return encoded

    clip = local()
    clip.load()
    monkeypatch.setattr(Tokenizer, "encode", note)
    texts = ["long " * 6000] * 20
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda k: clip.embed([f"{k} {i} {text}" for i, text in enumerate(texts)]), range(4)))
    assert all(len(result.errors) == len(texts) for result in results)
    assert max(sizes) <= CHARACTERS_AT_ONCE + 31_000
    assert max(most) == 1
