"""Teachers: trained networks whose probabilities for the training faces another one learns beside the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from config import EMOTIONS, EngineFlags, TrainingStage
from ferlib.data.face_data import FaceData
from ferlib.inference.splits import open_predictor
from ferlib.inference.views import count_views
from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.digests import digest, digest_file
from ferlib.runtime.distributed import is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path, require
from ferlib.runtime.runs import SHIPPED, Run, cache_dir, named_checkpoint
from models import model_spec, training_command

if TYPE_CHECKING:
    from ferlib.inference.splits import Predictor

Teachers = dict[str, tuple[Run, Path]]  # by name: a run of the teacher's model, and its checkpoint


def find_teachers(flags: TrainingStage) -> Teachers:
    """The checkpoints that --teacher names.

    UserError for one that does not exist or is named twice, for the run itself, and for a data set of other classes.
    """
    if not flags.teacher:
        return {}
    found = {name: find_teacher(name, flags) for name in flags.teacher}
    own = {path.resolve() for path in (flags.run.best_checkpoint, flags.run.last_checkpoint)}
    if itself := [name for name, (_, path) in found.items() if path.resolve() in own]:
        raise UserError(f"--teacher {itself[0]} is the run that is trained; give the student a --tag")
    if len(set(digests_of(found).values())) < len(flags.teacher):
        raise UserError(f"--teacher names a network twice: {' '.join(flags.teacher)}")
    return found


def find_teacher(name: str, flags: TrainingStage) -> tuple[Run, Path]:
    """The run and checkpoint of one name: MODEL or MODEL:TAG on the same data set, a shipped network, or a file."""
    if name in SHIPPED or Path(name).suffix in (".pth", ".pt") or Path(name).is_file():
        from ferlib.networks.checkpoints import read_checkpoint

        path = named_checkpoint(Path(name))
        return Run(read_checkpoint(path)["model"], flags.dataset, outputs_dir=flags.outputs_dir), path
    model, _, tag = name.partition(":")
    model_spec(model)
    run = Run(model, flags.dataset, tag, flags.outputs_dir, flags.fold)
    return run, require(run.best_checkpoint, training_command(run))


def digests_of(teachers: Teachers) -> dict[str, str]:
    """The SHA-256 of each teacher's checkpoint, by its name."""
    return {name: digest_file(path) for name, (_, path) in teachers.items()}


def teach(teachers: Teachers, digests: Mapping[str, str], train: FaceData, flags: TrainingStage) -> np.ndarray:
    """Probabilities float32 N×7 of the training faces at the temperature of the objective: the teachers' mean.

    Each teacher's are computed once over `teacher_views` of a face and kept in the cache. UserError for a data set of
    other classes than the teachers'.
    """
    if train.classes != EMOTIONS:
        raise UserError(f"--teacher: {train.facts.title} has other classes than the seven emotions")
    temperature = flags.settings.objective.teacher_temperature
    logits = [predict_faces(name, run, path, digests[name], train, flags) for name, (run, path) in teachers.items()]
    return np.mean([softmax(each / temperature, axis=1) for each in logits], axis=0).astype(np.float32)


def predict_faces(name: str, run: Run, path: Path, of_file: str, train: FaceData, flags: TrainingStage) -> np.ndarray:
    """Logits float32 N×7 of one teacher, from the cache where they lie there; of_file: the digest that is recorded."""
    excluded = ["without leaks"] if flags.exclude_leaks else []
    key = digest(of_file, train.fingerprint, flags.teacher_views, flags.amp, *excluded)
    cached = cache_dir(flags.outputs_dir) / "teachers" / f"{key}.npz"
    try:
        logits = read_npz(cached, ("logits",))["logits"]
        if logits.shape == (len(train), len(EMOTIONS)) and np.isfinite(logits).all():
            return logits
    except (FileNotFoundError, DamagedError, KeyError):
        pass
    predict = open_teacher(run, path, train, flags)
    if predict.checkpoint_digest != of_file:
        raise UserError(f"{path} was replaced while it was read; run the command again when {name} is trained")
    logits = predict(train.images, flags.teacher_views, f"{name} teaches").numpy()
    if is_main():
        with atomic_path(cached) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, logits=logits)
    return logits


def open_teacher(run: Run, path: Path, train: FaceData, flags: TrainingStage) -> Predictor:
    """The teacher on the engine that is fastest for so many faces."""
    passes = len(train) * count_views(flags.teacher_views)
    engine = EngineFlags()
    return open_predictor(
        run, checkpoint=path, device=flags.device, amp=flags.amp, flags=engine, data=train, passes=passes
    )
