"""What the agreement of two sources means: docs/decisions/0050-one-space-or-two.md says where the bounds come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from jinaclip.compare.measures import AT, Agreement

SAME = 1 - 1e-5
"""Least cosine of the same vectors: other batches, cores, threads, and float16. A score moves by 0.0045 at most."""
ROUNDED = 0.99
"""Least cosine of vectors that are only rounded differently: bfloat16, int8."""
KEPT = 0.95
"""Least share of neighbours that such vectors keep, at ten, but for ties."""
TURNED = 0.5
"""Share of neighbours kept across under which the two have nothing to do with one another."""
STRETCH = 1e-3
"""Most by which norms differ, relative to the larger."""
STRETCH_ROUNDED = 0.02
"""The same for vectors that are rounded differently; vectors at length 1 are so anyway."""


class Verdict(StrEnum):
    """Whether two sources are one space."""

    SAME = "the same vectors"
    ROUNDED = "one space, rounded differently"
    DIFFERENT = "two spaces"
    UNKNOWN = "not known"

    @property
    def one_space(self) -> bool:
        """Whether vectors of both may lie in one index."""
        return self in (Verdict.SAME, Verdict.ROUNDED)


def judge(agreements: Mapping[str, Agreement], asked: Iterable[str]) -> Verdict:
    """The verdict on all kinds: the worst of any; not known if one that was asked for could not be compared."""
    verdicts = {judge_one(agreement) for agreement in agreements.values()}
    if Verdict.DIFFERENT in verdicts:
        return Verdict.DIFFERENT
    if not agreements or set(asked) - set(agreements):
        return Verdict.UNKNOWN
    return Verdict.ROUNDED if Verdict.ROUNDED in verdicts else Verdict.SAME


def judge_one(agreement: Agreement) -> Verdict:
    """The verdict on one kind."""
    if any(find_differences(agreement)):
        return Verdict.DIFFERENT
    same = agreement.cosines.min() >= SAME and agreement.stretch <= STRETCH
    return Verdict.SAME if same else Verdict.ROUNDED


def find_differences(agreement: Agreement) -> Iterator[str]:
    """Why the vectors of one kind are of two spaces, a sentence each."""
    low = agreement.worst(ROUNDED)
    if low:
        yield f"{agreement.kind}: {len(low)} of {agreement.count} have a cosine under {ROUNDED}"
    if agreement.stretch > STRETCH_ROUNDED:
        yield f"{agreement.kind}: norms differ by up to {agreement.stretch:.1%}; is one side not normalized?"
    for where, kept in (("", agreement.kept), (" among images", agreement.kept_images)):
        shares = [share for share in kept if share is not None]
        if shares and min(shares) < KEPT:
            yield f"{agreement.kind}{where}: {min(shares):.1%} of the neighbours at {AT} are kept, under {KEPT:.0%}"


def explain(agreements: Mapping[str, Agreement], echo: str | None) -> Iterator[str]:
    """What the way in which two sources differ says of the reason.

    Args:
        agreements: by kind.
        echo: the side whose queries are its documents, while the other's are not; None if neither is.
    """
    differ = {kind for kind, one in agreements.items() if judge_one(one) is Verdict.DIFFERENT}
    if echo is not None and "queries" in differ:
        yield f"{echo} embeds a query as it does a document; the other puts the model's instruction before queries"
    if differ == {"images"} and len(agreements) > 1:
        yield (
            "only images differ: look at image_resize, image_decode, image_quality and image_policy of both sides, and "
            "at who resizes images"
        )
    if differ == {"queries"} and echo is None and len(agreements) > 1:
        yield "only queries differ: the two put different instructions before a query, or one puts none"
    for kind in sorted(differ):
        apart, across = agreements[kind].kept
        if apart is not None and across is not None and apart >= KEPT and across < TURNED:
            yield (
                f"{kind}: each side by itself finds the same neighbours, so one may be the other turned; one index "
                "cannot hold vectors of both all the same"
            )
