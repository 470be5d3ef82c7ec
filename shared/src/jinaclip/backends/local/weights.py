"""Which weights a source leads to, told without loading them and without a network."""

from __future__ import annotations

from jinaclip.backends.local.checkpoint_config import read_json, read_spec
from jinaclip.backends.local.onnx_folder import check_files, read_manifest
from jinaclip.backends.local.preprocess import PreprocessConfig
from jinaclip.backends.local.source import COMMIT, FILES, MANIFEST, FileState, Source
from jinaclip.errors import CheckpointError
from jinaclip.space import Weights, published_weights
from jinaclip.specs import SPECS, ModelSpec


def find_weights(source: Source, loaded: tuple[FileState, ...] = ()) -> Weights:
    """The weights of a model: a repository by its commit, a folder by the content of its files.

    Args:
        source: of the model.
        loaded: the files as they were when they were loaded; none if they were not.

    Raises:
        CheckpointError: a file of a folder cannot be read, or was changed after it had been loaded; or nobody knows yet
            which commit a branch stands for.
    """
    if source.folder is None:
        commit = loaded[0].path.parent.name if loaded else source.commit
        return _of_commit(source, commit)
    files = loaded or source.files()
    if files[0].path.name == MANIFEST:
        manifest = read_manifest(files[0].path.parent)
        check_files(files, manifest)
        return manifest.weights
    digests = {name: file.digest() for name, file in zip(FILES, files, strict=True)}
    published = next((spec for spec in SPECS.values() if spec.sha256 == digests["model.safetensors"]), None)
    if published is not None and _is_used_as_published(source, published):
        return published_weights(published)
    return Weights("checkpoint", {"files": digests})  # not the folder's name: where it lies changes no vector


def _of_commit(source: Source, commit: str) -> Weights:
    if not COMMIT.fullmatch(commit):
        raise CheckpointError(f"the folder {source.model!r} is gone, and with it what tells its weights from others")
    published = next((spec for spec in SPECS.values() if spec.hub_id == source.hub_id), None)
    if published is not None and commit == published.revision:
        return published_weights(published)
    return Weights(source.name, {"repository": source.hub_id, "commit": commit})


def _is_used_as_published(source: Source, spec: ModelSpec) -> bool:
    """Whether images and queries of a folder reach the published weights in the published way."""
    try:
        preprocessing = PreprocessConfig.from_config(read_json(source.file("preprocessor_config.json")))
        own = read_spec(source)
    except CheckpointError:
        return False
    same = (own.dimensions, own.image_size, own.query_instruction) == (
        spec.dimensions,
        spec.image_size,
        spec.query_instruction,
    )
    return same and preprocessing == PreprocessConfig.from_config(spec)
