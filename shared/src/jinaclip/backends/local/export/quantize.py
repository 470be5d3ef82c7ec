"""Weights of a graph in eight bits: matrices by output channel, the table of words by row.

Activations are rounded to eight bits in each pass, by their own range in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from jinaclip.backends.local.export.graphs import quiet
from jinaclip.vectors import to_signed

ROWS_AT_ONCE = 2**14
"""Rows of the table that are rounded together, which bounds the memory for it."""


def quantize(path: Path) -> None:
    """Replaces a graph, and the file of its weights, by the same in int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = path.with_name(f"int8-{path.name}")
    with quiet():
        quantize_dynamic(
            path,
            made,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
            use_external_data_format=True,
            extra_options={"WeightSymmetric": False},
        )
    model = onnx.load(made)
    for left in (path, path.with_name(f"{path.name}.data"), made, made.with_name(f"{made.name}.data")):
        left.unlink()
    sign_weights(model.graph)
    quantize_table(model.graph)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


def sign_weights(graph: onnx.GraphProto) -> None:
    """Takes 128 from the bytes of matrices and from their zeros, which changes no number that they stand for.

    VNNI multiplies unsigned bytes, the activations, by signed ones. Unsigned weights go without it, at half the speed.
    """
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    names = {name for node in products for name in (node.input[1], node.input[3])}
    for tensor in graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(numpy_helper.from_array(to_signed(numpy_helper.to_array(tensor)), tensor.name))


def quantize_table(graph: onnx.GraphProto) -> None:
    """Makes the rows that ids look up int8, each with a scale of its own; nothing without such a table."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    for place, node in enumerate(graph.node):
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is not None and len(table.dims) == 2:
            rows, scales = round_rows(numpy_helper.to_array(table))
            graph.initializer.remove(table)
            graph.initializer.extend(
                [numpy_helper.from_array(rows, "word_rows"), numpy_helper.from_array(scales, "word_scales")]
            )
            del graph.node[place]
            for new in reversed(look_up(node.input[1], node.output[0])):
                graph.node.insert(place, new)
            return


def look_up(ids: str, found: str) -> list[onnx.NodeProto]:
    """Rows by id, as float32 again."""
    return [
        helper.make_node("Gather", ["word_rows", ids], ["word_found"], axis=0),
        helper.make_node("Cast", ["word_found"], ["word_whole"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", ["word_scales", ids], ["word_scale"], axis=0),
        helper.make_node("Mul", ["word_whole", "word_scale"], [found]),
    ]


def round_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(rows, W) as int8, and (rows, 1) scales to multiply them with."""
    rows, scales = np.empty(table.shape, np.int8), np.empty((len(table), 1), np.float32)
    for start in range(0, len(table), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        scales[some] = np.maximum(np.abs(table[some]).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
        rows[some] = np.rint(table[some] / scales[some])
    return rows, scales
