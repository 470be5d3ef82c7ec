"""From a checkpoint folder to two towers ready to run: config.json and model.safetensors, and no other file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jinaclip.backends.local.checkpoint_config import read_json
from jinaclip.backends.local.towers.assembly import DEFAULT_TASK, ROPE_TABLES, Assembly
from jinaclip.backends.local.towers.layers import Linear, can_pack
from jinaclip.backends.local.towers.text_rope import TextRopeTower
from jinaclip.backends.local.towers.vision import rotary_angles
from jinaclip.backends.local.weight_file import WeightFile, first_names
from jinaclip.errors import CheckpointError, ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
ALL_CARDS = "cuda:all"


class Towers:
    """A loaded checkpoint. Both calls give un-normalised float32 (B, d) tensors on the device, without gradients.

    Attributes:
        config: the whole of config.json.
        dimensions, image_size, vocab_size, pad_id: facts of the model.
        logit_scale: as stored; logits are exp(logit_scale) times the cosine.
        device, dtype: where and in what the towers compute (float64 towers give float64 vectors).
    """

    def __init__(self, assembly: Assembly, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.assembly, self.config, self.device, self.dtype = assembly, config, device, dtype
        self.dimensions = assembly.dimensions
        self.image_size = assembly.vision.config.image_size
        self.vocab_size, self.pad_id = assembly.text.config.vocab_size, assembly.text.config.pad_token_id
        self.logit_scale = float(assembly.logit_scale)

    def compile(self) -> None:
        """Lets torch compile the blocks of the towers on first use, which takes a minute; not those of v1's texts.

        Vectors then differ from plain ones as those of another engine do, in the last bits.
        """
        vision, text = self.assembly.vision, self.assembly.text
        vision.turns = torch.view_as_real(vision.turns) if vision.turns.is_complex() else vision.turns
        blocks = [*vision.blocks[:-1], *(text.encoder.layers if isinstance(text, TextRopeTower) else [])]
        for block in blocks:  # of one class, and so compiled once
            block.compile(dynamic=True)

    @torch.inference_mode()
    def text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, d).

        Args:
            input_ids: integers; pad ids are masked wherever they stand. On the CPU they are looked at there, and the
                device is not waited for.
            attention_mask: (B, T), zero where a token is to be masked too; None goes by the ids alone.

        Raises:
            InputError: wrong shapes, an id outside the vocabulary, or a row of nothing but padding.
        """
        features = self.assembly.text(input_ids, attention_mask)
        return self.assembly.text_projection(self.assembly.text_proj(features))

    @torch.inference_mode()
    def vision(self, pixel_values: Tensor, *, tokens: int | None = None) -> Tensor:
        """(B, 3, S, S) preprocessed pixels -> (B, d).

        Args:
            pixel_values: as `preprocess` makes them.
            tokens: how many tokens of each image to look at, CLS included; for a quick test of the weights.

        Raises:
            InputError: another shape, or not one image.
        """
        features = self.assembly.vision(pixel_values.to(self.device), tokens).to(_at_least_float32(self.dtype))
        return self.assembly.visual_projection(self.assembly.vision_head(features))


def load_towers(
    folder: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    lora_task: str | None = DEFAULT_TASK,
    pack: bool = True,
) -> Towers:
    """Loads the towers of a checkpoint folder.

    Args:
        folder: holds `config.json` and `model.safetensors` with the names and schema of the published models.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the best there is.
        dtype: of weights and arithmetic; None is float32, on CUDA bfloat16.
        lora_task: the text adapter to merge: "default" is the checkpoint's own choice, None the bare weights.
        pack: whether a CPU's matrix units may have the weights in an order of their own, which is faster. Without it
            they stay as they are, for those who export or change them.

    Raises:
        ConfigError: no such device, dtype or adapter.
        CheckpointError: a file is missing, damaged, or not what it claims to be.
    """
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    path = Path(folder)
    config = read_json(path / "config.json")
    with torch.device("meta"), torch.no_grad():
        assembly = Assembly(config)
    task = assembly.lora.select(lora_task)
    file = WeightFile.find(path)
    file.check(assembly.required_shapes(), assembly.optional_shapes())
    with torch.no_grad(), file.open() as weights:
        reader = TensorReader(weights, place, task)
        _fill(assembly, reader, kind, pack=pack)
        _check_rope(assembly, file, weights)
        unsound = reader.unsound_names()
        assembly.to(place)  # the buffers; the parameters are there
        assembly.vision.prepare()
    if unsound:
        raise CheckpointError(f"{file.path} holds NaN or infinite numbers in {first_names(unsound)}; fetch it again")
    return Towers(assembly.eval(), config, place, kind)


