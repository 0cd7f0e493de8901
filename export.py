"""Ships a run: its best checkpoint in half precision and a model card, below pretrained/.

python export.py --model fer_resnet_wide --dataset fer2013
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import Export
from ferlib.data.facts import dataset_facts
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import read_json, require, write_json, write_text
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.runs import Run, calibration_beside, checkpoint_name
from models import model_spec, training_command

if TYPE_CHECKING:
    import torch


def export(run: Run, folder: Path, replace: bool = False) -> tuple[Path, Path]:
    """Writes the weights as float16 and the card; returns both paths.

    UserError for a run that is not evaluated, and for a network of the same name in the folder, unless `replace`.

    Half precision changes a weight by 2⁻¹¹ of its value at most; evaluate.py --checkpoint scores the shipped file. The
    head of annotators' votes is a part of training and left out.
    """
    model_spec(run.model)
    dataset_facts(run.dataset)
    from ferlib.evaluation.scored_checkpoints import is_current, outside_checkpoint, results_digest
    from ferlib.evaluation.stage_shapes import HISTORY, RESULTS

    weights, card = folder / f"{run.name}.pth", folder / f"{run.name}.md"
    if weights.exists() and not replace:
        raise UserError(f"{weights} exists; add --replace to write over it, or name another --pretrained-dir")
    history = read_json(run.history, training_command(run), HISTORY)
    results = read_json(run.results, run.command("evaluate.py"), RESULTS)
    checkpoint = require(run.best_checkpoint, training_command(run))
    other = results_digest(results) not in (None, digest_file(checkpoint))  # of a file of this name elsewhere
    if other or outside_checkpoint(run, results) or not is_current(results, run):
        raise UserError(f"{run.results} is of another checkpoint than {checkpoint}; run: {run.command('evaluate.py')}")
    if results["precision"] == "int8":
        raise UserError(
            f"{run.results} is of the network in 8 bits, and the shipped file is not; run: {run.command('evaluate.py')}"
        )
    from ferlib.networks.checkpoints import VOTES_HEAD, read_checkpoint
    from ferlib.networks.tensor_files import save_tensors
    from ferlib.report.model_card import make_model_card

    content = read_checkpoint(checkpoint)
    state = content["state"]
    extra = sum(tensor.numel() for name, tensor in state.items() if name.startswith(VOTES_HEAD))
    content["state"] = {name: to_half(tensor) for name, tensor in state.items() if not name.startswith(VOTES_HEAD)}
    results = {**results, "parameters": results["parameters"] - extra}
    make_model_card(run, history, results, 0)  # raises what it raises before anything is written
    calibration = read_own_calibration(run)
    save_tensors(weights, content)
    export_calibration(calibration, weights)
    write_text(card, make_model_card(run, history, results, weights.stat().st_size))
    return weights, card


def read_own_calibration(run: Run) -> dict[str, Any] | None:
    """The run's temperature and prediction sets; None for a run that was evaluated by an earlier version.

    UserError for those of another checkpoint.
    """
    from ferlib.inference.confidence import SHAPE

    if not run.calibration.exists():
        return None
    content = read_json(run.calibration, run.command("evaluate.py"), SHAPE)
    if content["checkpoint_digest"] != digest_file(run.best_checkpoint):
        raise UserError(f"{run.calibration} is of another checkpoint; run: {run.command('evaluate.py')}")
    return content


def export_calibration(content: dict[str, Any] | None, weights: Path) -> None:
    """A calibration beside the shipped weights, whose rounding does not change it; none from before stays there."""
    if content is None:
        calibration_beside(weights).unlink(missing_ok=True)
    else:
        write_json(calibration_beside(weights), content | {"checkpoint_digest": digest_file(weights)})


def to_half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def main() -> None:
    flags = parse_flags(Export)
    weights, card = export(flags.run, flags.pretrained_dir, flags.replace)
    for path in filter(Path.exists, (weights, card, calibration_beside(weights))):
        print(f"{path} ({path.stat().st_size / 1e3:,.0f} kB)")
    print(f"to use it: python predict.py PHOTO --checkpoint {checkpoint_name(weights)}")


if __name__ == "__main__":
    run_script(main)
