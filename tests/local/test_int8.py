"""int8 graphs: signed weights, which VNNI multiplies, and sums that are whole on every processor."""

# ruff: noqa: E402 - what is imported below needs onnx

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

for module in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(module, reason=f"needs {module}, which is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from jinaclip.backends.local.export.quantize import quantize, sign_weights
from jinaclip.backends.local.onnx_folder import OUTPUT
from jinaclip.backends.local.onnx_runner import open_graph, run

WIDTH, OUT = 64, 48


def product(weights: np.ndarray, nodes: list[onnx.NodeProto], more: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A graph that multiplies x (n, WIDTH) with the weights."""
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", OUT])],
        [numpy_helper.from_array(array, name) for name, array in {"weights": weights, **more}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A product in int8 whose weights are as large as bytes can be, three in four of them positive."""
    signs = np.where(np.arange(WIDTH) % 4, 1, -1).astype(np.float32)
    model = product(
        np.tile(signs[:, None], (1, OUT)), [helper.make_node("MatMul", ["x", "weights"], [OUTPUT], "product")], {}
    )
    path = tmp_path / "product.onnx"
    onnx.save(model, path, save_as_external_data=True, location="product.onnx.data", size_threshold=0)
    quantize(path)
    return path


def test_weights_are_signed(written: Path) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(written).graph.initializer}
    assert kinds["weights_quantized"] == kinds["weights_zero_point"] == TensorProto.INT8


def test_sums_of_the_largest_products_do_not_overflow(written: Path) -> None:
    """A claim on processors without VNNI: there two products of 255 and 127 are added in 16 bits."""
    np.testing.assert_allclose(compute(written, np.ones((3, WIDTH), np.float32)), WIDTH / 2, rtol=0.01)


def test_signed_weights_stand_for_the_numbers_of_the_unsigned_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    zeros, scales = rng.integers(0, 256, OUT, np.uint8), rng.random(OUT, np.float32)
    model = product(rng.integers(0, 256, (WIDTH, OUT), np.uint8), integer_product(), {"zeros": zeros, "scales": scales})
    onnx.save(model, tmp_path / "unsigned.onnx")
    sign_weights(model.graph)
    onnx.save(model, tmp_path / "signed.onnx")
    x = rng.standard_normal((5, WIDTH), np.float32)
    assert np.array_equal(compute(tmp_path / "signed.onnx", x), compute(tmp_path / "unsigned.onnx", x))


def integer_product() -> list[onnx.NodeProto]:
    return [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["bytes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["bytes", "weights", "zero", "zeros"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "scales"], ["both"]),
        helper.make_node("Mul", ["whole", "both"], [OUTPUT]),
    ]


def compute(path: Path, x: np.ndarray) -> np.ndarray:
    return run(open_graph(path, {"x": ("float", (None, WIDTH))}, 1), {"x": x})
