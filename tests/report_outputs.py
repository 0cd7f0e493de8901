"""Made-up outputs of every stage, for the tests of the report."""

import json

import numpy as np
from PIL import Image

from config import EMOTIONS
from ferlib.data.cache import write_stamp
from ferlib.evaluation.calibration import compute_calibration
from ferlib.evaluation.error_analysis import confusion_test, main_confusions
from ferlib.evaluation.metrics import HEADLINES
from ferlib.evaluation.predictions import SavedPredictions, save_predictions
from ferlib.explanations.methods import METHODS
from ferlib.explanations.scores.columns import COLUMNS, SIMPLE
from ferlib.report.plots import PLOTS
from ferlib.runtime.files import write_json
from ferlib.runtime.runs import Run, cache_dir

NASTY = '"><script>window.hacked = 1</script>.png'
DATASET = "fer2013"
FINGERPRINT = "f00d"
METHODS_SHOWN = ("lime", "shap", "gradcam", "smoothgrad", "integrated_gradients", "occlusion")


def write_picture(path, side: int = 60, noise: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (side, 2 * side, 3), np.uint8) if noise else None
    image = Image.fromarray(pixels) if noise else Image.new("RGBA", (2 * side, side), (0, 114, 178, 255))
    image.save(path)


def write_history(run: Run, **changes) -> None:
    epoch = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.7, "val_loss": 1.1, "val_accuracy": 0.654}
    content = {
        "run": run.identity(),
        "recipe": {"weights": "none", "epochs": 1, "class_weights": False},
        "init_from": "",
        "image_size": None,
        "max_steps": None,
        "recipe_name": "quick",
        "seed": 3,
        "device": "2 CPU threads",
        "precision": "float32",
        "command": "python train.py --made-up",
        "parameters": 123456,
        "data": {"fingerprint": FINGERPRINT, "counts": {split: [10] * 7 for split in ("train", "val", "test")}},
        "versions": {"torch": "9.9"},
        "epochs": [epoch],
        "best_epoch": 1,
        "finished": True,
        "minutes": 1.5,
    }
    write_json(run.history, content | changes)


def make_matrix(support: int) -> np.ndarray:
    """Every class recognised but for 20 faces, and 20 faces of Fear taken for Sad."""
    matrix = np.diag([support - 20] * 7)
    matrix[2, 5] = 20
    return matrix


def write_results(run: Run, accuracy: float = 0.7012, support: int = 300, **changes) -> None:
    row = {"precision": 0.61, "recall": 0.62, "f1": 0.63, "auc": None, "average_precision": None, "support": support}
    row |= {"intervals": dict.fromkeys(("precision", "recall", "f1", "auc"))}
    matrix = make_matrix(support)
    content = {
        "run": run.identity(),
        "split": "test",
        "fingerprint": FINGERPRINT,
        "views": "single",
        "other_views": {},
        "samples": 7 * support,
        "accuracy": accuracy,
        "macro_f1": 0.6543,
        "weighted_f1": 0.6789,
        "mean_auc": None,
        "ece": 0.05,
        "nll": 0.9,
        "brier": 0.4,
        "intervals": {**dict.fromkeys(HEADLINES), "accuracy": [accuracy - 0.02, accuracy + 0.02]},
        "without_training_copies": {
            "samples": 7 * support - 50,
            "accuracy": accuracy - 0.03,
            "macro_f1": 0.61,
            "intervals": {"accuracy": [accuracy - 0.05, accuracy - 0.01]},
        },
        "per_class": [{"emotion": emotion, **row} for emotion in EMOTIONS],
        "confusion_matrix": matrix.tolist(),
        "main_confusions": main_confusions(matrix),
        "confusion_test": confusion_test(matrix),
        "confident_errors": [],
        "calibration": compute_calibration(*labels_and_probabilities(matrix)),
        "checkpoint": {"path": str(run.best_checkpoint), "epoch": 1, "metrics": {"accuracy": 0.654}},
        "parameters": 123456,
        "images_per_second": 1234.5,
        "device": "2 CPU threads",
        "precision": "float32",
        "command": "python evaluate.py --made-up",
        "versions": {"torch": "9.9"},
    }
    write_json(run.results, content | changes)


