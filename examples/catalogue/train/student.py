"""A small model in the shape of jina-clip-v2, as it is trained: fresh weights, adapters kept apart, published names."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jinaclip.backends.local.towers.assembly import Assembly

WIDTH, SIDE, PATCH, RANK = 128, 64, 8, 8
WIDTHS = (32, 64, 128)
"""Matryoshka widths: each is trained to be a good embedding by itself."""
TASK = "retrieval.query"
INSTRUCTION = "Represent the query for retrieving evidence documents: "

PREPROCESSOR = {
    "image_processor_type": "JinaCLIPImageProcessor",
    "size": SIDE,
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "resize_mode": "shortest",
    "interpolation": "bicubic",
    "fill_color": 0,
}


def config(vocab_size: int) -> dict[str, Any]:
    """The `config.json` of the model, in the published schema."""
    text = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 4 * WIDTH,
        "vocab_size": vocab_size,
        "lora_adaptations": [TASK],
        "lora_rank": RANK,
        "lora_alpha": RANK,
        "task_instructions": {TASK: INSTRUCTION},
    }
    vision = {
        "embed_dim": WIDTH,
        "width": WIDTH,
        "image_size": SIDE,
        "patch_size": PATCH,
        "layers": 6,
        "head_width": 32,
        "mlp_ratio": 2.6667,
        "intp_freq": True,
        "pt_hw_seq_len": SIDE // PATCH,
        "model_type": "jina_clip_vision",
    }
    return {
        "model_type": "jina_clip",
        "architectures": ["JinaCLIPModel"],
        "add_projections": False,
        "projection_dim": WIDTH,
        "logit_scale_init_value": math.log(1 / 0.07),
        "matryoshka_dimensions": list(WIDTHS),
        "truncate_dim": None,
        "torch_dtype": "float16",
        "text_config": {
            "model_type": "jina_clip_text",
            "hf_model_name_or_path": "jinaai/jina-embeddings-v3",
            "hf_model_config_kwargs": text,
            "default_lora_task": TASK,
            "default_instruction_task": None,
            "embed_dim": WIDTH,
            "pooler_type": "mean_pooler",
        },
        "vision_config": vision,
    }


class Lora(nn.Module):
    """weight + (alpha / rank) B A, zero at first (Hu et al. 2021). Torch calls its weight `original`, as the file does.

    The parts have an axis for tasks in front, of which this model has one.
    """

    def __init__(self, parts: dict[str, tuple[int, ...]], scale: float, *, table: bool) -> None:
        super().__init__()
        a, b = (next(shape for name, shape in parts.items() if name.endswith(end)) for end in ("lora_A", "lora_B"))
        self.lora_A = nn.Parameter(torch.empty(a).normal_(std=0.02))
        self.lora_B = nn.Parameter(torch.zeros(b))
        self.scale, self.table = scale, table

    def forward(self, weight: Tensor) -> Tensor:
        """The weight the layer works with."""
        update = self.lora_A[0] @ self.lora_B[0] if self.table else self.lora_B[0] @ self.lora_A[0]
        return weight + self.scale * update


class Student(nn.Module):
    """Both towers and the learned temperature, with gradients."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.assembly = Assembly(config(vocab_size))
        for name, module, key, tensor in list(self.assembly.file_parameters()):
            initialise(name, tensor)
            if self.assembly.has_adapter(name, module, key):
                self._adapt(name, module, tensor)
        self.assembly.vision.build_tables()

    def _adapt(self, name: str, module: nn.Module, tensor: Tensor) -> None:
        table = isinstance(module, nn.Embedding)
        parts = self.assembly.lora.parts(name.removesuffix(".weight"), tuple(tensor.shape), table=table)
        parametrize.register_parametrization(module, "weight", Lora(parts, self.assembly.lora.scale, table=table))

    def text(self, ids: Tensor) -> Tensor:
        """(B, T) padded ids -> (B, d)."""
        return self.assembly.text(ids)

    def vision(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, d)."""
        return self.assembly.vision.run(pixels)

    @property
    def temperature(self) -> Tensor:
        """What similarities are multiplied with; at most 100, as in CLIP (Radford et al. 2021)."""
        return self.assembly.logit_scale.exp().clamp(max=100)

    def adapters(self) -> list[nn.Parameter]:
        """The parameters of the query adapter."""
        return [p for n, p in self.named_parameters() if "lora_" in n]

    def text_weights(self) -> list[nn.Parameter]:
        """The parameters of the text tower without the adapter."""
        return [p for n, p in self.assembly.text.named_parameters() if "lora_" not in n]

    def published(self) -> dict[str, Tensor]:
        """Every tensor under its published name, in float16."""
        return {
            name: tensor.detach().to(torch.float16).contiguous()
            for name, _, _, tensor in self.assembly.file_parameters()
        }

    def save(self, folder: Path) -> None:
        """Writes config, weights and preprocessor in the published layout."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = self.assembly.text.config.vocab_size
        (folder / "config.json").write_text(json.dumps(config(rows), indent=2) + "\n")
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
        save_file(self.published(), folder / "model.safetensors")


