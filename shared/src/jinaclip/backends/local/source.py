"""Where the files of a model are: a folder, or a repository of the hub, pinned."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from jinaclip.errors import CheckpointError
from jinaclip.specs import SPECS

FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")
"""All that is ever read; no code, no pickles."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """A model by name: a local folder, a published model, or any hub repository of the same architecture."""

    model: str
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The folder, where the name is one."""
        try:
            path = Path(self.model).expanduser()
            return path if path.is_dir() else None
        except (OSError, RuntimeError, ValueError):  # a home that is not there, a name too long, a NUL
            return None

    def file(self, name: str) -> Path:
        """One of the files, downloaded if need be.

        Raises:
            CheckpointError: it is not there, or cannot be had.
        """
        folder = self.folder
        if folder is not None:
            return folder / name
        if not HUB_ID.fullmatch(self.hub_id):
            raise CheckpointError(f"there is no folder {self.model!r}, and it is no hub id (owner/name)")
        return _download(self.hub_id, name, self.pinned_revision)

    def fetch(self) -> Path:
        """The folder that holds all the files; what is downloaded of a published model must have its SHA-256.

        Raises:
            CheckpointError: a file is not there, or is not the published one.
        """
        folder = self.folder
        if folder is not None:
            return folder
        paths = [self.file(name) for name in FILES]
        spec = SPECS.get(self.model.removeprefix("jinaai/"))
        if spec is not None and self.revision in (None, spec.revision):
            verify(paths[-1], spec.sha256)
        return paths[0].parent

    @property
    def name(self) -> str:
        """Short name for people and fingerprints."""
        folder = self.folder
        return folder.resolve().name if folder is not None else self.model.rpartition("/")[2]

    @property
    def hub_id(self) -> str:
        """Owner and name at the hub."""
        spec = SPECS.get(self.model)
        return spec.hub_id if spec is not None else self.model

    @property
    def pinned_revision(self) -> str | None:
        """The revision asked for, else the one a published model is pinned to."""
        spec = SPECS.get(self.model.removeprefix("jinaai/"))
        return self.revision or (spec.revision if spec is not None else None)


def verify(path: Path, sha256: str) -> None:
    """Compares a file with what was published.

    Raises:
        CheckpointError: it is another file.
    """
    found = file_digest(path)
    if found != sha256:
        raise CheckpointError(
            f"{path} is not the published file (SHA-256 {found[:12]}..., expected {sha256[:12]}...); delete it and "
            "download it again, or name the folder to use it as it is"
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered for as long as its size and time of change stay the same."""
    try:
        facts = path.stat()
        return _digest(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); fetch the checkpoint again") from None


@functools.lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(repo: str, name: str, revision: str | None) -> Path:
    """A file of a hub repository, cached; the library draws a tqdm bar and heeds HF_HUB_OFFLINE."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:  # noqa: BLE001  httpx, OS and hub errors alike
        raise CheckpointError(
            f"{name} of {repo!r} cannot be had from the hub ({type(error).__name__}: {str(error)[:200]}); "
            "name an existing folder or hub id, check the network, or unset HF_HUB_OFFLINE"
        ) from None
