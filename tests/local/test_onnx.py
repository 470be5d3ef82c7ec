"""Exported graphs: the vectors of the towers at every length and batch size; their space; which engine runs what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jinaclip import Image, JinaClip
from jinaclip.backends.local.export import run as export_run
from jinaclip.backends.local.export.attention import turn
from jinaclip.backends.local.export.graphs import TextGraph, VisionGraph
from jinaclip.backends.local.onnx_folder import Manifest, read_manifest
from jinaclip.backends.local.onnx_runner import OnnxRunner, processor_flags
from jinaclip.backends.local.towers.runner import TorchRunner
from jinaclip.errors import ConfigError, JinaClipError, MissingDependencyError
from jinaclip.local import load_towers
from tests.exported import exported
from tests.local.goldens import GOLDEN, MODELS, RAW, UNIT, error, expected, ids, pixels, towers, unit
from tests.needs import long, skip_without

pytestmark = pytest.mark.slow  # an export takes many seconds

TEXTS = ["a red dress", "ein rotes Kleid", "x"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {kind: exported(kind, tmp_path_factory) for kind in ("v1", "v2", "v2-int8")}


@pytest.fixture(scope="session")
def runners(folders) -> dict[str, OnnxRunner]:
    return {kind: OnnxRunner(folder, read_manifest(folder)) for kind, folder in folders.items()}


def tokens_of(model: str, which: str) -> tuple[np.ndarray, np.ndarray]:
    tokens = ids(model, which).numpy()
    return tokens, np.ones_like(tokens)


def colour(*values: int) -> Image:
    return Image.from_array(np.full((70, 50, 3), values, np.uint8))


def open_export(folder: Path, **options) -> JinaClip:
    return JinaClip(str(folder), backend="local", cache=False, **options)


# -- the goldens


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("which", "abcd")
def test_texts(model, which, runners):
    found = runners[model[:2]].text(*tokens_of(model, which))
    assert error(found, expected(model)[f"text_{which}"]) < RAW
    assert error(unit(found), expected(model)[f"text_{which}_norm"]) < UNIT


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["image", "image_noise"])
def test_images(model, name, runners):
    found = runners[model[:2]].images(pixels(model, name.replace("image", "pixel_values")).numpy())
    assert error(found, expected(model)[name]) < RAW
    assert error(unit(found), expected(model)[f"{name}_norm"]) < UNIT


@pytest.mark.parametrize("model", MODELS)
def test_a_mask_only_takes_tokens_away(model, runners):
    tokens, mask = tokens_of(model, "a")
    mask[0, 10:] = 0
    runner = runners[model[:2]]
    assert error(runner.text(tokens, mask)[:1], runner.text(tokens[:1, :10], mask[:1, :10])) < RAW


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("length", [1, 2, 777, 2100, long(8192)])
def test_texts_of_any_length_give_what_the_towers_give(model, length, runners):
    """From 590 tokens on the queries of v1 come in several blocks."""
    loaded = towers(model)
    tokens = np.arange(length, dtype=np.int64)[None] * 7 % (loaded.vocab_size - 4) + 4
    mask = np.ones_like(tokens)
    assert error(runners[model[:2]].text(tokens, mask), TorchRunner(loaded).text(tokens, mask)) < RAW


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_pictures_gives_what_the_towers_give(model, count, runners):
    loaded = towers(model)
    size = loaded.image_size
    some = np.random.default_rng(count).standard_normal((count, 3, size, size)).astype(np.float32)
    assert error(runners[model[:2]].images(some), TorchRunner(loaded).images(some)) < RAW


# -- mistakes that a graph could hold: made on purpose, they leave the tolerance by far


@pytest.fixture(params=MODELS)
def graph_towers(request):
    return request.param, load_towers(GOLDEN / request.param, pack=False)


def text_error(model: str, graph: TextGraph) -> float:
    with torch.inference_mode():
        rows = [(which, graph(ids(model, which), torch.ones_like(ids(model, which)))) for which in "abcd"]
    return max(error(unit(found.numpy()), expected(model)[f"text_{which}_norm"]) for which, found in rows)


def image_error(model: str, graph: VisionGraph) -> float:
    with torch.inference_mode():
        return error(unit(graph(pixels(model)).numpy()), expected(model)["image_norm"])


def test_without_a_mistake_the_graphs_are_the_towers(graph_towers):
    model, loaded = graph_towers
    assert text_error(model, TextGraph(loaded)) < UNIT
    assert image_error(model, VisionGraph(loaded)) < UNIT


def test_padding_that_is_not_masked(graph_towers):
    model, loaded = graph_towers
    graph = TextGraph(loaded)
    graph.pad_id = loaded.vocab_size
    assert text_error(model, graph) > 1e-2


def test_alibi_left_out():
    loaded = load_towers(GOLDEN / "v1-tiny", pack=False)
    loaded.assembly.text.slopes.zero_()
    assert text_error("v1-tiny", TextGraph(loaded)) > 1e-2


def test_rotation_left_out(graph_towers, monkeypatch):
    model, loaded = graph_towers
    monkeypatch.setattr("jinaclip.backends.local.export.graphs.turn", lambda x, cos, sin, pairs: x)
    assert image_error(model, VisionGraph(loaded)) > 1e-3
    assert model == "v1-tiny" or text_error(model, TextGraph(loaded)) > 1e-2


def test_other_numbers_turned_together(graph_towers, monkeypatch):
    model, loaded = graph_towers
    monkeypatch.setattr(
        "jinaclip.backends.local.export.graphs.turn", lambda x, cos, sin, pairs: turn(x, cos, sin, 1 - pairs)
    )
    assert image_error(model, VisionGraph(loaded)) > 1e-3
    assert model == "v1-tiny" or text_error(model, TextGraph(loaded)) > 1e-2


def test_an_export_that_gives_other_vectors_is_refused(folders):
    manifest = read_manifest(folders["v2"])
    loaded = load_towers(GOLDEN / "v2-tiny", pack=False)
    loaded.assembly.text.embeddings.token_type_embeddings.weight.zero_()
    probes = export_run.ask_towers(loaded, [list(text) for text in manifest.answers.texts])
    with pytest.raises(JinaClipError, match="other vectors than the towers"):
        export_run.compare(OnnxRunner(folders["v2"], manifest), probes, "float32")


def test_what_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError), export_run.work_folder(tmp_path / "new") as partial:
        (partial / "half").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# -- one space, several engines


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_export_has_the_space_of_its_checkpoint_and_its_vectors(version, folders):
    checkpoint = folders[version].parent / "checkpoint"
    with open_export(folders[version]) as clip, open_export(checkpoint, device="cpu") as other:
        assert clip.space == other.space
        assert clip.fingerprint != other.fingerprint
        assert clip.spec.dimensions == other.spec.dimensions
        assert clip.logit_scale == pytest.approx(other.logit_scale)
        assert error(clip.embed_queries(TEXTS), other.embed_queries(TEXTS)) < UNIT
        colours = [colour(200, 0, 0), colour(0, 100, 0)]
        assert error(clip.embed_images(colours), other.embed_images(colours)) < UNIT


def test_int8_is_another_space_close_to_the_first(folders):
    with open_export(folders["v2-int8"]) as clip, open_export(folders["v2"]) as other:
        assert clip.space != other.space
        assert clip.fingerprint != other.fingerprint
        a, b = ([*c.embed_documents(TEXTS), *c.embed_images([colour(200, 0, 0)])] for c in (clip, other))
        assert min(float(x @ y) for x, y in zip(a, b, strict=True)) > 0.99
    sizes = [sum(path.stat().st_size for path in folders[kind].glob("*.data")) for kind in ("v2-int8", "v2")]
    assert sizes[0] < 0.45 * sizes[1]


def test_int8_gives_an_item_the_same_vector_alone_and_among_others(folders):
    with open_export(folders["v2-int8"]) as clip:
        texts = [*TEXTS, "a much longer text, which would widen the range of what is rounded " * 3]
        together = clip.embed_documents(texts)
        assert all(
            np.array_equal(clip.embed_documents([text])[0], row) for text, row in zip(texts, together, strict=True)
        )
        colours = [colour(255, 255, 255), colour(3, 9, 1)]
        together = clip.embed_images(colours)
        assert all(np.array_equal(clip.embed_image(one), row) for one, row in zip(colours, together, strict=True))


def test_an_exported_folder_may_be_moved_and_stays_the_same_space(folders, tmp_path):
    import shutil

    moved = shutil.copytree(folders["v2"], tmp_path / "elsewhere")
    assert open_export(moved).space == open_export(folders["v2"]).space


def test_a_manifest_is_read_as_it_was_written(folders, tmp_path):
    manifest = read_manifest(folders["v1"])
    manifest.write(tmp_path)
    again = read_manifest(tmp_path)
    assert isinstance(again, Manifest)
    assert again.files == manifest.files
    assert again.weights == manifest.weights
    assert np.array_equal(again.answers.image_vectors, manifest.answers.image_vectors)


# -- which engine, which options


def test_a_checkpoint_is_not_for_onnx_and_the_message_names_the_command(folders):
    checkpoint = folders["v2"].parent / "checkpoint"
    with pytest.raises(ConfigError, match=r"jinaclip export .*checkpoint --out DIR.*hub are not loaded"):
        open_export(checkpoint, engine="onnx")
    with pytest.raises(ConfigError, match="jinaclip export jina-clip-v2 --out"):
        JinaClip("jina-clip-v2", backend="local", engine="onnx")


def test_an_export_is_not_for_torch(folders):
    with pytest.raises(ConfigError, match="name the checkpoint"):
        open_export(folders["v2"], engine="torch")


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"dtype": "bfloat16"}], ids=str)
def test_options_of_the_other_engine_are_refused(options, folders):
    clip = open_export(folders["v2"], **options)
    with pytest.raises(ConfigError, match="not for an exported folder"):
        clip.embed_query("a")


@pytest.mark.parametrize("options", [{"engine": "onnx"}, {"device": "cpu", "dtype": "float32", "threads": 1}], ids=str)
def test_options_that_fit_are_taken(options, folders):
    with open_export(folders["v1"], **options) as clip:
        assert clip.embed_query("a").shape == (clip.dimensions,)


def test_an_exported_folder_needs_no_torch(folders):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from jinaclip import JinaClip, Image\n"
        "import numpy as np\n"
        f"clip = JinaClip({str(folders['v2'])!r}, backend='local', cache=False)\n"
        "assert clip.embed_documents(['a', 'b']).shape == (2, clip.dimensions)\n"
        "clip.embed_image(np.zeros((8, 8, 3), np.uint8)); print(clip.space, clip.self_test().ok)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [open_export(folders["v2"]).space, "True"]


def test_the_extra_that_an_export_needs_is_named(folders):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from jinaclip import JinaClip, MissingDependencyError\n"
        f"try: JinaClip({str(folders['v2'])!r}, backend='local')\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs onnxruntime" in done.stdout
    assert "jinaclip[onnx]" in done.stdout
    assert issubclass(MissingDependencyError, ImportError)


def test_a_server_of_an_export_computes_on_the_cpu(folders):
    skip_without("starlette")
    from jinaclip.server.engines import Engines

    engines = Engines({"model": str(folders["v2"]), "backend": "local"})
    engines.warm()
    assert engines.engine.devices == ["cpu"]
    engines.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_those_of_the_passes_alone(threads):
    before = torch.get_num_threads()
    runner = TorchRunner(towers("v2-tiny"), threads)
    with runner.limit():
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == before
    assert runner.text(*tokens_of("v2-tiny", "a")).shape[1] == runner.dimensions


def test_models_with_other_threads_give_the_same_vectors(folders):
    rows = []
    for threads in (1, 2):
        with open_export(folders["v2"], threads=threads) as clip:
            rows.append(clip.embed_documents(TEXTS))
    assert error(*rows) < UNIT


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu avx2 avx512_vnni\n",
            "avx512_vnni",
        ),
        ("Features\t: fp asimd asimddp\n", "asimddp"),
        ("flags : fpu avx2\n", "avx2"),
    ],
)
def test_the_processor_is_asked_for_int8(text, flags, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert flags in processor_flags(tmp_path / "cpuinfo")
    assert processor_flags(tmp_path / "no such file") == set()


def test_what_is_exported_must_be_a_checkpoint_and_go_to_a_new_folder(folders, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="holds something already"):
        export_run.export(str(folders["v2"].parent / "checkpoint"), tmp_path)
    with pytest.raises(ConfigError, match="is an export already"):
        export_run.export(str(folders["v2"]), tmp_path / "new")