def initialise(name: str, tensor: Tensor) -> None:
    """Matrices small and random, norms one, biases zero; deeper layers need nothing else at this depth."""
    with torch.no_grad():
        if name == "logit_scale":
            tensor.fill_(math.log(1 / 0.07))
        elif tensor.ndim > 1:
            nn.init.trunc_normal_(tensor, std=0.02 if tensor.ndim != 2 else tensor.shape[1] ** -0.5 * 0.6)
        elif "norm" in name or "_ln" in name or "ln." in name:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            tensor.zero_()


def contrast(queries: Tensor, documents: Tensor, wanted: Tensor, temperature: Tensor) -> Tensor:
    """InfoNCE in both directions (van den Oord et al. 2018).

    Args:
        queries: (n, d).
        documents: (m, d), m >= n: the first n answer the queries, the others are hard negatives.
        wanted: (n, m) bool: which documents answer which queries.
        temperature: scalar that similarities are multiplied with.
    """
    n = len(queries)
    return (find(queries, documents, wanted, temperature) + find(documents[:n], queries, wanted.T[:n], temperature)) / 2


def find(
    queries: Tensor,
    documents: Tensor,
    wanted: Tensor,
    temperature: Tensor | float,
    barred: Tensor | None = None,
) -> Tensor:
    """InfoNCE from queries to documents, the mean over the Matryoshka widths (Kusupati et al. 2022).

    A query that says little has several answers; any of them will do, and the loss is that of their joint probability.

    Args:
        queries: (n, d).
        documents: (m, d).
        wanted: (n, m) bool; a query without any answer does not count, and no queries have no loss.
        temperature: what similarities are multiplied with.
        barred: (n, m) bool: documents that a query must not see.
    """
    answered = wanted.any(1)
    if not answered.any():
        return 0 * queries.sum()
    losses = []
    for logits in _similarities(queries, documents, temperature):
        every = logits if barred is None else logits.masked_fill(barred, -1e4)
        losses.append((every.logsumexp(1) - logits.masked_fill(~wanted, -1e4).logsumexp(1))[answered].mean())
    return torch.stack(losses).mean()


def gather(pictures: Tensor, facts: Tensor, temperature: float = 10.0) -> Tensor:
    """Neighbourhood components (Goldberger et al. 2004): the nearest pictures are of the same garment.

    Which of them does not matter, so that colours and patterns may keep pictures of one garment apart. Near twins,
    which a batch holds on purpose, do not count: they would be enough.

    Args:
        pictures: (n, d).
        facts: (n, attributes) numbers, the garment first.
        temperature: what similarities are multiplied with; the smaller, the more neighbours count.
    """
    twins = (facts[:, None] != facts).sum(-1) <= 2
    return find(pictures, pictures, (facts[:, None, 0] == facts[:, 0]) & ~twins, temperature, twins)


def _similarities(queries: Tensor, documents: Tensor, temperature: Tensor | float) -> Iterator[Tensor]:
    """(n, m) for each width: what InfoNCE takes the softmax of."""
    for width in WIDTHS:
        q, d = (F.normalize(x[:, :width], dim=-1) for x in (queries, documents))
        yield temperature * q @ d.T