def labels_and_probabilities(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces that `matrix` counts; those of a cell fall from 0.9 to 0.5 in probability."""
    labels, probabilities = [], []
    for true, row in enumerate(matrix):
        for predicted, count in enumerate(row):
            for confidence in np.linspace(0.9, 0.5, count):
                labels.append(true)
                probabilities.append(np.full(7, (1 - confidence) / 6))
                probabilities[-1][predicted] = confidence
    return np.array(labels), np.array(probabilities)


def write_predictions(run: Run, support: int = 300, names=None) -> None:
    """Predictions that make_matrix counts."""
    labels, probabilities = labels_and_probabilities(make_matrix(support))
    names = np.array([f"face_{index}.png" for index in range(len(labels))]) if names is None else np.array(names)
    save_predictions(run.predictions, SavedPredictions(labels, probabilities, np.log(probabilities), names))


def write_cache(outputs_dir, count: int = 1980, fingerprint: str = FINGERPRINT, names=None) -> None:
    """A decoded data set of `count` test faces, each a smooth square of its own."""
    folder = cache_dir(outputs_dir) / f"{DATASET}-{16 * 'a'}"
    folder.mkdir(parents=True)
    coarse = np.random.default_rng(1).integers(0, 256, (count, 6, 6), np.uint8)
    images = np.kron(coarse, np.ones((1, 8, 8), np.uint8))
    (folder / "images.bin").write_bytes(images.tobytes())
    (folder / "facts.json").write_text(json.dumps({"shape": [count, 48, 48, 1], "fingerprint": fingerprint}))
    names = np.array([f"face_{index}.png" for index in range(count)]) if names is None else names
    np.savez(folder / "columns.npz", labels=np.zeros(count, int), splits=np.full(count, 2), names=names)
    write_stamp(folder)  # the fingerprint is made up


def face(index: int, figure: str | None, **changes) -> dict:
    """A face as an explain script describes it: Angry, taken for Sad."""
    predicted = changes.get("predicted", "Sad")
    probability = changes.get("probability", 0.8123)
    probabilities = [(1 - probability) / 6] * 7
    probabilities[EMOTIONS.index(predicted)] = probability
    content = {
        "index": index,
        "name": f"face_{index}.png",
        "true": "Angry",
        "predicted": predicted,
        "target": predicted,
        "probability": probability,
        "probabilities": probabilities,
        "figure": figure,
    }
    return content | changes


def write_explanations(run: Run, method: str, faces: list[dict], side: int = 44, **changes) -> None:
    content = {
        "run": run.identity(),
        "method": method,
        "settings": {"made_up_setting": 1000, "hide_value": 0.5, **METHODS[method].constants},
        "seed": 3,
        "command": f"python explain_{method}.py --made-up",
        "explained": "predicted class",
        "image_size": side,
        "scaled_size": max(side, 48),
        "seconds_per_face": 0.5,
        "faces": faces,
    }
    write_json(run.explanation_summary(method), content | changes)
    maps = np.random.default_rng(len(method)).normal(size=(len(faces), side, side)).astype(np.float16)
    maps = maps if METHODS[method].signed else np.abs(maps)
    indices = np.array([each["index"] for each in faces])
    targets = np.array([EMOTIONS.index(each["target"]) for each in faces])
    np.savez_compressed(
        run.explanation_maps(method), maps=maps, indices=indices, targets=targets, against=np.full(len(faces), -1)
    )


def write_scores(run: Run, methods=("regions", "lime"), **changes) -> None:
    def row(place: int) -> dict:
        cell = {"low": 0.1, "high": 0.4, "faces": 20, "rank": float(place + 1), "beats_simple": place == 0}
        return {column.name: {"mean": 0.3 - place / 10, **cell} for column in COLUMNS}

    table = {name: row(place) for place, name in enumerate(methods)}
    table |= {name: {"road": {**row(1)["road"], "rank": None, "beats_simple": None}} for name in SIMPLE}
    content = {
        "run": run.identity(),
        "checkpoint": str(run.best_checkpoint),
        "checkpoint_digest": "0" * 64,
        "faces": 20,
        "titles": {name: METHODS[name].title for name in methods} | SIMPLE,
        "table": table,
        "concordance": {"truth": None, "all": {"w": 0.4, "columns": ["road"], "methods": list(methods)}},
        "region_shares": {
            name: {"Happy_right": {"faces": 9, "mouth": {"mean": 0.5, "low": 0.4, "high": 0.6}}} for name in methods
        },
        "passes": 1300.0,
    }
    write_json(run.scores, content | changes)


def write_complete(run: Run, faces: int = 2, methods=tuple(METHODS), **picture) -> None:
    """Every stage of one run."""
    write_history(run)
    write_results(run)
    write_predictions(run)
    for kind in PLOTS:
        write_picture(run.plot(kind), **picture)
    write_scores(run)
    for method in methods:
        write_explanations(run, method, [face(index, f"{index}.png", r2=0.777) for index in range(faces)])
        for index in range(faces):
            write_picture(run.explanations(method) / f"{index}.png", **picture)
