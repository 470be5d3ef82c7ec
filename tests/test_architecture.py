"""The import table: who may import whom, and where heavy libraries may be named. docs/how-it-works.md shows it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.needs import skip_without

ROOT = Path(__file__).parents[1]
CORE = ROOT / "shared" / "src" / "jinaclip"
PACKAGES = ROOT / "packages"

# The house from the ground up: a module may import from the rows above its own, `if TYPE_CHECKING` included, so that
# there is no circle. A package imports freely within itself, but for `backends`, whose parts are listed.
LAYERS = [
    ["errors"],
    ["blank", "formats", "frames", "hints", "numeric", "requirements", "secret", "specs", "telemetry", "uris"],
    ["tracing", "vectors"],
    ["inputs", "config", "process"],
    ["space"],
    ["images"],
    ["cache"],
    ["call"],
    ["backends", "backends.base"],
    ["backends.api", "backends.local"],
    ["self_test"],
    ["clip"],
    ["testing", "local"],
    ["hosts"],
    ["sources"],
    ["retrieval"],
    ["evaluation"],
    ["bulk", "compare", "mteb", "server"],
    ["cli"],
    ["__main__"],
]
PUBLIC = ["errors", "hosts", "images", "retrieval"]
"""Modules that adapters may import from, beside the package itself."""
HOMES = {
    "torch": {"backends/local/towers", "backends/local/export"},
    "tokenizers": {"backends/local/tokenizer"},
    "safetensors": {"backends/local/weight_file"},
    "huggingface_hub": {"backends/local/source"},
    "onnxruntime": {"backends/local/onnx_runner", "backends/local/export"},
    "onnx": {"backends/local/export"},
    "onnxscript": {"backends/local/export"},
    "PIL": {"formats", "images", "backends/local/preprocess", "testing"},
    "ray": {"bulk"},
    "pypdfium2": {"images/pdfium"},
    "redis": {"cache/redis_store"},
    "botocore": {"backends/api/wires/sagemaker"},
    "platformdirs": {"cache/place"},
    "sklearn": {"retrieval/diversity"},
    "threadpoolctl": {"retrieval/diversity", "backends/local/towers"},
    "ir_measures": {"evaluation/metrics"},
    "matplotlib": {"evaluation/curves"},
    "pyarrow": {"bulk", "cache/tables", "sources"},
    "fsspec": {"sources"},
    "opentelemetry": {"tracing"},
    "filelock": {"bulk"},
    "mteb": {"mteb"},
    "httpx": {"backends/api", "images", "testing"},
    "httpcore": {"images"},
    "h11": {"backends/api", "server/connections"},
    "starlette": {"testing", "server"},
    "uvicorn": {"testing", "server"},
    "prometheus_client": {"server/metrics"},
    "uvloop": {"testing/__main__"},
    "pytest": {"testing/fixtures"},
}


def modules() -> list[Path]:
    return sorted(path for path in CORE.rglob("*.py") if path != CORE / "__init__.py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, wherever in it, also under `if TYPE_CHECKING`."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def annotations_only(path: Path) -> set[str]:
    """Dotted names that a file imports for type checkers alone."""
    blocks = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    nodes = [node for block in blocks for node in ast.walk(block)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}


def home(path: Path) -> str:
    """`call/request.py` is at home in `call`, `clip.py` in `clip`, `backends/api/policy.py` in `backends.api`."""
    return home_of([*path.relative_to(CORE).with_suffix("").parts])


def home_of(parts: list[str]) -> str:
    within = parts[1:2] if parts[0] == "backends" and parts[1:2] != ["__init__"] else []
    return ".".join([parts[0], *within])


def rank(module: str) -> int:
    return next((i for i, layer in enumerate(LAYERS) if module in layer), -1)


@pytest.mark.slow
@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_a_module_imports_only_from_layers_below(path: Path) -> None:
    own = home(path)
    assert rank(own) >= 0, f"{own} has no layer; give it one"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "jinaclip" and len(parts) > 1 and home_of(parts[1:]) != own:
            assert rank(home_of(parts[1:])) < rank(own), f"{own} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(CORE)))
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    inside = str(path.relative_to(CORE)).removesuffix(".py")
    for name in imported(path) - annotations_only(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or any(inside == h or inside.startswith(f"{h}/") for h in homes), f"{inside}: {name}"


def test_the_process_that_draws_pages_imports_nothing_else() -> None:
    """It starts for each file, and what takes it over finds as little as possible."""
    found = {name.split(".")[0] for name in imported(CORE / "images" / "pdfium.py")}
    assert found - sys.stdlib_module_names == {"pypdfium2", "__future__"} - sys.stdlib_module_names


def test_adapters_use_public_names_and_not_one_another() -> None:
    import jinaclip

    own = {p.name for p in PACKAGES.iterdir()}
    for path in PACKAGES.rglob("src/**/*.py"):
        package = path.relative_to(PACKAGES).parts[0]
        aliased = {"llamaindex_jinaclip"} if package == "llama_index_embeddings_jinaclip" else set()
        for name in imported(path):
            top, _, rest = name.partition(".")
            assert top not in own - {package} - aliased, f"{path}: imports {top}"
            public = rest.split(".")[0] in [*jinaclip.__all__, *PUBLIC] and rest.count(".") < 2
            assert top != "jinaclip" or public, f"{path}: {name} is not public"


def test_no_thread_of_the_loop_s_executor_is_taken() -> None:
    """It is the application's: `run_in_thread` starts one of ours. The service for tests is an application itself."""
    sources = [path for path in modules() if "testing" not in path.parts] + [*PACKAGES.rglob("src/**/*.py")]
    for path in sources:
        names = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        assert not names & {"to_thread", "run_in_executor"}, path


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["jinaclip", "langchain_jinaclip", "llamaindex_jinaclip", "haystack_jinaclip"])
def test_importing_loads_nothing_heavy(name: str) -> None:
    skip_without(name)
    assert not loaded_by(f"import {name}") & {"torch", "PIL", "onnxruntime", "ray", "httpx", "numpy", "tqdm"}


