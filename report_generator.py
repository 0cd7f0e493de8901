"""One self-contained HTML page on all runs of a data set: python report_generator.py --dataset fer2013"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import tyro
from PIL import Image

from config import EMOTIONS, Report, Run, dataset_facts, report_path
from error_analysis import main_confusions, test_in_words
from report_caveats import find_caveats
from report_data import (
    PLOTS,
    Method,
    ModelReport,
    find_highest,
    interval_axis,
    majority,
    number,
    percent,
    read_cross,
    read_models,
    shown_methods,
)
from utils import atomic_path, run_script

TEMPLATES = Path(__file__).parent / "templates"
PICTURE_BYTES = 10_500_000  # all pictures of a page together; base64 makes 14 MB of them
ENCODINGS = ((1200, 80), (1000, 72), (800, 64), (640, 50))  # (widest side in pixels, WebP quality), best first


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Missing:
    """A stage of a run that has not run, or whose files are gone."""

    model: ModelReport
    script: str
    files: tuple[str, ...]  # in words

    @property
    def command(self) -> str:
        return self.model.run.command(self.script)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def figure_path(run: Run, method: str, face: dict[str, Any]) -> Path | None:
    """Where the figure of an explained face lies; None for a face explained with --no-figures."""
    return run.explanations(method) / Path(face["figure"]).name if face["figure"] else None


def picture_paths(models: Iterable[ModelReport]) -> Iterator[Path]:
    """Every picture that the page may show, there or not."""
    for model in models:
        yield from (model.run.plot(kind) for kind in PLOTS)
        for method, summary in model.explanations.items():
            figures = (figure_path(model.run, method, face) for face in (summary or {"faces": ()})["faces"])
            yield from (path for path in figures if path)


def embed_pictures(paths: Iterable[Path]) -> dict[Path, Picture]:
    """The pictures of `paths` that exist and can be read, sized so that all of them together stay in PICTURE_BYTES."""
    there = sorted({path for path in paths if path.exists()})
    limit = PICTURE_BYTES // max(1, len(there))
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(lambda path: embed_picture(path, limit), there)
        return {path: picture for path, picture in zip(there, pictures, strict=True) if picture}


def embed_picture(path: Path, limit: int) -> Picture | None:
    """A picture as a data URI of the best encoding below `limit` bytes, else of the smallest; None if unreadable."""
    try:
        with Image.open(path) as file:
            image = on_white(file)
    except OSError:
        return None
    for side, quality in ENCODINGS:
        content, (width, height) = encode(image, side, quality)
        if len(content) <= limit:
            break
    return Picture(f"data:image/webp;base64,{base64.b64encode(content).decode()}", width, height)


def on_white(image: Image.Image) -> Image.Image:
    """`image` as RGB; transparent parts turn white."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def encode(image: Image.Image, side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """WebP bytes of `image`, made smaller (never larger) to `side` pixels, and the size in pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality, method=2)  # 4 takes three times as long for 8 % less
    return buffer.getvalue(), small.size


# ── what is missing ──────────────────────────────────────────────────────────────────────────────────────────────────


def find_missing(models: Iterable[ModelReport], pictures: dict[Path, Picture]) -> list[Missing]:
    """The stages of each run that are missing, one row per command."""
    models = list(models)
    methods = shown_methods(models)
    return [
        Missing(model, script, tuple(files))
        for model in models
        for script, files in missing_files(model, methods, pictures).items()
    ]


def missing_files(
    model: ModelReport, methods: dict[str, Method], pictures: dict[Path, Picture]
) -> dict[str, list[str]]:
    """script → what it has not left of this run; an ensemble is written whole."""
    if model.is_ensemble:
        return {}
    plots = {kind: plot for kind, plot in PLOTS.items() if plot.expected}
    expected = [
        ("train.py", "history", model.history),
        ("evaluate.py", "results", model.results),
        *((plot.script, plot.title, pictures.get(model.run.plot(kind))) for kind, plot in plots.items()),
        *((method.script, f"{method.title} explanations", model.explanations[key]) for key, method in methods.items()),
    ]
    missing: dict[str, list[str]] = {}
    for script, what, found in expected:
        if found is None:
            missing.setdefault(script, []).append(what)
    return missing


# ── page ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def on_axis(value: float, axis: tuple[float, float]) -> float:
    """Where `value` lies between the ends of `axis`, 0 to 1."""
    low, high = axis
    return round((value - low) / (high - low), 4)


def sentence(text: str) -> str:
    """`text` with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def slug(name: str) -> str:
    """`name` fit for the id of an element and for the link to it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def environment() -> jinja2.Environment:
    """Templates that escape every value and fail on a misspelt one."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        dataset_title=dataset_title, percent=percent, number=number, on=on_axis, sentence=sentence, slug=slug
    )
    environment.filters.update(confusions=main_confusions, majority=majority, in_words=test_in_words)
    return environment


def dataset_title(name: str) -> str:
    return dataset_facts(name).title


def report_command(outputs_dir: Path, dataset: str) -> str:
    """The command that makes the page again."""
    return Run("", dataset, outputs_dir=outputs_dir).command(Path(__file__).name)


def render_page(models: list[ModelReport], dataset: str) -> str:
    """The HTML of the page; `models` by falling accuracy."""
    pictures = embed_pictures(picture_paths(models))
    evaluated = [model for model in models if model.results]
    template = environment().get_template("report.html")
    return template.render(
        dataset=dataset_facts(dataset),
        made=datetime.now().astimezone(),
        emotions=EMOTIONS,
        models=models,
        evaluated=evaluated,
        best=evaluated[0] if evaluated else None,
        caveats=find_caveats(models, dataset) if evaluated else [],
        axis=interval_axis(models),
        highest=find_highest(evaluated),
        missing=find_missing(models, pictures),
        command=report_command(models[0].run.outputs_dir, dataset),
        pictures=pictures,
        cross=read_cross(models[0].run.outputs_dir),
        plots=PLOTS,
        methods=shown_methods(models),
        figure_path=figure_path,
    )


def build_report(outputs_dir: Path, dataset: str) -> Path:
    """Writes the page on `dataset` from what the stages left below `outputs_dir` and returns its path.

    Raises UserError for an unknown data set, when no run is there, and for a file that is broken or of an older shape.
    """
    dataset_facts(dataset)
    page = render_page(read_models(Path(outputs_dir), dataset), dataset)
    path = report_path(outputs_dir, dataset)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def main() -> None:
    config = tyro.cli(Report)
    path = build_report(config.outputs_dir, config.dataset)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_script(main)
