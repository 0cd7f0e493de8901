"""The order of the rooms: imports point one way, the library imports no script, light modules load nothing heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (  # from the lowest to the highest; rooms of one layer may import one another
    ("runtime",),
    ("config", "recipes"),
    ("data", "networks"),
    ("datasets", "models"),
    ("inference", "faces"),
    ("training", "evaluation", "explanations"),
    ("figures",),
    ("report", "video", "webpage"),
)
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}
CARD = ("config", "recipes", "datasets", "models")  # modules at the root that the library may import
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if path.stem not in CARD)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import of our own in a file, those inside functions too.

    The main of a module at the root is a script, and may import what scripts do.
    """
    tree = ast.parse(path.read_text())
    if path.parent == ROOT:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "main")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name if is_own_module(name) else node.module for name in names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in modules if is_own_module(name))


def is_own_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def room_of(module: str) -> str:
    first, *rest = module.split(".")
    return rest[0] if first == "ferlib" and rest else first


def library_files() -> list[Path]:
    return sorted((ROOT / "ferlib").rglob("*.py")) + [ROOT / f"{name}.py" for name in CARD]


def test_imports_point_down() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} ({room_of(module_name(path))}) imports {module}"
        for path in library_files()
        for line, module in imported_modules(path)
        if HEIGHT.get(room_of(module), len(LAYERS)) > HEIGHT.get(room_of(module_name(path)), len(LAYERS))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_library_imports_no_script() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in library_files()
        for line, module in imported_modules(path)
        if module in SCRIPTS or module.split(".")[0] in ("tests", "benchmarks")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circles() -> None:
    """No module reaches itself through imports at module level."""
    graph = {module_name(path): set(top_level_imports(path)) for path in library_files()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def top_level_imports(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if is_own_module(full) or is_own_module(node.module):
                    yield full if is_own_module(full) else node.module


def test_every_room_is_in_the_order() -> None:
    rooms = {path.name for path in (ROOT / "ferlib").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(HEIGHT)
    for path in sorted((ROOT / "ferlib").rglob("__init__.py")):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} needs a sentence"


def loaded_by(modules: Sequence[str]) -> dict[str, set[str]]:
    """Module → all that a fresh interpreter has loaded after importing it, one after the other in one process."""
    code = (
        "import importlib, json, sys\n"
        f"found = {{}}\nfor name in {list(modules)}:\n"
        "    importlib.import_module(name)\n    found[name] = sorted(sys.modules)\nprint(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: set(loaded) for name, loaded in json.loads(done.stdout).items()}


LIGHT = (*CARD, "ferlib.explanations.methods", "ferlib.report.page", *SCRIPTS)
HEAVY = {"torch", "torchvision", "timm", "lime", "shap", "captum", "gradio", "optuna"}


def test_light_modules_load_no_torch() -> None:
    """What stands before the flags are read starts at once; the report needs no network at all."""
    wrong = {name: loaded & HEAVY for name, loaded in loaded_by(LIGHT).items() if loaded & HEAVY}
    assert not wrong


def test_explanations_load_no_network_and_no_engine() -> None:
    """The mathematics can be used in a notebook without the models of this project."""
    names = [f"ferlib.explanations.{name}" for name in ("lime", "kernel_shap", "shap", "cam", "gradients", "occlusion")]
    loaded = set.union(*loaded_by(names).values())
    assert not {name for name in loaded if name.startswith(("ferlib.inference.openvino", "ferlib.networks"))}
    assert not loaded & {"models", "datasets", "timm", "torchvision", "openvino"}
