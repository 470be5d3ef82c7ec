"""How far two sets of vectors of the same inputs agree. Arrays are (n, d); row i of both is of one input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jinaclip.vectors import Vectors

AT = 10
"""Neighbours that are looked at."""
ENOUGH = 2 * AT
"""Candidates without which these neighbours are not told: even of random ones, half would be kept."""
TIE = 1e-3
"""A neighbour whose score is that close to the tenth is as good as the tenth: near duplicates may change places."""
SHARES = (0.0, 0.01, 0.1, 0.5)
"""Of the quantiles: the least, two between, the median."""
ROWS = 256
"""Inputs whose scores are in memory at once."""
Numbers = NDArray[np.float64]
Places = NDArray[np.intp]


class Kept(NamedTuple):
    """Share of the ten nearest neighbours by A that are among those found otherwise, or None of too few candidates.

    Attributes:
        apart: found by B among vectors of B.
        across: found by B among vectors of A.
    """

    apart: float | None = None
    across: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the vectors of inputs of one kind agree.

    Attributes:
        kind: "texts", "queries" or "images".
        count: inputs of which both sides gave a vector.
        cosines: of the two vectors of each input, float64 (count,).
        names: of the inputs.
        norms: of the vectors of either side, float64 (count,) each.
        kept: neighbours among the texts for texts and queries, among the images for images.
        kept_images: neighbours of a query among the images; of no others.
    """

    kind: str
    count: int
    cosines: Numbers
    names: Sequence[str]
    norms: tuple[Numbers, Numbers]
    kept: Kept
    kept_images: Kept

    @property
    def quantiles(self) -> Sequence[float]:
        """The least cosine, those of 1% and 10%, the median."""
        return [float(value) for value in np.quantile(self.cosines, SHARES)]

    @property
    def stretch(self) -> float:
        """The most by which the norm of a vector differs between the sides, relative to the larger."""
        ours, theirs = self.norms
        return float(np.max(np.abs(ours - theirs) / np.maximum(np.maximum(ours, theirs), np.finfo(float).tiny)))

    def worst(self, below: float) -> list[tuple[str, float]]:
        """Names and cosines of the inputs under a bound, the lowest first."""
        order = np.argsort(self.cosines, kind="stable")
        return [(self.names[i], float(self.cosines[i])) for i in order if self.cosines[i] < below]


def unit(vectors: Vectors) -> Numbers:
    """The vectors at length 1 in float64; zeros stay zeros."""
    rows = vectors.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)


def norm(vectors: Vectors) -> Numbers:
    """Of each vector, float64 (n,)."""
    return np.linalg.norm(vectors.astype(np.float64), axis=1)


def cosines(ours: Vectors, theirs: Vectors) -> Numbers:
    """Of the two vectors of each input, (n,)."""
    return np.einsum("nd,nd->n", unit(ours), unit(theirs))


def keep(asked: tuple[Any, Any], among: tuple[Any, Any], own: Places | None = None) -> Kept:
    """Which neighbours are kept.

    Args:
        asked: vectors by A and by B of what is searched with.
        among: vectors by A and by B of the candidates.
        own: the candidate that each of `asked` is itself, and must not find; -1 for none.
    """
    if len(asked[0]) == 0 or len(among[0]) <= ENOUGH:
        return Kept()
    ours, theirs = ((unit(asked[i]), unit(among[i])) for i in range(2))
    places = np.full(len(asked[0]), -1) if own is None else own
    blocks = np.array_split(np.arange(len(places)), -(-len(places) // ROWS))
    apart, across = np.concatenate([keep_block(block, ours, theirs, places[block]) for block in blocks]).mean(axis=0)
    return Kept(float(apart), float(across))


def keep_block(rows: Places, ours: tuple[Numbers, Numbers], theirs: tuple[Numbers, Numbers], own: Places) -> Numbers:
    """Of some of the inputs the shares of neighbours that are kept, apart and across, (n, 2).

    Args:
        rows: the inputs.
        ours: unit vectors by A of what is searched with, and of the candidates.
        theirs: the same by B.
        own: the candidate that each of these inputs is itself; -1 for none.
    """
    reference = without_own(ours[0][rows] @ ours[1].T, own)
    others = (without_own(theirs[0][rows] @ among.T, own) for among in (theirs[1], ours[1]))
    return np.stack([share_kept(reference, scores) for scores in others], axis=1)


def without_own(scores: Numbers, own: Places) -> Numbers:
    """The scores, the lowest there can be where an input would find itself."""
    rows = np.flatnonzero(own >= 0)
    scores[rows, own[rows]] = -np.inf
    return scores


def share_kept(reference: Numbers, scores: Numbers) -> Numbers:
    """Share of each row's ten best by `scores` that are, but for ties, among its ten best by `reference`, (n,)."""
    found = np.argpartition(-scores, AT - 1, axis=1)[:, :AT]
    tenth = -np.partition(-reference, AT - 1, axis=1)[:, AT - 1 : AT]
    kept = np.take_along_axis(reference, found, axis=1) >= tenth - TIE
    return kept.mean(axis=1)
