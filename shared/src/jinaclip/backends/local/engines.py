"""What computes: PyTorch for checkpoints, ONNX Runtime for exported folders. Neither is imported early."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jinaclip.backends.local.onnx_folder import Manifest, check_files, read_manifest
from jinaclip.backends.local.runner import Runner
from jinaclip.backends.local.source import MANIFEST, FileState, Source
from jinaclip.backends.local.weights import find_weights
from jinaclip.config import EmbedderConfig, EngineName
from jinaclip.errors import ConfigError
from jinaclip.requirements import check_installed

if TYPE_CHECKING:
    import torch

    from jinaclip.backends.local.onnx_runner import OnnxRunner
    from jinaclip.backends.local.towers.runner import TorchRunner

OWN_EXPORT = "jinaclip-onnx"
"""Where a folder of weights holds an export of itself. Copies of hub repositories have other files in `onnx`."""
LIBRARIES = {"torch": ("torch", "local"), "onnx": ("onnxruntime", "onnx")}
"""What each engine imports, and the extra that brings it."""

logger = logging.getLogger("jinaclip")


class Engine(Protocol):
    """Loads models of one kind, with the settings that a user chose."""

    @property
    def key(self) -> Hashable:
        """Equal for engines that would load the same."""

    @property
    def rounding(self) -> dict[str, Any]:
        """What the last bits of vectors depend on, as JSON values."""

    @property
    def device_names(self) -> list[str]:
        """Where it computes, on all of them: "cpu", "cuda:0"."""

    def load(self, files: Sequence[FileState], values: NDArray[np.float32]) -> list[Runner]:
        """The model of a folder on each device.

        Args:
            files: of the folder.
            values: (3, 256), what each byte of each channel of an image becomes.

        Raises:
            CheckpointError: a file is missing, damaged, or not what it claims to be.
        """

    def test(self, runner: Any, texts: Sequence[Sequence[int]], folder: Path) -> None:
        """Whether it gives sound vectors, on token ids of two different texts and on two pictures.

        Raises:
            CheckpointError: it does not.
        """


@dataclass(frozen=True, slots=True)
class TorchEngine:
    """The towers, in PyTorch."""

    devices: tuple[torch.device, ...]
    dtype: torch.dtype
    threads: int | None

    @property
    def key(self) -> Hashable:
        """Where and in what it computes."""
        return ("torch", tuple(map(str, self.devices)), self.dtype, self.threads)

    @property
    def rounding(self) -> dict[str, Any]:
        """Engine and type of numbers."""
        return {"engine": "torch", "dtype": str(self.dtype).removeprefix("torch.")}

    @property
    def device_names(self) -> list[str]:
        """Of the devices; one that is there twice, which only a CPU may be, has a number."""
        names = [str(device) for device in self.devices]
        return [
            name if name not in names[:n] else f"{name}#{names[:n].count(name) + 1}" for n, name in enumerate(names)
        ]

    def load(self, files: Sequence[FileState], values: NDArray[np.float32]) -> list[Runner]:
        """The towers of a checkpoint, a copy on each device."""
        from jinaclip.backends.local.towers.cuda_runner import make_runner
        from jinaclip.backends.local.towers.loader import load_towers

        folder = files[0].path.parent
        return [
            make_runner(load_towers(folder, device=device, dtype=self.dtype), values, self.threads, name)
            for device, name in zip(self.devices, self.device_names, strict=True)
        ]

    def test(self, runner: TorchRunner, texts: Sequence[Sequence[int]], folder: Path) -> None:
        """Two texts and two pictures must give different vectors."""
        from jinaclip.backends.local.towers.runner import self_test

        self_test(runner.towers, texts, folder / "model.safetensors")


@dataclass(frozen=True, slots=True)
class OnnxEngine:
    """The graphs of an exported folder, in ONNX Runtime."""

    manifest: Manifest
    threads: int | None

    @property
    def key(self) -> Hashable:
        """Beside the files only the threads."""
        return ("onnx", self.threads)

    @property
    def rounding(self) -> dict[str, Any]:
        """The graphs too: another exporter orders sums in another way."""
        return {"engine": "onnx", "dtype": self.manifest.precision, "graphs": self.manifest.graphs}

    @property
    def device_names(self) -> list[str]:
        """Always the CPU."""
        return ["cpu"]

    def load(self, files: Sequence[FileState], _: NDArray[np.float32]) -> list[Runner]:
        """The graphs, once all files are those that were exported."""
        from jinaclip.backends.local.onnx_runner import OnnxRunner

        check_files(files, self.manifest)
        return [OnnxRunner(files[0].path.parent, self.manifest, self.threads)]

    def test(self, runner: OnnxRunner, _: Sequence[Sequence[int]], folder: Path) -> None:
        """The texts and pictures of the manifest must give its vectors."""
        from jinaclip.backends.local.onnx_runner import self_test

        self_test(runner, self.manifest, folder)


def choose_source(source: Source, config: EmbedderConfig) -> Source:
    """What is run for a model: the export that a folder of weights holds of itself, where that is faster, or the model.

    It is faster on a CPU, and its vectors are equal where it is in float32; int8 has to be asked for by its own name.

    Raises:
        CheckpointError: the manifest of that export, or a file of the weights, cannot be read.
    """
    folder = source.folder
    if folder is None or source.is_export or config.engine == "torch":
        return source
    own = Source(str(folder / OWN_EXPORT))
    if not own.is_export or importlib.util.find_spec("onnxruntime") is None or not computes_on_cpu(config):
        return source
    manifest = read_manifest(folder / OWN_EXPORT)
    if manifest.precision != "float32":
        return source
    if find_weights(source) != manifest.source:
        logger.warning("%s was exported from other weights than those beside it, and is not used", own.model)
        return source
    return own


def computes_on_cpu(config: EmbedderConfig) -> bool:
    """Whether a checkpoint would be computed on a CPU in float32."""
    if config.dtype not in (None, "float32") or config.device not in ("auto", "cpu"):
        return False
    if config.device == "cpu" or importlib.util.find_spec("torch") is None:
        return True
    from jinaclip.backends.local.towers.loader import resolve_device

    return resolve_device("auto").type == "cpu"


def choose_engine(source: Source, config: EmbedderConfig) -> Engine:
    """The engine for a model.

    Raises:
        ConfigError: it does not run this model, or has no such device or dtype.
        CheckpointError: the manifest of an exported folder is damaged.
        MissingDependencyError: its library is not installed.
    """
    name = name_engine(source, config)
    check_engine(name)
    if name == "onnx":
        check_onnx_options(config)
        return OnnxEngine(read_manifest(source.fetch()), config.threads)
    from jinaclip.backends.local.towers.loader import resolve_devices, resolve_dtype

    devices = resolve_devices(config.devices)
    return TorchEngine(tuple(devices), resolve_dtype(config.dtype, devices[0]), config.threads)


def name_engine(source: Source, config: EmbedderConfig) -> EngineName:
    """The engine that runs a model: "onnx" for an exported folder, "torch" for every other.

    Raises:
        ConfigError: the option `engine` asks for the other one.
    """
    if source.is_export:
        if config.engine == "torch":
            raise ConfigError(
                f"engine='torch' runs checkpoints, and {source.model} is an export for ONNX Runtime; name the "
                "checkpoint that it was made from, or leave engine out"
            )
        return "onnx"
    if config.engine == "onnx":
        raise ConfigError(
            f"engine='onnx' runs a folder made by `jinaclip export`, and {source.model!r} is none (no "
            f"{MANIFEST}); make one with `jinaclip export {source.model} --out DIR` and name it as the model. ONNX "
            "files of the hub are not loaded: some of those published give poor vectors, or one for every picture"
        )
    return "torch"


def check_onnx_options(config: EmbedderConfig) -> None:
    """Raises ConfigError for options that only the other engine has."""
    if config.device not in ("auto", "cpu"):
        raise ConfigError(
            f"device={config.device!r} is not for an exported folder, which runs on the CPU; for a GPU name the "
            "checkpoint"
        )
    if config.dtype not in (None, "float32"):
        raise ConfigError(
            f"dtype={config.dtype!r} is not for an exported folder, whose type was chosen when it was made; leave it "
            "out"
        )


def check_engine(engine: EngineName) -> None:
    """Raises MissingDependencyError where the library of an engine is not installed."""
    library, extra = LIBRARIES[engine]
    runs = "a folder made by `jinaclip export`" if engine == "onnx" else "a checkpoint"
    check_installed([library], f"backend='local' for {runs}", extra)
