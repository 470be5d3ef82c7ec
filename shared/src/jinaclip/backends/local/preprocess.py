"""Images to pixels, to the last bit as the published models were trained and tested with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from jinaclip.backends.local.files import show
from jinaclip.config import ImageResize
from jinaclip.errors import CheckpointError, InputError
from jinaclip.images.resize import resize_crop, resize_pad, resize_squash
from jinaclip.specs import ModelSpec

ResizeMode = Literal["shortest", "longest", "squash"]
Color: TypeAlias = "tuple[int, int, int]"
Triple: TypeAlias = "tuple[float, float, float]"
MAX_STATISTIC, MIN_SPREAD = 1e3, 1e-6
"""No mean or spread of pixels from 0 to 1 comes near."""
MODES: dict[ResizeMode, ImageResize] = {"shortest": "model", "longest": "pad", "squash": "squash"}
"""What `image_resize` calls them."""
RESAMPLING = {
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "bilinear": PIL.Image.Resampling.BILINEAR,
}


@dataclass(frozen=True, slots=True)
class PreprocessConfig:
    """The values of a `preprocessor_config.json`; the defaults are those of both published models."""

    size: int
    mean: Triple = (0.48145466, 0.4578275, 0.40821073)
    std: Triple = (0.26862954, 0.26130258, 0.27577711)
    resize_mode: ResizeMode = "shortest"
    interpolation: str = "bicubic"
    fill_color: Color = (0, 0, 0)

    @classmethod
    def from_config(cls, given: ModelSpec | Mapping[str, Any] | PreprocessConfig) -> PreprocessConfig:
        """The config of a model's spec, or of the content of a `preprocessor_config.json`.

        Raises:
            CheckpointError: a value is missing or cannot be used.
        """
        if isinstance(given, PreprocessConfig):
            return given
        if isinstance(given, ModelSpec):
            return cls(given.image_size)
        try:
            return cls(**{key: read(given[key]) for key, read in _VALUES.items() if given.get(key) is not None})
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"preprocessor_config.json cannot be used: {str(error)[:200]}") from error


def _side(value: Any) -> int:
    sides = [*value.values()] if isinstance(value, Mapping) else [value]
    if not sides or any(type(side) is not int or side < 1 or side != sides[0] for side in sides):
        raise ValueError(f"size {show(value)} is no one side of a square")
    return int(sides[0])


def _triple(value: Any) -> Triple:
    is_real = isinstance(value, list | tuple) and len(value) == 3
    if not is_real or not all(type(number) in (int, float) and abs(number) < MAX_STATISTIC for number in value):
        raise ValueError(f"{show(value)} are no three numbers of an image")
    first, second, third = map(float, value)
    return first, second, third


def _spread(value: Any) -> Triple:
    triple = _triple(value)
    if min(triple) < MIN_SPREAD:
        raise ValueError(f"std {show(value)} must be {MIN_SPREAD:g} at least")
    return triple


def _color(value: Any) -> Color:
    parts = value if isinstance(value, list | tuple) else [value] * 3
    if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
        raise ValueError(f"fill_color {show(value)} must be from 0 to 255")
    red, green, blue = parts
    return red, green, blue


def _mode(value: Any) -> ResizeMode:
    if value not in ("shortest", "longest", "squash"):
        raise ValueError(f"resize_mode {show(value)} is unknown")
    return value


def _interpolation(value: Any) -> str:
    if value not in RESAMPLING:
        raise ValueError(f"interpolation {show(value)} is unknown")
    return str(value)


_VALUES: dict[str, Callable[[Any], Any]] = {
    "size": _side,
    "mean": _triple,
    "std": _spread,
    "resize_mode": _mode,
    "interpolation": _interpolation,
    "fill_color": _color,
}


def preprocess(
    image: PIL.Image.Image | NDArray[np.uint8],
    config: ModelSpec | Mapping[str, Any] | PreprocessConfig,
) -> NDArray[np.float32]:
    """(3, S, S) float32 pixels of one image, equal to the last bit to the published processor's.

    Args:
        image: a Pillow image of any mode, or uint8 (H, W, 3), (H, W, 4) or (H, W). Alpha is dropped.
        config: a model's spec, or the content of a `preprocessor_config.json`.

    Raises:
        InputError: no such image or array, or one without pixels.
        CheckpointError: the config cannot be used.
    """
    settings = PreprocessConfig.from_config(config)
    return to_floats(resize(to_rgb(image), settings), settings)


def to_floats(square: PIL.Image.Image | NDArray[np.uint8], settings: PreprocessConfig) -> NDArray[np.float32]:
    """(3, S, S) float32 of S x S RGB pixels, normalised with the mean and spread of the checkpoint."""
    pixels = np.asarray(square).transpose(2, 0, 1)  # (3, S, S) uint8
    table = byte_values(settings)
    return np.stack([np.take(table[channel], pixels[channel]) for channel in range(3)])


def byte_values(settings: PreprocessConfig) -> NDArray[np.float32]:
    """(3, 256) float32: what each byte of each channel becomes; not to be changed."""
    return _table(settings.mean, settings.std)


@functools.lru_cache(maxsize=8)
def _table(mean: Triple, std: Triple) -> NDArray[np.float32]:
    """(3, 256) float32: what each byte of each channel becomes, by the published order of operations."""
    bytes_ = np.arange(256, dtype=np.float32) / np.float32(255)
    return (bytes_ - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


def to_rgb(image: PIL.Image.Image | NDArray[np.uint8]) -> PIL.Image.Image:
    """The image in mode RGB.

    Raises:
        InputError: no image, no such array, or one without pixels.
    """
    if isinstance(image, np.ndarray):
        shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
        if image.dtype != np.uint8 or not shaped or 0 in image.shape:
            found = f"{image.dtype} {image.shape}"
            raise InputError(f"an image array must be uint8 (H, W, 3), (H, W, 4) or (H, W), not {found}")
        image = PIL.Image.fromarray(image)
    if not isinstance(image, PIL.Image.Image):
        raise InputError(f"{type(image).__name__} is neither a Pillow image nor an array")
    if 0 in image.size:
        raise InputError("the image has no pixels")
    return image if image.mode == "RGB" else image.convert("RGB")


def resize(image: PIL.Image.Image, config: PreprocessConfig) -> PIL.Image.Image:
    """The image made S x S as `resize_mode` says."""
    resample = RESAMPLING[config.interpolation]
    if config.resize_mode == "shortest":
        return resize_crop(image, config.size, resample)
    if config.resize_mode == "longest":
        return resize_pad(image, config.size, resample, config.fill_color)
    return resize_squash(image, config.size, resample)
