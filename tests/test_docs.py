"""README, docs/ and docstrings: commands parse; files, flags, functions and links exist; README stays short."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
import tyro

import config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "outputs/README.md")]
PAGES += sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "pretrained").glob("*.md")])
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "run_script(main)" in path.read_text())
CARD = {"config.py", "datasets.py", "models.py", "recipes.py"}  # modules that people edit; the rest are commands
FOLDERS = {"benchmarks", "data", "docs", "ferlib", "outputs", "pretrained", "tests"}
FILES = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"}
FILES |= {"constraints.txt", "pyproject.toml", "requirements.txt", "requirements-dev.txt"}
FOREIGN_FLAGS = {"--help", "--logdir", "--nproc-per-node", "--max-restarts", "--rdzv-backend", "--rdzv-endpoint"}
FOREIGN_FLAGS |= {"--nnodes", "--node-rank", "--master-addr", "--master-port"}  # of torchrun, as some of those above
COMMAND = r"(\S*/)?python3? \S|torchrun |make [a-z]"
PLACEHOLDER = re.compile(r"(RUN|METHOD|MODEL|NAME|STUDY|DATASET|TAG|FILE|PATH)(_|\b)|…|\*")
CHECKED_ENDINGS = (".py", ".md", ".cff", ".toml", ".mplstyle", ".txt", ".pth", ".yml")


# ── the texts ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Text(NamedTuple):
    """A page taken apart."""

    prose: str  # without code blocks
    blocks: list[tuple[str, str]]  # language and content of each code block
    codes: list[str]  # inline code, on one line each


def read_page(path: Path) -> Text:
    """The parts of a Markdown file."""
    content = path.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", content, re.M | re.S)
    prose = re.sub(r"^```.*?^```\n", "", content, flags=re.M | re.S)
    codes = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    return Text(prose, blocks, codes)


TEXTS = {str(path.relative_to(ROOT)): read_page(path) for path in PAGES}


def commands() -> list[tuple[str, str]]:
    """File and command of every command line: in blocks and sentences, in docstrings and comments of their own line."""
    lines = []
    for page, text in TEXTS.items():
        blocks = [line for language, block in text.blocks if not language for line in block.splitlines()]
        lines += [(page, line) for line in blocks + text.codes]
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("benchmarks/*.py")]):
        found = re.findall(r"^\s*(?:# )?(python \S+\.py.*)$", path.read_text(), re.M)
        lines += [(str(path.relative_to(ROOT)), line) for line in found]
    lines = [(page, re.split(r"\s{2,}|\s+# ", line.strip())[0]) for page, line in lines]
    return [(page, line) for page, line in lines if re.match(COMMAND, line) and "…" not in line]


COMMANDS = commands()


# ── flags ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Parsed(Exception):
    """Raised once a script has read its flags."""


def call_script(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs the main of a script until its flags are read, and returns their type; SystemExit for invalid ones."""
    kinds = []
    read_flags = tyro.cli

    def read(kind: Any, *others: Any, **options: Any) -> Any:
        kinds.append(kind)
        read_flags(kind, *others, **options)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        patch.setattr(tyro, "cli", read)
        with pytest.raises(Parsed):
            importlib.import_module(script.removesuffix(".py")).main()
    return kinds


def flags_of_type(kind: Any) -> set[str]:
    """The flags of a dataclass; groups within it add no prefix."""
    found = set()
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found |= flags_of_type(hint)
        else:
            found |= {f"--{name.replace('_', '-')}", f"--no-{name.replace('_', '-')}"}
    return found & valid_names(kind) | {flag for flag in found if not flag.startswith("--no-")}


def valid_names(kind: Any) -> set[str]:
    """--no-NAME of the fields that are on or off."""
    hints = get_type_hints(kind)
    return {f"--no-{item.name.replace('_', '-')}" for item in fields(kind) if hints[item.name] is bool}


def flags_of_benchmark(path: Path) -> set[str]:
    """The flags of a benchmark, read from its source: importing one loads every library."""
    names = fields_of_class(path, "Flags")
    return {f"--{prefix}{name.replace('_', '-')}" for name in names for prefix in ("", "no-")}


def fields_of_class(path: Path, name: str) -> list[str]:
    """The fields of a class of a benchmark, with those of its bases in config or in another file of benchmarks/."""
    body = ast.parse(path.read_text()).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        return []
    imports = [node for node in body if isinstance(node, ast.ImportFrom) and node.module]
    modules = {each.name: str(node.module) for node in imports for each in node.names}
    found = [item.target.id for item in classes[name].body if isinstance(item, ast.AnnAssign)]
    for base in (ast.unparse(base).removeprefix("config.") for base in classes[name].bases):
        folder, _, module = modules.get(base, "").partition(".")
        if folder == "benchmarks":
            found += fields_of_class(ROOT / folder / f"{module}.py", base)
        else:
            found += get_type_hints(getattr(config, base))
    return found


