"""Where the files of a model are: a folder, or a repository of the hub, pinned."""

from __future__ import annotations

import hashlib
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from jinaclip.errors import CheckpointError
from jinaclip.specs import SPECS

FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors")
"""All that is ever read of a checkpoint; no code, no pickles."""
MANIFEST = "jinaclip_export.json"
"""What tells a folder made by `jinaclip export` from a checkpoint."""
COPIED = FILES[:3]
"""Files that an export takes over from its checkpoint as they are."""
EXPORT_FILES = (MANIFEST, *COPIED, "text.onnx", "text.onnx.data", "vision.onnx", "vision.onnx.data")
"""All that is ever read of an exported folder."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SETTLED_NS = 100_000_000
"""A file that was changed a shorter time ago may change again without another time: file systems count in steps."""
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

    @property
    def is_export(self) -> bool:
        """Whether the name is that of a folder made by `jinaclip export`."""
        folder = self.folder
        return folder is not None and (folder / MANIFEST).is_file()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files that are read."""
        return EXPORT_FILES if self.is_export else FILES

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

    def files(self) -> tuple[FileState, ...]:
        """The files as they are now, in the order of `names`; fetched if need be.

        Raises:
            CheckpointError: one cannot be had, or is not the published one.
        """
        folder = self.fetch()
        return tuple(FileState.now(folder / name) for name in self.names)

    @property
    def name(self) -> str:
        """Short name for people."""
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

    @property
    def commit(self) -> str:
        """The commit of a repository at the hub, without asking there.

        Raises:
            CheckpointError: a branch or tag is asked for, and nothing of it was downloaded yet.
        """
        revision = self.pinned_revision or "main"
        return revision if COMMIT.fullmatch(revision) else _find_commit(self.hub_id, revision)


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was at one moment. A file that is in the same state has the same content.

    Attributes:
        path: of the file.
        facts: device, inode, size in bytes, and in ns the times of the last change of content and of the file system's
            record of it; none if there is no such file. The last tells a change even where the other was set back.
    """

    path: Path
    facts: tuple[int, ...]

    @classmethod
    def now(cls, path: Path) -> FileState:
        """The present state of a file, links followed."""
        try:
            found = path.stat()
        except OSError:
            return cls(path, ())
        return cls(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))

    @property
    def is_past(self) -> bool:
        """Whether the file was changed since."""
        return FileState.now(self.path) != self

    def digest(self) -> str:
        """SHA-256 of the file in this state, in hexadecimal digits; read once.

        Raises:
            CheckpointError: it cannot be read, or was changed since.
        """
        known = _digests.get(self)
        if known is None:
            known = _read_digest(self.path)
            if self.is_past:
                raise CheckpointError(
                    f"{self.path} was changed after it had been loaded; close() this JinaClip, so that it loads the "
                    "file as it is now"
                )
            if time.time_ns() - max(self.facts[-2:]) > SETTLED_NS:
                _digests[self] = known
        return known


_digests: dict[FileState, str] = {}


def verify(path: Path, sha256: str) -> None:
    """Compares a file with what was published.

    Raises:
        CheckpointError: it is another file.
    """
    found = FileState.now(path).digest()
    if found != sha256:
        raise CheckpointError(
            f"{path} is not the published file (SHA-256 {found[:12]}..., expected {sha256[:12]}...); delete it and "
            "download it again, or name the folder to use it as it is"
        )


def _read_digest(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block
            raise CheckpointError(f"{path} is no regular file; fetch the checkpoint again")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); fetch the checkpoint again") from None


def _find_commit(repo: str, revision: str) -> str:
    """The commit that a branch or tag stood for when its config.json was downloaded."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(repo, "config.json", revision=revision)
    if not isinstance(found, str):
        raise CheckpointError(
            f"nobody can tell yet which commit the revision {revision!r} of {repo!r} is; load() it first, or name the "
            "commit as revision"
        )
    return Path(found).parent.name  # snapshots/<commit>/config.json


def _download(repo: str, name: str, revision: str | None) -> Path:
    """A file of a hub repository, cached; the library draws a tqdm bar and heeds HF_HUB_OFFLINE."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:  # noqa: BLE001  httpx, OS and hub errors alike; in a thread of ours, so none of a host's
        raise CheckpointError(
            f"{name} of {repo!r}{at(revision)} cannot be had from the hub ({type(error).__name__}: "
            f"{str(error)[:200]}); fetch it where there is a network with `{download_command(repo, revision)}`, "
            "name an existing folder or hub id, check the network, or unset HF_HUB_OFFLINE"
        ) from None


def at(revision: str | None) -> str:
    """Which revision is wanted, for messages; a cache that was filled from another one does not hold it."""
    return f" at revision {revision}" if revision else ""


def download_command(repo: str, revision: str | None) -> str:
    """What fills the cache with the files that are read."""
    return f"hf download {repo} {' '.join(FILES)}" + (f" --revision {revision}" if revision else "")
