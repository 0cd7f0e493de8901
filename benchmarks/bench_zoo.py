"""Every model of the zoo trained from random weights with one short recipe: accuracy and images per second of each.

python benchmarks/bench_zoo.py --dataset fer2013 --ensemble

The runs are named MODEL_DATASET_zoo; what is done is not done again, and a training that was stopped goes on. Networks
made for pictures of 224 px see the faces at --side. With --ensemble the predictions are joined by ensemble.py. Speeds
are medians of steps on random faces, trained and evaluated in turns; measure them (--speed) on a quiet machine.

A longer training of some of them takes a tag of its own:
python benchmarks/bench_zoo.py --dataset fer2013 --ensemble --epochs 12 --tag zoo12 --models fer_vgg resnet18 fer_resnet
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

import config
import ensemble
import train
from evaluate import evaluate
from ferlib.evaluation.ensembles import member_name
from ferlib.evaluation.scored_checkpoints import is_current
from ferlib.evaluation.terminal import summarize_members
from ferlib.inference.engine import name_of
from ferlib.runtime.devices import autocast, autocast_dtype, device_name, resolve_device
from ferlib.runtime.errors import run_script
from ferlib.runtime.files import read_json, write_json
from ferlib.training import engine
from ferlib.training.losses import make_criterion
from ferlib.training.state import start_training
from ferlib.training.trained import train_if_missing
from models import MODELS, model_spec, resized
from recipes import RECIPES, changed

LARGE = 100  # px; models that see larger faces than this by default take them at --side
SPEED_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Flags(config.Stage):
    dataset: str = "fer2013"
    tag: str = "zoo"
    models: tuple[str, ...] = tuple(name for name in MODELS if not model_spec(name).fixed_size)
    epochs: int = RECIPES["zoo"].training.epochs
    side: int = 64  # px, of the faces that large models see
    ensemble: bool = False  # join all of them
    speed: bool = False  # measure the speeds now; otherwise those measured before are printed
    rounds: int = 3  # of each speed

    @property
    def speeds(self) -> Path:
        return Path(self.outputs_dir) / "benchmarks" / "zoo_speeds.json"


def settings(name: str, flags: Flags) -> config.Train:
    """How a model is trained: by the recipe, but AlexNet's pools leave nothing of faces that are smaller at first."""
    side = flags.side if model_spec(name).image_size > LARGE else None
    recipe = changed(RECIPES["zoo"], epochs=flags.epochs)
    if name == "alexnet":
        recipe = changed(recipe, start_size=1.0)
    return config.Train(model=name, recipe="zoo", settings=recipe, image_size=side, **shared(flags))


def shared(flags: Flags) -> dict[str, Any]:
    """The flags that go on to every stage."""
    return {key.name: getattr(flags, key.name) for key in fields(config.Stage) if key.name != "model"}


def make_run(name: str, flags: Flags) -> None:
    """Trains and evaluates a model as far as that is not done yet."""
    wanted = settings(name, flags)
    _, trained = train_if_missing(wanted, train.fit)
    results = wanted.run.results
    if trained or not results.exists() or not is_current(read_json(results, "evaluate.py"), wanted.run):
        evaluate(config.Evaluate(model=name, **shared(flags)))


# ── speed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_speed(name: str, flags: Flags) -> dict[str, float]:
    """Images per second of a training step and of evaluation, at the full size of the faces."""
    wanted, device = settings(name, flags), resolve_device(flags.device)
    dtype, recipe = autocast_dtype(device, flags.amp), wanted.settings
    spec = resized(model_spec(name), wanted.image_size)
    training = start_training(wanted, device, dtype)
    faces = torch.rand(SPEED_BATCH, spec.channels, spec.image_size, spec.image_size, device=device)
    labels = torch.arange(SPEED_BATCH, device=device) % len(config.EMOTIONS)
    part = faces, torch.eye(len(config.EMOTIONS), device=device)[labels], torch.ones(SPEED_BATCH, device=device)
    loss = make_criterion(recipe.objective.loss, recipe.objective, len(config.EMOTIONS))

    def learn() -> None:
        training.model.train()
        options = {"sam_rho": recipe.regularization.sam_rho, "clip_norm": recipe.optimization.clip_norm}
        engine.update_weights(training, part, loss, dtype=dtype, **options).sum().item()

    @torch.inference_mode()
    def predict() -> None:
        training.model.eval()
        with autocast(device, dtype):
            training.model(faces).sum().item()  # waits for the device

    seconds = take_turns({"training": learn, "evaluation": predict}, flags.rounds)
    return {kind: SPEED_BATCH / duration for kind, duration in seconds.items()}


def take_turns(actions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each, after one turn that chooses kernels."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────

COLUMNS = ["model", "parameters", "px", "val", "test (95 % interval)", "without copies", "macro F1"]
COLUMNS += ["trains", "evaluates"]


def measure_speeds(flags: Flags) -> dict[str, Any]:
    """By model; those measured before at the same size, in the same precision, on the same device are kept.

    With --speed all are measured again.
    """
    known = flags.speeds.exists()
    speeds = read_json(flags.speeds, "python benchmarks/bench_zoo.py --speed")["speeds"] if known else {}
    device = resolve_device(flags.device)
    for name in flags.models:
        side = resized(model_spec(name), settings(name, flags).image_size).image_size
        facts = {"px": side, "precision": name_of(autocast_dtype(device, flags.amp)), "device": device_name(device)}
        if flags.speed or speeds.get(name, {}) | facts != speeds.get(name):
            speeds[name] = measure_speed(name, flags) | facts
            write_json(flags.speeds, {"speeds": speeds})
    return speeds


def print_table(flags: Flags, speeds: dict[str, Any]) -> None:
    """In Markdown, the most accurate on val first; speeds in images per second."""
    rows = sorted(describe(name, flags, speeds[name]) for name in flags.models)
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *(cells for _, cells in rows)):
        print(f"| {' | '.join(cells)} |")


def describe(name: str, flags: Flags, speed: dict[str, float]) -> tuple[float, list[str]]:
    """Minus the accuracy on val, and the cells of a model's row."""
    run = settings(name, flags).run
    history, results = (read_json(path, run.command("train.py")) for path in (run.history, run.results))
    on_val = history["epochs"][history["best_epoch"] - 1]["val_accuracy"]
    low, high = results["intervals"]["accuracy"]
    clean = results["without_training_copies"]  # None: they are not looked for
    return -on_val, [
        f"`{name}`",
        f"{history['parameters'] / 1e6:.1f} M",
        str(history["image_size"] or model_spec(name).image_size),
        f"{on_val:.2%}",
        f"{results['accuracy']:.2%} ({low:.1%} to {high:.1%})",
        f"{clean['accuracy']:.2%}" if clean else "",
        f"{results['macro_f1']:.2%}",
        f"{speed['training']:.0f}",
        f"{speed['evaluation']:.0f}",
    ]


def main() -> None:
    flags = tyro.cli(Flags)
    for name in flags.models:
        make_run(name, flags)
    print_table(flags, measure_speeds(flags))
    if flags.ensemble:
        members = tuple(member_name(settings(name, flags).run) for name in flags.models)
        print(summarize_members(ensemble.join(config.Ensemble(members=members, **shared(flags)))["ensemble"]))


if __name__ == "__main__":
    run_script(main)
