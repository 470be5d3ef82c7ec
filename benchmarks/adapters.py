"""Queries beside a tower that forms its adapted weights anew in every pass (`lora.py`); a part of `local.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import Bench, Job
from inputs import make_texts
from lora import Reforming
from report import Row
from texts import encode, padded_batch


def lora(job: Job) -> Iterator[Row]:
    """Queries beside a tower that forms its adapted weights anew in every pass, as the published one does."""
    bench = Bench(job)
    held = list(make_texts(8, words=12))
    batches = {
        "one query": [bench.spec.query_instruction + held[0]],
        "8 short texts": held,
    }
    reforming = Reforming(job.folder, bench.model.runner.towers)
    for name, batch in batches.items():
        ids = encode(bench.model.tokenizer, batch)
        inputs = padded_batch(bench.model.runner.towers, ids)
        ours, theirs = bench.model.runner.towers.text(*inputs), reforming.text(*inputs)
        gap = float((ours - theirs).abs().max() / theirs.abs().max())
        if gap > (0.05 if job.device == "cuda" else 1e-3):
            raise SystemExit(f"the adapters give other vectors, by {gap}")
        call: Callable[[], object] = (
            (lambda: bench.clip.embed_query(held[0]))
            if name == "one query"
            else (lambda: bench.clip.embed_documents(held))
        )
        times = bench.best({"ours": call, "re-formed": lambda inputs=inputs: reforming.text(*inputs)}, 5)
        yield Row(
            f"{job.version} {name} ({inputs[0].shape[1]} tokens): embedding vs a forward pass that re-forms "
            f"{reforming.places} adapted weights",
            f"{times['ours'] * 1e3:,.1f} ms",
            f"{times['re-formed'] * 1e3:,.1f} ms",
            times["re-formed"] / times["ours"],
            None,
        )
