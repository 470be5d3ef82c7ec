"""Tests of texts and pictures that run without network, key and weights, from vectors that one run has stored.

Once, with a key, and again whenever a test asks for something new:

    SHOP_RECORD=1 JINA_API_KEY=... python -m pytest examples/offline

Then commit `vectors.sqlite`, and everybody and CI run `python -m pytest examples/offline`. Whatever is not in the file
fails there with a `BudgetError`: nothing is sent, and nothing is paid for unnoticed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from jinaclip import JinaClip
from jinaclip.hosts import API_URL

FILE = Path(os.environ.get("SHOP_VECTORS", Path(__file__).with_name("vectors.sqlite")))
URL = os.environ.get("SHOP_BASE_URL", API_URL)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    if "SHOP_RECORD" in os.environ:
        place, budget = FILE, None
    else:  # a copy, as a cache notes what is used; and nothing to spend, whether or not there is a key
        place, budget = tmp_path_factory.mktemp("cache") / FILE.name, 0
        shutil.copyfile(FILE, place)
    with JinaClip("jina-clip-v2", base_url=URL, cache=place, token_budget=budget) as made:
        yield made
        made.cache.close()
