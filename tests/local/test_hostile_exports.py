"""Exported folders that are damaged, or made to do harm: refused in words, before anything is embedded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jinaclip import JinaClip
from jinaclip.backends.local.onnx_folder import read_manifest
from jinaclip.backends.local.onnx_graph import check_locations
from jinaclip.backends.local.source import EXPORT_FILES, MANIFEST, FileState
from jinaclip.errors import CheckpointError, ConfigError
from tests.exported import copied, exported

pytestmark = pytest.mark.slow  # an export takes many seconds


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    return exported("v2", tmp_path_factory)


@pytest.fixture
def own(sound: Path, tmp_path: Path) -> Path:
    """An export of this test's own, to be changed."""
    return copied(sound, tmp_path / "export")


def refusal(folder: Path) -> str:
    """What is said when somebody embeds with the folder."""
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        JinaClip(str(folder), backend="local", cache=False).embed_query("a")
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def vouch(folder: Path) -> None:
    """Writes the manifest anew, as whoever changed the other files would."""
    manifest = read_manifest(folder)
    replace(manifest, files={name: FileState.now(folder / name).digest() for name in manifest.files}).write(folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", [name for name in EXPORT_FILES if name != MANIFEST])
def test_a_missing_file_is_named(name: str, own: Path) -> None:
    (own / name).unlink()
    assert name in refusal(own)


@pytest.mark.parametrize("name", [name for name in EXPORT_FILES if name != MANIFEST])
def test_a_changed_file_is_named(name: str, own: Path) -> None:
    with (own / name).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 32]))
    message = refusal(own)
    assert name in message or "JSON" in message


def test_a_changed_file_gives_no_name_of_a_space_either(own: Path) -> None:
    with (own / "text.onnx.data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match="not the file that was exported"):
        _ = JinaClip(str(own), backend="local").space


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "of a later version": (lambda m: m.update(format=2), "update jinaclip"),
    "without a format": (lambda m: m.pop("format"), "format"),
    "of another precision": (lambda m: m.update(precision="int4"), "precision"),
    "without files": (lambda m: m.pop("files"), "'files' is missing"),
    "with a file outside": (lambda m: m["files"].update({"../../etc/passwd": "0"}), "files are not"),
    "without weights": (lambda m: m.pop("source"), "'source' is missing"),
    "with other weights": (lambda m: m.update(source=[1]), "source"),
    "with a width of text": (lambda m: m.update(dimensions="64"), "dimensions"),
    "with a width beyond all": (lambda m: m.update(dimensions=10**9), "dimensions"),
    "with a side beyond all": (lambda m: m.update(image_size=10**6), "image_size"),
    "with padding beyond the vocabulary": (lambda m: m.update(pad_id=10**6), "pad_id"),
    "without answers": (lambda m: m.pop("answers"), "'answers' is missing"),
    "with an answer of another length": (lambda m: m["answers"].update(text_vectors="AAAA"), "no manifest"),
    "with an answer that is no base64": (lambda m: m["answers"].update(text_vectors="?"), "no manifest"),
    "with ids beyond the vocabulary": (lambda m: m["answers"].update(texts=[[1], [10**6]]), "ids of two texts"),
    "with texts that are none": (lambda m: m["answers"].update(texts=3), "no manifest"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(kind: str, own: Path) -> None:
    change, words = MANIFESTS[kind]
    edit(own, change)
    assert words in refusal(own)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"format": 1, "format": 1}', b"{" * 10**5])
def test_a_manifest_that_is_no_json_is_refused(content: bytes, own: Path) -> None:
    (own / MANIFEST).write_bytes(content)
    assert MANIFEST in refusal(own)


# -- folders whose manifest fits what was changed


def test_graphs_in_each_other_s_place_are_refused(own: Path) -> None:
    (own / "text.onnx").rename(own / "x")
    (own / "vision.onnx").rename(own / "text.onnx")
    (own / "x").rename(own / "vision.onnx")
    vouch(own)
    assert "takes weights from" in refusal(own)


def test_a_graph_with_other_inputs_is_refused(own: Path) -> None:
    import onnx

    model = onnx.load(own / "text.onnx")
    for node in model.graph.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]
    model.graph.input[0].name = "ids"
    save(model, own / "text.onnx")
    message = refusal(own)
    assert "takes attention_mask, ids" in message
    assert "export the checkpoint again" in message


def save(model: Any, path: Path) -> None:
    """Writes a graph in place of an exported one, and a manifest that fits it."""
    import onnx

    path.unlink()
    path.with_name(f"{path.name}.data").unlink()
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    vouch(path.parent)


def test_a_graph_that_gives_one_vector_for_everything_is_refused(own: Path) -> None:
    import onnx

    model = onnx.load(own / "vision.onnx")
    table = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("patch_embed.proj.weight"))
    table.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(table.dims), np.float32), table.name))
    save(model, own / "vision.onnx")
    assert "two different pictures do not give two different" in refusal(own)


def test_other_weights_are_refused(own: Path) -> None:
    path = own / "text.onnx.data"
    values = np.frombuffer(path.read_bytes(), np.float32).copy()
    values[:2000] *= 1.5
    path.write_bytes(values.tobytes())
    vouch(own)
    assert "known texts give other vectors" in refusal(own)


@pytest.mark.parametrize("place", [b"../../etc/pwd", b"/etc/hostname", b"xext.onnx.dat"])
def test_weights_elsewhere_are_refused_before_they_are_opened(place: bytes, own: Path, tmp_path: Path) -> None:
    graph = (own / "text.onnx").read_bytes()
    assert len(place) == len(b"text.onnx.data") - 1
    (own / "text.onnx").write_bytes(graph.replace(b"text.onnx.data", place + b"x"))
    vouch(own)
    message = refusal(own)
    assert "takes weights from" in message
    assert place.decode() in message


def test_links_to_the_files_will_do(own: Path, tmp_path: Path) -> None:
    """As in a cache that keeps every file once."""
    (tmp_path / "linked").mkdir()
    for name in EXPORT_FILES:
        (tmp_path / "linked" / name).symlink_to(own / name)
    JinaClip(str(tmp_path / "linked"), backend="local", cache=False).embed_query("a")


@pytest.mark.parametrize("content", [b"", b"\x08", b"no graph at all", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 40])
def test_what_is_no_graph_is_refused(content: bytes, own: Path) -> None:
    (own / "vision.onnx").write_bytes(content)
    vouch(own)
    assert "vision.onnx" in refusal(own)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_bytes_make_the_reader_of_graphs_fail(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut, changed or made up: it is read, or refused in words."""
    graph = bytearray((sound / "vision.onnx").read_bytes()[:4000])
    for _ in range(data.draw(st.integers(0, 5))):
        graph[data.draw(st.integers(0, len(graph) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "vision.onnx"
    path.write_bytes(data.draw(st.sampled_from([bytes(graph), data.draw(st.binary(max_size=60))])))
    try:
        check_locations(path)
    except CheckpointError as error:
        assert "vision.onnx" in str(error)
