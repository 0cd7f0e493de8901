"""The model card of a shipped network, as Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ferlib.data.facts import dataset_facts
from ferlib.evaluation.agreement import describe_agreement
from ferlib.report.words import number, percent
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run
from models import model_spec, resized, training_command

TEMPLATES = Path(__file__).parent / "templates"
PATH_FLAGS = ("--data-dir", "--outputs-dir")  # where the files were on one machine

UNEVEN = 3  # how many times as many faces make the other classes rare
ORIGINS = {  # what a data set's name begins with → where its pictures and labels come from
    "fer2013": "It was trained on pictures found by a web search and labelled by few people, with many labels that "
    "others would not share.",
    "ferplus": "It was trained on pictures found by a web search and labelled by ten people each, who often disagree.",
    "rafdb": "It was trained on pictures from the web, with the label that most of some 40 annotators gave.",
    "affectnet": "It was trained on pictures found by a web search, most of them labelled by one person each.",
    "jaffe": "It was trained on expressions posed by ten women in Japan, all photographed alike.",
    "ckplus": "It was trained on expressions that were mostly posed, photographed alike in a laboratory.",
    "synthetic": "It was trained on drawn faces: it says nothing about real ones.",
}
UNKNOWN_ORIGIN = "It was trained on pictures of one's own, of whose origin this card knows nothing."


def make_model_card(run: Run, history: dict[str, Any], results: dict[str, Any], size: int) -> str:
    """Data, recipe, seed, command, hardware, accuracies with intervals, classes, limits of use.

    history, results: as in the run's files. size: of the weights' file, in bytes.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False
    )
    environment.filters |= {"percent": lambda fraction: percent(fraction, 2), "number": number}
    best = next((epoch for epoch in history["epochs"] if epoch["epoch"] == history["best_epoch"]), None)
    if best is None:
        raise UserError(f"{run.history} lacks its best epoch; run again: {training_command(run)}")
    # not in results of earlier versions
    optional = {"on_val": None, "calibrated": None, "exclude_leaks": False, "may_have_seen": False}
    clean = results["without_training_copies"]
    return environment.get_template("model_card.md").render(
        run=run,
        dataset=dataset_facts(run.dataset),
        spec=resized(model_spec(run.model), history["image_size"]),
        history=history,
        command=portable_command(history["command"]),
        results={**optional, **results, "without_training_copies": clean and {"per_class": None, **clean}},
        agreement=describe_agreement(results),
        best=best,
        start=portable_name(str(history["recipe"]["weights"])),
        earlier=history.get("init_from"),
        loss=history.get("loss"),
        votes=history["recipe"].get("votes_weight"),
        teachers=[portable_name(name) for name in history.get("teacher", ())],
        megabytes=size / 1e6,
        origin=origin_of(run.dataset),
        rare=is_uneven(history["data"]["counts"]["train"]),
        unnamed=run.dataset.startswith("fer"),
    )


def origin_of(dataset: str) -> str:
    """A sentence on the pictures and labels that a network was trained on."""
    return next((text for name, text in ORIGINS.items() if dataset.startswith(name)), UNKNOWN_ORIGIN)


def is_uneven(counts: Sequence[int]) -> bool:
    """Whether the most frequent class has UNEVEN times the faces of the rarest."""
    return max(counts) > UNEVEN * min(counts)


def portable_name(name: str) -> str:
    """The name of a run or a relative path as it is; of an absolute path, its last part: folders are one machine's."""
    return Path(name).name if Path(name).is_absolute() else name


def portable_command(command: str) -> str:
    """A training command without PATH_FLAGS, absolute folders of weights and --resume: for any machine."""
    try:
        words, kept = iter(shlex.split(command)), []
    except ValueError as error:
        raise UserError(f"the history's command is damaged ({error}): {command}") from error
    for word in words:
        name, given, _ = word.partition("=")
        if name == "--resume":  # a flag without a value
            continue
        if name not in PATH_FLAGS:
            kept.append(portable_name(word) if word.endswith(".pth") else word)
        elif not given:
            next(words, None)
    return shlex.join(kept)