def test_the_facade_loads_no_picture_and_no_model_library() -> None:
    assert not loaded_by("from jinaclip import JinaClip, Image, fuse") & {"torch", "PIL", "onnxruntime", "ray", "httpx"}


def test_the_command_line_loads_nothing_heavy_before_a_command_runs() -> None:
    loaded = loaded_by("from jinaclip.cli.main import make_parser; make_parser().format_help()")
    assert "jinaclip" in loaded
    assert not loaded & {"torch", "PIL", "httpx", "starlette", "uvicorn", "prometheus_client", "anyio"}


TORCH_FREE = [
    "backend",
    "batcher",
    "checkpoint_config",
    "device",
    "engines",
    "files",
    "model",
    "onnx_folder",
    "onnx_graph",
    "preprocess",
    "runner",
    "scheduler",
    "source",
    "tokenizer",
    "tokenizer_rules",
    "weight_file",
    "weights",
]


@pytest.fixture(scope="module")
def loaded_with() -> dict[str, list[str]]:
    """What a process loads that imports the modules without torch one after another, up to each of them."""
    skip_without("torch")  # and with it the rest of the extra `local`, which some of these import
    code = (
        "import importlib, json, sys; loaded = {}\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'jinaclip.backends.local.{name}')\n"
        "    loaded[name] = [module.split('.')[0] for module in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code, *TORCH_FREE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", TORCH_FREE)
def test_only_the_towers_load_torch(loaded_with: dict[str, list[str]], module: str) -> None:
    assert "jinaclip" in loaded_with[module]
    assert not {"torch", "onnxruntime"} & {*loaded_with[module]}


def test_the_local_modules_without_torch_are_all_but_the_towers() -> None:
    found = {path.stem for path in (CORE / "backends" / "local").glob("*.py")} - {"__init__", "onnx_runner"}
    assert found == set(TORCH_FREE)


def test_a_local_backend_loads_torch_only_with_the_weights(tmp_path: Path) -> None:
    from tests.tiny import make_checkpoint

    folder = make_checkpoint(tmp_path / "tiny", "v2")
    assert "torch" not in loaded_by(f"import jinaclip; jinaclip.JinaClip({str(folder)!r}, backend='local')")


def test_every_public_name_exists() -> None:
    import jinaclip

    assert [name for name in jinaclip.__all__ if not hasattr(jinaclip, name)] == []
    assert sorted(jinaclip.__all__) == sorted(set(jinaclip.__all__))


@pytest.mark.parametrize("source", [CORE.parent, *PACKAGES.glob("*/src")], ids=lambda path: path.parent.name)
def test_no_module_imports_itself_by_way_of_others(source: Path) -> None:
    """Within packages too, where the layers say nothing; the lazy `__init__` of a distribution names all of it."""
    files = [path for path in source.rglob("*.py") if path.parent.parent != source or path.name != "__init__.py"]
    paths = {".".join(path.relative_to(source).with_suffix("").parts): path for path in files}
    names = {name.removesuffix(".__init__"): path for name, path in paths.items()}

    def module_of(target: str) -> str:
        return target if target in names else target.rpartition(".")[0]

    graph = {name: {module_of(target) for target in imported(path)} - {name} for name, path in names.items()}
    assert list(TopologicalSorter(graph).static_order())