def flags_in(words: list[str]) -> set[str]:
    """The words of a command that are flags."""
    return {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_command(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        check_make(words)
        return
    if program == "torchrun":
        words = words[next(number for number, word in enumerate(words) if word.endswith(".py")) :]
    if words[0] == "-m":
        assert not words[1].startswith("ferlib") or module_path(words[1]), f"{page}: {words[1]} is no module"
        return
    script, *arguments = words
    assert (ROOT / script).is_file(), f"{page}: there is no {script}"
    if "/" in script:
        unknown = flags_in(arguments) - flags_of_benchmark(ROOT / script)
        assert not unknown, f"{page}: {script} has no {', '.join(sorted(unknown))}"
        return
    try:
        call_script(script, arguments, monkeypatch)
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{page}: {command} is refused")


def check_make(words: list[str]) -> None:
    """Targets and variables of a call of make exist in the Makefile."""
    content = (ROOT / "Makefile").read_text()
    for word in words:
        name, assigned, _ = word.partition("=")
        pattern = rf"^{name} \?=" if assigned else rf"^{name}:"
        assert re.search(pattern, content, re.M), f"the Makefile has no {name}"


def test_flags_in_sentences_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    known = set(FOREIGN_FLAGS)
    for script in SCRIPTS:
        required = ["photo.jpg"] if script == "predict.py" else []
        for kind in call_script(script, required, monkeypatch):
            known |= flags_of_type(kind)
    for path in (ROOT / "benchmarks").glob("bench_*.py"):
        known |= flags_of_benchmark(path)
    for page, text in TEXTS.items():
        codes = [code for code in text.codes if not code.startswith(("pip ", "make "))]
        unknown = flags_in([word.strip("[]…") for code in codes for word in code.split()]) - known - sheet_flags()
        assert not unknown, f"{page}: no command has {', '.join(sorted(unknown))}"


def sheet_flags() -> set[str]:
    """Flags of the command that draws a sheet of synthetic faces."""
    tree = ast.parse((ROOT / "ferlib/data/synthetic/sheet.py").read_text())
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    return {f"--{argument.arg.replace('_', '-')}" for argument in [*main.args.args, *main.args.kwonlyargs]}


# ── files and names ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", TEXTS)
def test_links(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[page].prose):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}, target


@pytest.mark.parametrize("page", TEXTS)
def test_files_exist(page: str) -> None:
    words = {word.strip(",;:()") for code in TEXTS[page].codes for word in code.split()}
    for word in sorted(words):
        first = word.split("/")[0]
        if PLACEHOLDER.search(word) or (first in ("outputs", "data") and not word.endswith(".md")):
            continue
        if word.endswith("_best.pth"):  # what a run writes
            continue
        named = first in FOLDERS and "/" in word
        if named or word.endswith(CHECKED_ENDINGS[: 2 if page == "data/README.md" else None]):
            places = (ROOT / word, (ROOT / page).parent / word)
            assert any(place.exists() for place in places), f"{page} names {word}"


def module_path(name: str) -> Path | None:
    """The file of a module, the folder's __init__.py for a package; None if there is none."""
    path = ROOT / name.replace(".", "/")
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.exists()), None)


def names_in(path: Path) -> set[str]:
    """What a module defines or imports at its top level, and CLASS.NAME of what its classes define."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if hasattr(node, "target") else []
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module of this project, or something that one defines."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = module_path(".".join(parts[:end]))
        if path:
            return end == len(parts) or ".".join(parts[end:]) in names_in(path)
    return False


@pytest.mark.parametrize("page", TEXTS)
def test_dotted_names_exist(page: str) -> None:
    own = {"ferlib", *(path.stem for path in ROOT.glob("*.py"))}
    for code in TEXTS[page].codes:
        name = code.removesuffix("()")
        if re.fullmatch(r"\w+(\.\w+)+", name) and name.split(".")[0] in own and not name.endswith(CHECKED_ENDINGS):
            assert is_defined(name), f"{page} names {name}"


@pytest.mark.parametrize("page", TEXTS)
def test_imports_in_python_blocks_exist(page: str) -> None:
    for language, block in TEXTS[page].blocks:
        if language != "python" or "import" not in block:
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and module_path(node.module.split(".")[0]):
                missing = [alias.name for alias in node.names if not is_defined(f"{node.module}.{alias.name}")]
                assert not missing, f"{page}: {node.module} has no {', '.join(missing)}"


def test_every_picture_is_shown() -> None:
    shown = {Path(target).name for text in TEXTS.values() for target in re.findall(r"\]\(([^)]+)\)", text.prose)}
    pictures = {path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".jpg", ".webp", ".svg")}
    assert pictures <= shown


def test_the_picture_of_the_layers_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "draw_layers.py"))
    assert script["PICTURE"].read_text() == script["draw"](), "run: python docs/draw_layers.py"


# ── what the pages promise ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_readme_is_short() -> None:
    content = (ROOT / "README.md").read_text()
    assert len(content.splitlines()) <= 200
    assert len(content.split()) <= 2200
    assert len(re.findall(r"!\[", content)) == 1
    results = content[content.index("## Results") : content.index("## Where things are")]
    assert len(re.findall(r"^\|", results, re.M)) - 2 <= 8


def test_the_tree_in_the_readme_is_the_tree_of_the_project() -> None:
    tree = next(block for _, block in TEXTS["README.md"].blocks if "ferlib/\n" in block)
    listed, folder = set(), ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        listed.add(folder + name if line.startswith(" ") else name)
    rooms = {f"ferlib/{path.parent.name}/" for path in (ROOT / "ferlib").glob("*/__init__.py")}
    assert listed == {path.name for path in ROOT.glob("*.py")} | {f"{name}/" for name in FOLDERS} | rooms


def test_the_root_holds_commands_tables_and_project_files_only() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    found = {line.split("/")[0] for line in done.stdout.splitlines() if not line.startswith(".")}
    assert found == FOLDERS | FILES | CARD | set(SCRIPTS)


def test_every_explanation_method_is_described() -> None:
    from ferlib.explanations.methods import METHODS

    content = (ROOT / "docs" / "explaining.md").read_text()
    missing = [row.choice for row in METHODS.values() if row.choice not in content and row.title not in content]
    assert not missing


def test_lime_runs_on_a_network_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(block for language, block in TEXTS["docs/explaining.md"].blocks if "import lime" in block)
    exec(compile(block, "docs/explaining.md", "exec"), {})
    assert capsys.readouterr().out == "(2, 64, 64)\n"
