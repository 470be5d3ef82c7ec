"""What a checkpoint's config.json describes: two towers, what follows them, and the tensors its file must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from jinaclip.backends.local.checkpoint_config import config_value, refuse_variants
from jinaclip.backends.local.files import show
from jinaclip.backends.local.towers.text_alibi import AlibiConfig, TextAlibiTower
from jinaclip.backends.local.towers.text_rope import RopeConfig, TextRopeTower
from jinaclip.backends.local.towers.vision import VisionConfig, VisionTower
from jinaclip.backends.local.weight_file import Shape
from jinaclip.errors import CheckpointError, ConfigError

TextConfig: TypeAlias = "AlibiConfig | RopeConfig"
TextTower: TypeAlias = "TextAlibiTower | TextRopeTower"

DEFAULT_TASK = "default"
ROPE_TABLES = ("vision_model.rope.freqs_cos", "vision_model.rope.freqs_sin")
"""Tensors that the published file of v1 carries beside its parameters; they are rebuilt, and compared if present."""


@dataclass(frozen=True, slots=True)
class TextBase:
    """What a checkpoint means when it names a base model for its text tower."""

    configure: Callable[[Mapping[str, Any]], TextConfig]
    build: Callable[[Any], TextTower]
    prefix: str


TEXT_BASES = {
    "jinaai/jina-bert-flash-implementation": TextBase(
        AlibiConfig.from_overrides, TextAlibiTower, "text_model.transformer."
    ),
    "jinaai/jina-embeddings-v3": TextBase(RopeConfig.from_overrides, TextRopeTower, "text_model.transformer.roberta."),
}


@dataclass(frozen=True, slots=True)
class Lora:
    """The low-rank adapters of a text tower (Hu et al. 2021)."""

    tasks: tuple[str, ...] = ()
    rank: int = 4
    alpha: float = 1.0
    default: str | None = None

    @classmethod
    def from_config(cls, text: Mapping[str, Any]) -> Lora:
        """The adapters a `text_config` describes; none without `lora_adaptations`.

        Raises:
            CheckpointError: rank, alpha or the default task do not fit.
        """
        where = "text_config.hf_model_config_kwargs"
        raw = text.get("hf_model_config_kwargs") or {}
        tasks = raw.get("lora_adaptations") or []
        if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
            raise CheckpointError(f"config.json: {where}.lora_adaptations must be a list of names")
        if not tasks:
            return cls()
        rank, alpha = config_value(raw, where, "lora_rank", int), config_value(raw, where, "lora_alpha", float)
        lora = cls(tuple(tasks), rank, alpha, text.get("default_lora_task"))
        if not rank or (lora.default is not None and lora.default not in tasks):
            raise CheckpointError(f"config.json: the adapters are described inconsistently: {show(lora)}")
        return lora

    @property
    def scale(self) -> float:
        """What the product of the two factors is multiplied with."""
        return self.alpha / self.rank

    def select(self, task: str | None) -> int | None:
        """The index of a task, or None for the bare weights.

        Raises:
            ConfigError: the checkpoint has no such adapter.
        """
        task = self.default if task == DEFAULT_TASK else task
        if task is not None and task not in self.tasks:
            raise ConfigError(f"lora_task={task!r} is not in this checkpoint; it has {list(self.tasks)}")
        return None if task is None else self.tasks.index(task)

    def parts(self, layer: str, shape: Shape, *, table: bool) -> dict[str, Shape]:
        """Names and shapes of the three tensors (original, A, B) that stand in the file for the weight of a layer."""
        stem, n, r, (rows, columns) = f"{layer}.parametrizations.weight.", len(self.tasks), self.rank, shape
        a, b = ((rows, r), (r, columns)) if table else ((r, columns), (rows, r))
        return {f"{stem}original": shape, f"{stem}0.lora_A": (n, *a), f"{stem}0.lora_B": (n, *b)}


class Assembly(nn.Module):
    """Both towers and the projections that may follow them.

    Raises:
        CheckpointError: the config describes something that is not built here, or does not fit together.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        text, vision = (_section(config, key) for key in ("text_config", "vision_config"))
        base = _text_base(text)
        self.lora, self.prefix = Lora.from_config(text), base.prefix
        self.text = base.build(base.configure(text.get("hf_model_config_kwargs") or {}))
        self.vision = VisionTower(VisionConfig.from_dict(vision))
        outs = (
            config_value(text, "text_config", "embed_dim", int),
            config_value(vision, "vision_config", "embed_dim", int),
        )
        width = self.text.config.hidden_size
        self.text_proj = _projection(text, "text_config", width, outs[0], bias=bool(text.get("proj_bias")))
        self.vision_head = _projection(vision, "vision_config", self.vision.config.width, outs[1], bias=True)
        self.text_projection: nn.Module = nn.Identity()
        self.visual_projection: nn.Module = nn.Identity()
        if config.get("add_projections"):
            width = config_value(config, "", "projection_dim", int)
            self.text_projection = nn.Linear(outs[0], width, bias=False)
            self.visual_projection = nn.Linear(outs[1], width, bias=False)
            outs = (width, width)
        if outs[0] != outs[1] or not outs[0]:
            raise CheckpointError(f"config.json: text and image vectors would have widths {outs[0]} and {outs[1]}")
        self.dimensions = outs[0]
        self.logit_scale = nn.Parameter(torch.empty(()))

    def file_parameters(self) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
        """Every parameter: its name in the file (LoRA apart), its owner, its attribute there, the tensor."""
        stems = {"text": self.prefix[:-1], "vision": "vision_model", "text_proj": "text_model.proj"}
        stems["vision_head"] = "vision_model.head"
        for path, module in self.named_modules():
            first, _, rest = path.partition(".")
            stem = ".".join(part for part in (stems.get(first, first), rest) if part)
            for key, tensor in module.named_parameters(recurse=False):
                yield f"{stem}.{key}" if stem else key, module, key, tensor

    def has_adapter(self, name: str, module: nn.Module, key: str) -> bool:
        """Whether a parameter stands in the file as a weight and its adapters."""
        matrix = key == "weight" and isinstance(module, nn.Linear | nn.Embedding)
        return bool(self.lora.tasks) and matrix and name.startswith(self.prefix)

    def required_shapes(self) -> dict[str, Shape]:
        """Every tensor the file must hold, with its shape."""
        found: dict[str, Shape] = {}
        for name, module, key, tensor in self.file_parameters():
            shape = tuple(tensor.shape)
            if self.has_adapter(name, module, key):
                found |= self.lora.parts(name.removesuffix(".weight"), shape, table=isinstance(module, nn.Embedding))
            else:
                found[name] = shape
        return found

    def optional_shapes(self) -> dict[str, Shape]:
        """Tensors the file may hold."""
        vision = self.vision.config
        return dict.fromkeys(ROPE_TABLES, (vision.grid**2, vision.head_width))


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = config.get(key)
    if not isinstance(section, dict):
        raise CheckpointError(f"config.json lacks the section {key}")
    return section


def _text_base(text: Mapping[str, Any]) -> TextBase:
    refuse_variants(text, "text_config", {"pooler_type": "mean_pooler"})
    name = config_value(text, "text_config", "hf_model_name_or_path", str)
    if name not in TEXT_BASES:
        known = " and ".join(TEXT_BASES)
        raise CheckpointError(
            f"config.json: text_config.hf_model_name_or_path = {show(name)}; sizes are known only for {known}"
        )
    if not isinstance(text.get("hf_model_config_kwargs") or {}, dict):
        raise CheckpointError("config.json: text_config.hf_model_config_kwargs must be an object")
    return TEXT_BASES[name]


def _projection(section: Mapping[str, Any], where: str, width: int, out: int, *, bias: bool) -> nn.Module:
    """What `proj_type` asks for: nothing, which needs equal widths, or one linear layer."""
    kind = section.get("proj_type")
    if kind not in (None, "linear"):
        raise CheckpointError(
            f"config.json: {where}.proj_type = {show(kind)} is not supported; only null and 'linear' are"
        )
    if kind is None and width != out:
        raise CheckpointError(f"config.json: {where} has width {width} and embed_dim {out}, but no projection")
    return nn.Identity() if kind is None else nn.Linear(width, out, bias=bias)
