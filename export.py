"""Ships a run: its best checkpoint in half precision and a model card, below pretrained/.

python export.py --model fer_resnet_wide --dataset fer2013
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import jinja2
import torch
import tyro

import config
from ferlib.data.facts import dataset_facts
from ferlib.networks.checkpoints import read_tensors
from ferlib.report.words import percent
from ferlib.runtime.errors import run_script
from ferlib.runtime.files import atomic_path, read_json, require
from ferlib.runtime.runs import Run
from models import model_spec

TEMPLATES = Path(__file__).parent / "ferlib" / "report" / "templates"


def export(run: Run, folder: Path) -> tuple[Path, Path]:
    """Writes the weights as float16 and the card; returns both paths. The run must have been evaluated.

    Half precision rounds a weight by 2⁻¹¹ of itself at most; evaluate.py --checkpoint tells what that changes.
    """
    history = read_json(run.history, run.command("train.py"))
    results = read_json(run.results, run.command("evaluate.py"))
    content = read_tensors(require(run.best_checkpoint, run.command("train.py")))
    content["state"] = {name: to_half(tensor) for name, tensor in content["state"].items()}
    weights, card = folder / f"{run.name}.pth", folder / f"{run.name}.md"
    with atomic_path(weights) as temporary:
        torch.save(content, temporary)
    with atomic_path(card) as temporary:
        temporary.write_text(model_card(run, history, results, weights.stat().st_size))
    return weights, card


def from_the_start(command: str) -> str:
    """A command less the flags that say where on one machine the files were, and that a stopped run went on."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        name, given, _ = word.partition("=")
        if name == "--resume":  # a flag without a value
            continue
        if name not in ("--data-dir", "--outputs-dir"):
            kept.append(word)
        elif not given:
            next(words)
    return shlex.join(kept)


def to_half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def model_card(run: Run, history: dict[str, Any], results: dict[str, Any], size: int) -> str:
    """Markdown: data, recipe, seed, command, hardware, accuracies with intervals, classes, limits of use."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False
    )
    environment.filters["percent"] = lambda fraction: percent(fraction, 2)
    best = next(epoch for epoch in history["epochs"] if epoch["epoch"] == history["best_epoch"])
    return environment.get_template("model_card.md").render(
        run=run,
        dataset=dataset_facts(run.dataset),
        spec=model_spec(run.model),
        history=history,
        command=from_the_start(history["command"]),
        results=results,
        best=best,
        megabytes=size / 1e6,
    )


def main() -> None:
    flags = tyro.cli(config.Export)
    for path in export(flags.run, flags.pretrained_dir):
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    run_script(main)
