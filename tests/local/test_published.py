"""Known answers of the published weights, for whoever has them: `pytest -m weights`.

The models come from the hub, or from folders named by JINACLIP_V1 and JINACLIP_V2. The two beach pictures and
image.png lie in li-xiu-qi/XiaokeAILabs, datas/test_jina_clip_v2 and datas/test_jina_openvino (revision 29beca8);
image.jpeg in qdrant/fastembed, tests/misc. JINACLIP_PICTURES names a folder that holds all four.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from jinaclip import JinaClip

pytestmark = pytest.mark.weights

QUERY = "beautiful sunset over the beach"
SENTENCES = [
    "غروب جميل على الشاطئ",
    "海滩上美丽的日落",
    "Un beau coucher de soleil sur la plage",
    "Ein wunderschöner Sonnenuntergang am Strand",
    "Ένα όμορφο ηλιοβασίλεμα πάνω από την παραλία",
    "समुद्र तट पर एक खूबसूरत सूर्यास्त",
    "Un bellissimo tramonto sulla spiaggia",
    "浜辺に沈む美しい夕日",
    "해변 위로 아름다운 일몰",
]
TO_QUERY = [0.8217206, 0.8121675, 0.8934908, 0.9126601, 0.8692525, 0.864749, 0.8640394, 0.707512, 0.89350307]
TO_FIRST = [0.8099989, 0.8881056, 0.86057425, 0.9021691, 0.89576596, 0.90994185, 0.7425193, 0.92439586]
TO_BEACH = [
    0.35173795, 0.35547468, 0.32155246, 0.31721163, 0.33752367, 0.36770427, 0.33243394, 0.34468937, 0.35018617,
]  # fmt: skip
CLOSE = 2e-4
SEAL = "\u4e00\u53ea\u5c0f\u6d77\u8c79"


def load(version: str, **options: object) -> JinaClip:
    name = os.environ.get(f"JINACLIP_{version.upper()}", f"jina-clip-{version}")
    return JinaClip(name, backend="local", device="cpu", dtype="float32", **options)


def picture(name: str) -> Path:
    folder = os.environ.get("JINACLIP_PICTURES")
    if folder is None:
        pytest.skip("JINACLIP_PICTURES names no folder")
    return Path(folder) / name


@pytest.fixture(scope="module")
def v1() -> JinaClip:
    return load("v1")


@pytest.fixture(scope="module")
def v2() -> JinaClip:
    return load("v2")


def test_v1_text(v1: JinaClip) -> None:
    head = v1.embed_documents(["hello world"])[0, :5]
    assert np.abs(head - [-0.0862, -0.0101, -0.0056, 0.0375, -0.0472]).max() < 1e-3


def test_v1_picture(v1: JinaClip) -> None:
    head = v1.embed_image(picture("image.jpeg"))[:10]
    known = [-0.029, 0.0216, 0.0396, 0.0283, -0.0023, 0.0151, 0.011, -0.0235, 0.0251, -0.0343]
    assert np.abs(head - known).max() < 1e-3


def test_v2_tokens(v2: JinaClip) -> None:
    tokenizer = v2._backend._loaded().tokenizer
    assert tokenizer.encode([SEAL], truncate=False) == [[0, 6, 79608, 1128, 2767, 162921, 2]]
    assert max(map(len, tokenizer.encode(SENTENCES, truncate=False))) == 14


def test_v2_sentences(v2: JinaClip) -> None:
    query, rows = v2.embed_documents([QUERY])[0], v2.embed_documents(SENTENCES)
    assert np.abs(rows @ query - TO_QUERY).max() < CLOSE
    assert np.abs(rows[1:] @ rows[0] - TO_FIRST).max() < CLOSE


def test_v2_pictures(v2: JinaClip) -> None:
    beaches = v2.embed_images([picture("beach1.jpg"), picture("beach2.jpg")])
    assert abs(beaches[0] @ beaches[1] - 0.9288048) < CLOSE
    assert np.abs(beaches @ v2.embed_documents([QUERY])[0] - [0.3303666, 0.3382796]).max() < CLOSE
    assert np.abs(v2.embed_documents(SENTENCES) @ beaches[0] - TO_BEACH).max() < CLOSE


def test_v2_raw_text() -> None:
    raw = load("v2", normalized=False).embed_documents([SEAL])[0]
    known = [-1.193846, -0.08135269, 0.6460531, 0.25934857, -0.11199802, 0.00834095]
    assert np.abs(raw[[0, 1, 2, -3, -2, -1]] - known).max() < 5e-3  # known from weights kept in float16


def test_v2_raw_picture() -> None:
    raw = load("v2", normalized=False).embed_image(picture("image.png"))
    known = [-0.98634124, 1.2899201, -0.50027674, 0.5764399, 0.09869334, 0.2060485]
    assert np.abs(raw[[0, 1, 2, -3, -2, -1]] - known).max() < 5e-3


def test_v2_queries_with_their_instruction(v2: JinaClip) -> None:
    beaches = v2.embed_images([picture("beach1.jpg"), picture("beach2.jpg")])
    assert np.abs(beaches @ v2.embed_query(QUERY) - [0.2953, 0.3184]).max() < 0.03  # known from a 4-bit graph
