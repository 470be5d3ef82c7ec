"""Zero-shot classification of the catalogue's pictures."""

import numpy as np

from examples.catalogue.products import COLOURS, GARMENTS
from jinaclip.retrieval import classify

SOME = 60


def test_garments_are_told_apart_without_training(model, table, items):
    pictures = [table / item["image"] for item in items[:SOME]]
    found = classify(model, pictures, list(GARMENTS), template="{}")
    right = np.array(found.best) == [item["categories"]["broad"] for item in items[:SOME]]
    assert right.mean() > 0.85
    sure = found.probabilities.max(axis=1)
    assert sure[right].mean() > 2 / len(GARMENTS)  # far from throwing dice


def test_texts_are_told_apart_too(model, items):
    found = classify(model, [item["text"] for item in items[:SOME]], list(GARMENTS), template="{}")
    right = np.array(found.best) == [item["categories"]["broad"] for item in items[:SOME]]
    assert right.mean() > 0.6


def test_colours_are_told_apart(model, table, items):
    plain = [item for item in items if item["attributes"]["pattern"] == "plain"]
    found = classify(model, [table / item["image"] for item in plain], COLOURS, template="{} garment")
    assert np.mean(np.array(found.best) == [item["attributes"]["colour"] for item in plain]) > 0.6
