"""The table of precisions in an evaluation: its figures are those of searching by hand, the curves are drawn of it."""

import numpy as np
import pytest
from PIL import Image

from jinaclip import truncate
from jinaclip.evaluation import Score, Table, evaluate
from jinaclip.evaluation.curves import draw_curves
from jinaclip.evaluation.quantized import TEXTS, by_width, choose_texts
from jinaclip.retrieval import calibration_ranges, dequantize, quantize

PRECISIONS = ["float32", "int8", "binary", "binary, rescored", "binary, rescored by float32"]


@pytest.fixture(scope="module")
def small(evaluation):
    return evaluation.tables["quantization"]


def mean(table, row, column):
    return table.rows[row][column].mean


@pytest.mark.slow
def test_it_has_every_precision_at_every_width(model, small):
    assert [*small.rows] == [f"{width} {name}" for width in model.spec.matryoshka for name in PRECISIONS]
    assert small.columns == ["exact top 10", "R@10 fine", "nDCG@10 fine", "text-image R@5"]


@pytest.mark.slow
def test_full_width_and_float32_find_all_of_themselves(model, small):
    assert str(small.rows[f"{model.dimensions} float32"]["exact top 10"]) == "1.000 (1.000 to 1.000)"


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 64, 128])
def test_a_byte_a_number_costs_next_to_nothing_and_bits_want_full_vectors(small, width):
    """What docs/evaluation.md says of the catalogue."""
    found = {name: mean(small, f"{width} {name}", "exact top 10") for name in PRECISIONS}
    assert abs(found["int8"] - found["float32"]) < 0.02
    assert found["binary"] + 0.03 < found["binary, rescored"] < found["binary, rescored by float32"] - 0.03
    assert found["binary, rescored by float32"] > found["float32"] - 0.05
    for column in ("R@10 fine", "nDCG@10 fine", "text-image R@5"):
        assert abs(mean(small, f"{width} int8", column) - mean(small, f"{width} float32", column)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 128])
def test_text_image_recall_is_what_counting_by_hand_gives(texts, pictures, small, width):
    texts, pictures = truncate(texts, width), truncate(pictures, width)
    ranges = calibration_ranges(pictures)  # of the documents
    kept = {
        "float32": pictures,
        "int8": dequantize(quantize(pictures, "int8", ranges), "int8", ranges),
        "binary": dequantize(quantize(pictures, "binary"), "binary"),
    }
    for name, documents in kept.items():
        queries = np.sign(texts) if name == "binary" else texts
        cosines = (queries @ documents.T).round(5)
        own = np.diag(cosines)[:, None]
        ranks = (cosines > own).sum(1) + np.tril(cosines == own, -1).sum(1)  # the first of equals goes first
        assert mean(small, f"{width} {name}", "text-image R@5") == pytest.approx(np.mean(ranks < 5), abs=0.005)


def test_widths_without_whole_bytes_have_no_bits(model):
    items = [
        {"id": i, "text": f"number {i}", "image": Image.new("RGB", (8, 8), (i, 0, 0)), "categories": {"fine": "x"}}
        for i in range(3)
    ]
    found = evaluate(model, items, [{"text": "x", "categories": {"fine": "x"}}], widths=[3], resamples=20)
    table = found.tables["quantization"]
    assert [*table.rows][:3] == ["3 float32", "3 int8", "128 float32"]
    assert table.columns == ["exact top 3", "R@3 fine", "nDCG@3 fine", "text-image R@3"]
    assert "nan" not in table.markdown() + table.csv()


@pytest.mark.slow
def test_the_curves_are_the_widths_of_each_precision(model, small):
    curves = by_width(small)
    assert [int(width) for width in curves.rows] == sorted(model.spec.matryoshka)
    assert curves.columns == PRECISIONS
    assert curves.rows["32"]["int8"] == small.rows["32 int8"]["exact top 10"]


@pytest.mark.slow
def test_a_curve_may_lack_a_width(tmp_path):
    score = Score(0.5, 0.4, 0.6, 3)
    table = Table("title", "note", "width", {"3": {"int8": score}, "8": {"int8": score, "binary": score}})
    with Image.open(draw_curves(table, tmp_path / "curves.png", "share")) as curve:
        assert curve.format == "PNG"


@pytest.mark.parametrize("count", [1, 2, TEXTS, TEXTS + 1, 10 * TEXTS])
def test_of_many_items_a_part_is_looked_for_from_first_to_last(count):
    chosen = choose_texts(count)
    assert len({*chosen}) == len(chosen) == min(count, TEXTS)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
