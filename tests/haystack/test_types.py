"""The embedders as type checkers see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
USES = """
from typing import Any
from haystack import Document, Pipeline
from haystack.components.embedders.types import DocumentEmbedder, TextEmbedder
from haystack.utils import Secret
from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
)

text: TextEmbedder = JinaClipTextEmbedder(Secret.from_env_var("KEY"), "jina-clip-v2", prefix="a ")
documents: list[DocumentEmbedder] = [
    JinaClipDocumentEmbedder(meta_fields_to_embed=["name"]),
    JinaClipDocumentImageEmbedder(root_path="pictures", image_policy={"max_pixels": 1000}),
    JinaClipFusedDocumentEmbedder(weight=0.3),
]
ranked: list[Document] = JinaClipDiversityRanker(method="mmr").run([Document(content="a")], top_k=1)["documents"]
pipe = Pipeline()
pipe.add_component("image", JinaClipImageEmbedder(url_mode="fetch"))
result: dict[str, Any] = documents[0].run([Document(content="a")])
JinaClipTextEmbedder(prefix=1)  # type: ignore[arg-type]
JinaClipTextEmbedder(weight=0.5)  # type: ignore[call-arg]
JinaClipTextEmbedder(backend="cloud")  # type: ignore[arg-type]
JinaClipDiversityRanker(method="random")  # type: ignore[arg-type]
"""

SETTINGS = """
[mypy]
strict = True
warn_return_any = False
explicit_package_bases = True
follow_imports = skip
[mypy-haystack.*,haystack_integrations.*,haystack_jinaclip.*,jinaclip.*]
follow_imports = normal
"""
"""As in pyproject.toml, but what Haystack itself imports does not matter here, and takes half a minute to read."""


def test_the_embedders_keep_haystacks_protocols(tmp_path) -> None:
    """H28: strictly, and wrong options are seen: an ignore that is not needed is an error."""
    (tmp_path / "uses.py").write_text(USES)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    sources = [ROOT / "shared" / "src", ROOT / "packages" / "haystack_jinaclip" / "src"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", tmp_path / "uses.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": os.pathsep.join(map(str, sources))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
