"""The import fence: who may import whom, and where heavy libraries may be named. See README, "Where things are"."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "shared" / "src" / "jinaclip"
PACKAGES = ROOT / "packages"

# The house from the ground up: a module may import from the rows above its own. A package imports freely within itself,
# but for `backends`, whose parts are listed.
LAYERS = [
    ["errors"],
    ["secret", "specs", "vectors"],
    ["config", "deadlines", "fusion", "inputs"],
    ["images"],
    ["call"],
    ["backends", "backends.base"],
    ["backends.api", "backends.local"],
    ["batches", "self_test"],
    ["retrieval"],
    ["clip"],
    ["testing", "local"],
    ["evaluation"],
    ["mteb", "cli"],
    ["__main__"],
]
HOMES = {
    "torch": {"backends/local"},
    "tokenizers": {"backends/local"},
    "safetensors": {"backends/local"},
    "huggingface_hub": {"backends/local"},
    "onnxruntime": {"backends/local/onnx_runner"},
    "PIL": {"images", "backends/local/preprocess", "testing"},
    "ray": {"bulk"},
    "pypdfium2": {"images/documents"},
    "sklearn": {"retrieval/diversity"},
    "threadpoolctl": {"retrieval/diversity"},
    "ir_measures": {"evaluation/metrics"},
    "matplotlib": {"evaluation/curves"},
    "pyarrow": {"evaluation/records"},
    "mteb": {"mteb"},
    "httpx": {"backends/api", "images", "testing"},
    "httpcore": {"backends/api", "images", "deadlines"},
    "starlette": {"testing"},
    "uvicorn": {"testing"},
}


def modules() -> list[Path]:
    return sorted(path for path in CORE.rglob("*.py") if path != CORE / "__init__.py")


def imported(path: Path, *, typing_too: bool) -> set[str]:
    """Dotted names that a file imports; those under `if TYPE_CHECKING` only on demand."""
    tree = ast.parse(path.read_text())
    if not typing_too:
        guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
        hidden = {id(child) for branch in guarded for child in ast.walk(branch)}
    else:
        hidden = set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def home(path: Path) -> str:
    """`call/request.py` is at home in `call`, `clip.py` in `clip`, `backends/api/policy.py` in `backends.api`."""
    return home_of([*path.relative_to(CORE).with_suffix("").parts])


def home_of(parts: list[str]) -> str:
    within = parts[1:2] if parts[0] == "backends" and parts[1:2] != ["__init__"] else []
    return ".".join([parts[0], *within])


def rank(module: str) -> int:
    return next((i for i, layer in enumerate(LAYERS) if module in layer), -1)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_a_module_imports_only_from_layers_below(path: Path) -> None:
    own = home(path)
    assert rank(own) >= 0, f"{own} has no layer; give it one"
    for name in imported(path, typing_too=False):
        parts = name.split(".")
        if parts[0] == "jinaclip" and len(parts) > 1 and home_of(parts[1:]) != own:
            assert rank(home_of(parts[1:])) < rank(own), f"{own} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    inside = str(path.relative_to(CORE)).removesuffix(".py")
    for name in imported(path, typing_too=False):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or any(inside == h or inside.startswith(f"{h}/") for h in homes), f"{inside}: {name}"


def test_adapters_use_public_names_and_not_one_another() -> None:
    import jinaclip

    own = {p.name for p in PACKAGES.iterdir()}
    for path in PACKAGES.rglob("src/**/*.py"):
        package = path.relative_to(PACKAGES).parts[0]
        for name in imported(path, typing_too=True):
            top, _, rest = name.partition(".")
            assert top not in own - {package}, f"{path}: imports {top}"
            assert top != "jinaclip" or rest.split(".")[0] in jinaclip.__all__, f"{path}: {name} is not public"


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["jinaclip", "langchain_jinaclip", "llamaindex_jinaclip", "haystack_jinaclip"])
def test_importing_loads_nothing_heavy(name: str) -> None:
    assert not loaded_by(f"import {name}") & {"torch", "PIL", "onnxruntime", "ray", "httpx", "numpy", "tqdm"}


def test_the_facade_loads_no_picture_and_no_model_library() -> None:
    assert not loaded_by("from jinaclip import JinaClip, Image, fuse") & {"torch", "PIL", "onnxruntime", "ray", "httpx"}


def test_every_public_name_exists() -> None:
    import jinaclip

    assert [name for name in jinaclip.__all__ if not hasattr(jinaclip, name)] == []
    assert sorted(jinaclip.__all__) == sorted(set(jinaclip.__all__))
