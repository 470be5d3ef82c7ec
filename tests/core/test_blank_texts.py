"""Texts that show nothing are blank, at every door; texts with joiners in them are texts."""

from __future__ import annotations

import itertools
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip import InputError, Pair, hosts
from jinaclip.hosts import is_blank
from jinaclip.inputs import as_text
from jinaclip.retrieval import aclassify, classify

INVISIBLE = {
    "zero width space": "\u200b",
    "byte order mark": "\ufeff",
    "NUL": "\0",
    "word joiner": "\u2060",
    "soft hyphen": "\u00ad",
    "joiner": "\u200d",
    "non-joiner": "\u200c",
    "left-to-right mark": "\u200e",
    "Arabic letter mark": "\u061c",
    "override": "\u202e",
    "isolate": "\u2066",
    "invisible times": "\u2062",
    "variation selector": "\ufe0f",
    "variation selector of the supplement": "\U000e0100",
    "tag": "\U000e0061",
    "combining grapheme joiner": "\u034f",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul choseong filler": "\u115f",
    "Khmer inherent vowel": "\u17b4",
    "Mongolian vowel separator": "\u180e",
    "Mongolian variation selector": "\u180b",
    "musical beam": "\U0001d173",
    "shorthand format control": "\U0001bca0",
    "blank braille": "\u2800",
    "note without a head": "\U0001d159",
    "filler of Khitan": "\U00016fe4",
    "ideographic space": "\u3000",
    "no-break space": "\u00a0",
    "line separator": "\u2028",
    "escape": "\x1b",
    "bell": "\x07",
    "delete": "\x7f",
    "next line": "\x85",
    "no character": "\uffff",
}
VISIBLE = [
    "a",
    ".",
    "\u200ba",
    "\ufeffbom",
    "a\0b",
    "\U0001f469\u200d\U0001f680",  # woman, ZWJ, rocket
    "\u2764\ufe0f",  # heart as an emoji
    "1\ufe0f\u20e3",  # keycap
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # flag of England, by tags
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian with a non-joiner
    "\u0915\u094d\u200d\u0937",  # Devanagari with a joiner
    "\u202eright to left\u200b",
    "\u06dd",  # Arabic end of ayah, a format character that is drawn
    "\u0600",
    "\ufffd",
    "\u2801",
    "\u0301",
    "\ue000",  # private use: fonts of icons
    "\U0001fae9",  # an emoji that Unicode 15, of Python 3.12, does not know
    "\u3000\u200b\u5b57",
    "\u00b7",
    "\u2063" * 100 + "x",
]
PAIRS = [first + second for first, second in itertools.permutations(list(INVISIBLE.values())[:12], 2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", INVISIBLE)
async def test_what_shows_nothing_is_refused_at_every_door(server, clip, run, name):
    one, text = clip(), INVISIBLE[name]
    doors = [
        run(one, "embed_query", text),
        run(one, "embed_queries", ["fine", text]),
        run(one, "embed_documents", ["fine", text, "fine"]),
        run(one, "embed_pairs", [(text, b"...")]),
        run(one, "embed_pairs", [Pair(text, b"...", 1)]),
        hosts.aembed_query(one, text),
        hosts.aembed(one, ["fine", text]),
        aclassify(one, ["fine"], ["a label", text], temperature=1),
        aclassify(one, ["fine", text], ["a label", "another"], temperature=1),
    ]
    for door in doors:
        with pytest.raises(InputError, match="blank"):
            (await door).unwrap()
    with pytest.raises(InputError, match="blank"):
        one.validate([text])
    with pytest.raises(InputError, match="blank"):
        classify(one, ["fine"], ["a label", text], temperature=1)
    assert server.ledger()["requests"] <= 1, "of hosts.aembed, which embeds the others"


@pytest.mark.parametrize("text", [*INVISIBLE.values(), *PAIRS, "", " \u200b\n" * 50, "".join(INVISIBLE.values()) * 100])
def test_what_shows_nothing_is_blank_alone_and_together(text):
    assert is_blank(text)
    with pytest.raises(InputError, match="blank"):
        as_text(text)


@pytest.mark.parametrize("text", VISIBLE)
def test_what_shows_something_is_a_text(text):
    assert not is_blank(text)
    assert not is_blank("\u200b" * 1000 + text), "however late"
    assert as_text(text).value == text


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200))
def test_a_letter_a_number_or_a_punctuation_mark_is_visible_and_whitespace_is_not(text):
    if is_blank(text):
        shown = [c for c in text if unicodedata.category(c)[0] in "NP" or unicodedata.category(c) in ("Ll", "Lu", "Lt")]
        assert shown == []
    else:
        assert text.strip()
        assert is_blank("".join(c for c in text if unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp")))


@settings(deadline=None)
@given(st.text(st.sampled_from([*INVISIBLE.values(), "a", "\u0645"]), max_size=300))
def test_a_text_is_blank_if_each_of_its_characters_is(text):
    assert is_blank(text) is all(map(is_blank, text))


@pytest.mark.slow
def test_long_texts_take_little_time():
    """Millions of characters in seconds; where the first ones are visible, nothing else is looked at."""
    began = time.process_time()
    assert is_blank("\u200b" * 3_000_000)
    assert is_blank(" " * 3_000_000)
    assert not is_blank("\u200b" * 3_000_000 + "a")
    assert not is_blank("\u200b\u2060" * 1_500_000 + "\u0645")
    assert time.process_time() - began < 20
    text, began = "\u0645" * 1_000_000, time.process_time()
    for _ in range(10_000):
        assert not is_blank(text)
    assert time.process_time() - began < 10