class TensorReader:
    """Tensors from an open file, moved to the device first and converted there; remembers what was unsound."""

    def __init__(self, weights: Any, device: torch.device, task: int | None) -> None:
        self.weights, self.device, self.task = weights, device, task
        self.spare = torch.empty(0, device=device)
        self.sums: list[tuple[str, Tensor]] = []

    def read(self, name: str, kind: torch.dtype, *, passing: bool = False, changing: bool = False) -> Tensor:
        """The tensor in another type. The mapped file itself only if it is passing through and not to be changed.

        What is passing through may lie in memory that the next one takes over.
        """
        stored = self.weights.get_tensor(name).to(self.device)
        if passing and (changing or stored.dtype != kind):
            value = self._spare_tensor(stored.shape, kind).copy_(stored)
        else:
            value = stored.to(kind, copy=stored.is_cpu and not passing)
        self.sums.append((name, value.sum(dtype=_at_least_float32(kind))))
        return value

    def read_merged(self, names: list[str], scale: float, wide: torch.dtype, *, table: bool, passing: bool) -> Tensor:
        """Original + scale * (B A), for tables A B, in float32 or better."""
        weight = self.read(names[0], wide, passing=passing, changing=True)
        a, b = (self.read(name, wide) for name in names[1:])
        if self.task is None:
            return weight
        a, b = a[self.task], b[self.task]
        return weight.addmm_(a, b, alpha=scale) if table else weight.addmm_(b, a, alpha=scale)

    def unsound_names(self) -> list[str]:
        """Names of tensors with a NaN or an infinity among their numbers, which no sum is without."""
        finite = torch.isfinite(torch.stack([value for _, value in self.sums])).tolist()
        doubtful = [name for (name, _), sound in zip(self.sums, finite, strict=True) if not sound]
        return [name for name in doubtful if not torch.isfinite(self.weights.get_tensor(name)).all()]

    def _spare_tensor(self, shape: torch.Size, kind: torch.dtype) -> Tensor:
        if self.spare.numel() < shape.numel() or self.spare.dtype != kind:
            self.spare = torch.empty(shape.numel(), dtype=kind, device=self.device)
        return self.spare[: shape.numel()].view(shape)


def _fill(assembly: Assembly, reader: TensorReader, dtype: torch.dtype, *, pack: bool) -> None:
    """Gives every parameter its tensor, one layer at a time, so that little is held twice."""
    wide, place = _at_least_float32(dtype), reader.device
    for name, module, key, tensor in list(assembly.file_parameters()):
        kind = wide if type(module) in (nn.Linear, Assembly) else dtype
        matrix = pack and isinstance(module, Linear) and key == "weight"
        packs = matrix and can_pack(torch.empty(0, dtype=kind, device=place))
        if assembly.has_adapter(name, module, key):
            table = isinstance(module, nn.Embedding)
            parts = assembly.lora.parts(name.removesuffix(".weight"), tuple(tensor.shape), table=table)
            value = reader.read_merged(list(parts), assembly.lora.scale, wide, table=table, passing=packs).to(kind)
        else:
            value = reader.read(name, kind, passing=packs)
        setattr(module, key, nn.Parameter(value, requires_grad=False))
        if packs:
            module.pack()  # type: ignore[operator]


def _check_rope(assembly: Assembly, file: WeightFile, weights: Any) -> None:
    """Compares the rotary tables that v1 publishes with those built here."""
    angles = rotary_angles(assembly.vision.config).repeat_interleave(2, dim=-1)  # (g * g, d)
    for name, built in zip(ROPE_TABLES, (angles.cos(), angles.sin()), strict=True):
        if name in file.shapes and not torch.allclose(weights.get_tensor(name).float(), built, rtol=0, atol=2e-3):
            raise CheckpointError(f"{file.path}: {name} does not fit the rotary positions that config.json describes")


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of a name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        place = torch.device("meta")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(place.type) or (place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count()):
        found = ", ".join(kind for kind, available in there.items() if available)
        raise ConfigError(f"device={str(device)!r} is not there; this machine has {found}")
    return place


def resolve_devices(names: Sequence[str]) -> list[torch.device]:
    """The devices of names, as `resolve_device` has them; "cuda:all" is every card.

    Raises:
        ConfigError: one of them is not there, is named twice, or is of another kind than the first, so that it would
            round otherwise. A CPU may be named twice, which helps tests alone.
    """
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cuda"]
    several = [name for given in names for name in (cards if given == ALL_CARDS else [given])]
    found = [resolve_device(name) for name in several]
    if len(found) > 1:
        found = [torch.device("cuda", place.index or 0) if place.type == "cuda" else place for place in found]
    shown = ",".join(names)
    if len({place.type for place in found}) > 1:
        raise ConfigError(f"device={shown!r} names devices of several kinds; one object works on one kind")
    if found[0].type != "cpu" and len(set(found)) < len(found):
        raise ConfigError(f"device={shown!r} names a device twice")
    return found


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype of a name; None is bfloat16 on CUDA and float32 elsewhere.

    Raises:
        ConfigError: no dtype that towers can have.
    """
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    kind = DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if kind is None or kind not in DTYPES.values():
        raise ConfigError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}")
    return kind
