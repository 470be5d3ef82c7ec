"""Which texts show nothing, by what Unicode says of their characters."""

from __future__ import annotations

import re
import unicodedata

_HEAD = 64
"""Characters that are looked at one by one, as others show something among the first; then each only once."""
_BLANK = frozenset(["Cc", "Zs", "Zl", "Zp"])
"""Categories of characters none of which shows anything: control characters, spaces and separators."""
_FORMAT_SIGNS = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f]")
"""Format characters (Cf) that are drawn all the same: signs of Arabic, Syriac and Kaithi, Egyptian joiners."""
_IGNORABLE = re.compile(
    # Default_Ignorable_Code_Point beyond the category Cf: a joiner, fillers of Hangul and Khmer, selectors, tags
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
    # braille without a dot, a note without a head, a filler of Khitan; what is no character and never will be
    "\u2800\U0001d159\U00016fe4\ufdd0-\ufdef\ufffe\uffff]"
)


def is_blank(text: str) -> bool:
    """Whether nothing of a text is visible: it is empty, or holds nothing but spaces, control and format characters.

    Emoji and scripts with joiners in them (ZWJ, ZWNJ) show something. A character that this Python's Unicode does not
    know yet counts as visible.
    """
    head = text.strip()[:_HEAD]
    if "!" <= head[:1] <= "~":  # as nearly all texts begin; the rest only has to be right
        return False
    return not any(map(_is_visible, head)) and not any(map(_is_visible, set(text)))


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return _FORMAT_SIGNS.match(character) is not None
    return category not in _BLANK and _IGNORABLE.match(character) is None
