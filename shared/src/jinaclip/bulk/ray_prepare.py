"""Ray prepares: tasks on any CPU open images and fit them; actors get the pixels that the model sees, lossless."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip import images
from jinaclip.bulk.pipeline import describe
from jinaclip.config import EmbedderConfig, ImagePolicy, ImageResize
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Pair, as_image

if TYPE_CHECKING:
    import PIL.Image
    import pyarrow as pa

AT_ONCE = 64
"""Images that are in memory before Ray takes them."""
Resize = Callable[["PIL.Image.Image"], "PIL.Image.Image"]


@dataclass(frozen=True, slots=True)
class ImagePreparer:
    """What becomes of images before they are handed to an actor. It can be pickled.

    Attributes:
        policy: which images are accepted.
        mode: `image_resize`.
        side: of the square that the model sees.
        scaled: how a JPEG may be shrunk while it is decoded, by `image_resize`'s names; None is not at all.
        resize: what the checkpoint does after that; None on the API.
        forward: whether addresses are handed on.
    """

    policy: ImagePolicy
    mode: ImageResize
    side: int
    scaled: ImageResize | None
    resize: Resize | None
    forward: bool

    @classmethod
    def of(cls, config: EmbedderConfig, side: int) -> ImagePreparer:
        """That of the options of a JinaClip, whose model sees `side` x `side` pixels.

        Raises:
            CheckpointError: the settings of the checkpoint cannot be read.
        """
        mode, resize, scaled = config.image_resize, None, config.image_resize
        if config.backend == "local":
            resize, own = _read_resize(config)
            scaled = mode if mode in ("pad", "squash") else own
        fast = scaled if config.image_decode == "fast" else None
        return cls(config.image_policy, mode, side, fast, resize, config.url_mode == "forward")

    def apply(self, content: Any) -> Any:
        """A text as it is, an image as fitted pixels, a pair with such an image. Blocks.

        Raises:
            InputError: the image cannot be opened, or the policy refuses it.
        """
        if isinstance(content, Pair):
            return Pair(content.text, self._fit(content.image), content.weight) if content.weight < 1 else content
        return self._fit(content) if isinstance(content, Image) else content

    def _fit(self, value: Any) -> Image:
        image = as_image(value, self.policy.max_bytes)
        if image.kind == "url" and self.forward:
            return image
        is_sent_as_it_is = self.resize is None and self.mode == "none" and image.kind != "drawable"
        if is_sent_as_it_is:  # if all decoders see it alike
            return images.download(image, self.policy)
        fit = self._fit_page if images.is_page(image) else self._fit_image
        target = None if self.scaled is None else partial(images.scaled_size, mode=self.scaled, side=self.side)
        tile = images.open_tile(image, self.policy, fit, target=target)
        return Image.from_array(np.asarray(tile.content))

    def _fit_image(self, pixels: PIL.Image.Image) -> PIL.Image.Image:
        if self.resize is None:
            return images.fit(pixels, self.mode, self.side)
        return self.resize(images.fit(pixels, self.mode, self.side) if self.mode in ("pad", "squash") else pixels)

    def _fit_page(self, pixels: PIL.Image.Image) -> PIL.Image.Image:
        page = images.fit_page(pixels, self.mode, self.side)
        return page if self.resize is None else self.resize(page)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """The same items, their images prepared, a few at a time. Runs in a task of Ray's."""
        if {*table["kind"].unique().to_pylist()} <= {"text"}:
            yield table
            return
        for start in range(0, len(table), AT_ONCE):
            yield self._prepare(table.slice(start, AT_ONCE))

    def _prepare(self, table: pa.Table) -> pa.Table:
        """Items with their images prepared; one that cannot be used gets an error."""
        import pyarrow as pa

        contents, errors = list[bytes](), table["error"].to_pylist()
        for place, content in enumerate(table["content"].to_pylist()):
            prepared: Any = None
            try:
                prepared = None if errors[place] else self.apply(pickle.loads(content))  # noqa: S301  a task of ours made it
            except InputError as error:
                errors[place] = describe(error)
            contents.append(pickle.dumps(prepared, 5))
        table = table.set_column(table.schema.get_field_index("error"), "error", pa.array(errors, pa.string()))
        index = table.schema.get_field_index("content")
        return table.set_column(index, "content", pa.array(contents, pa.large_binary()))


def _read_resize(config: EmbedderConfig) -> tuple[Resize, ImageResize]:
    """How the checkpoint itself resizes, and what `image_resize` calls that."""
    from jinaclip.backends.local.checkpoint_config import read_preprocessing, read_spec
    from jinaclip.backends.local.preprocess import MODES, resize
    from jinaclip.backends.local.source import Source

    source = Source(config.model, config.revision)
    settings = read_preprocessing(source, read_spec(source))
    return partial(resize, config=settings), MODES[settings.resize_mode]
