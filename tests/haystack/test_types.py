"""The embedders as type checkers see them."""

from __future__ import annotations

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
pipe = Pipeline()
pipe.add_component("image", JinaClipImageEmbedder(url_mode="fetch"))
result: dict[str, Any] = documents[0].run([Document(content="a")])
JinaClipTextEmbedder(prefix=1)  # type: ignore[arg-type]
JinaClipTextEmbedder(weight=0.5)  # type: ignore[call-arg]
JinaClipTextEmbedder(backend="cloud")  # type: ignore[arg-type]
"""


def test_the_embedders_keep_haystacks_protocols(tmp_path) -> None:
    """H28: strictly, and wrong options are seen: an ignore that is not needed is an error."""
    (tmp_path / "uses.py").write_text(USES)
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", tmp_path / "uses.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
