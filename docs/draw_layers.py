"""Draws the layers of tests/test_layers.py as docs/layers.svg: python docs/draw_layers.py"""

from __future__ import annotations

import ast
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "layers.svg"
WIDTH, MARGIN, GAP, HEIGHT = 980, 20, 10, 64  # of the picture, its border, between boxes, of a box
SCRIPTS = "train.py, evaluate.py, explain_lime.py, … at the root: flags → values → a call → what is printed"


def read_layers() -> list[tuple[str, ...]]:
    """LAYERS of the test, from the lowest to the highest."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text())
    value = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "LAYERS")
    return list(ast.literal_eval(value))


def describe(room: str) -> tuple[str, str]:
    """Title and first sentence of the docstring of a folder of ferlib/ or a module at the root."""
    module = ROOT / f"{room}.py"
    path, title = (module, module.name) if module.exists() else (ROOT / "ferlib" / room / "__init__.py", f"{room}/")
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return title, docstring.splitlines()[0]


def draw_box(left: float, top: float, width: float, title: str, words: str, fill: str) -> list[str]:
    """A box with a title and wrapped words."""
    lines = textwrap.wrap(words, int((width - 20) / 5.6))[:2]
    shape = f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{HEIGHT}" rx="8" fill="{fill}"/>'
    texts = [f'<text x="{left + 10:.0f}" y="{top + 21}" class="title">{escape(title)}</text>']
    texts += [
        f'<text x="{left + 10:.0f}" y="{top + 38 + 15 * row}">{escape(line)}</text>' for row, line in enumerate(lines)
    ]
    return [shape, *texts]


def draw() -> str:
    """The picture as SVG: a row of boxes a layer, the highest at the top."""
    layers = read_layers()
    parts = draw_box(MARGIN + 40, MARGIN, WIDTH - 2 * MARGIN - 40, "scripts", SCRIPTS, "#f3e3d3")
    for number, rooms in enumerate(reversed(layers), start=1):
        top = MARGIN + number * (HEIGHT + GAP)
        width = (WIDTH - 2 * MARGIN - 40 - GAP * (len(rooms) - 1)) / len(rooms)
        for position, room in enumerate(rooms):
            fill = "#e4ecd8" if (ROOT / f"{room}.py").exists() else "#dbe7f3"
            parts += draw_box(MARGIN + 40 + position * (width + GAP), top, width, *describe(room), fill)
    height = 2 * MARGIN + (len(layers) + 1) * (HEIGHT + GAP) - GAP
    middle = height / 2
    head = f"{MARGIN},{height - MARGIN - 10} {MARGIN + 12},{height - MARGIN - 10} {MARGIN + 6},{height - MARGIN}"
    arrow = [
        f'<path d="M{MARGIN + 6} {MARGIN} V{height - MARGIN - 10}" stroke="#555" stroke-width="2"/>',
        f'<polygon points="{head}" fill="#555"/>',
        f'<text x="{MARGIN + 22}" y="{middle:.0f}" transform="rotate(-90 {MARGIN + 22} {middle:.0f})">imports</text>',
    ]
    style = "text{font:12px sans-serif;fill:#222}.title{font:bold 14px monospace}"
    start = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
    background = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    return "\n".join([start, f"<style>{style}</style>", background, *parts, *arrow, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw())
