"""Predicts the expressions of the faces in photos, by default with the shipped model.

python predict.py photo.jpg holiday/ --explain regions --json faces.json
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import EMOTIONS, Predict
from ferlib.explanations.methods import find_method
from ferlib.explanations.photo_predictions import class_index, predict_photo
from ferlib.explanations.photo_predictions import predict_single_image as predict_single_image
from ferlib.faces.detectors import detector_title, open_detector
from ferlib.faces.model_files import find_checkpoint
from ferlib.faces.photos import find_photos, name_photos, read_photo
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import check_distinct, check_writable, write_json
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.provenance import command_line
from ferlib.runtime.runs import annotated_photo
from ferlib.runtime.terminal import printable

if TYPE_CHECKING:
    from ferlib.faces.detection import Detector
    from ferlib.faces.face_model import FaceModel


def predict(flags: Predict) -> list[dict[str, Any]]:
    """Predicts all photos, prints and writes what the flags ask for; a row a photo, with its faces or an error."""
    check(flags)
    photos = name_photos(find_photos(flags.images))
    check_outputs(flags, photos)
    from tqdm import tqdm

    from ferlib.faces.face_model import open_face_model
    from ferlib.faces.photo_rows import describe_row, write_csv

    choice = (flags.model, flags.dataset, flags.tag, flags.checkpoint, flags.outputs_dir, flags.device)
    model = open_face_model(*choice, flags, passes=len(photos))
    detector = None if flags.whole else open_detector(flags.detector, flags.detector_weights, flags.min_score)
    facts = describe_run(flags, model, detector)
    engine = f"{model.engine.name}, {model.engine.precision}"
    calibrated = f"temperature {facts['temperature']:.2f}" if facts["temperature"] else "probabilities not calibrated"
    print(f"{printable(model.label)}, one view, {calibrated}, {engine}; face detector: {facts['detector']}")
    rows: list[dict[str, Any]] = []
    with ExitStack() as files:  # written also after ctrl-C, with the rows so far
        if flags.json:
            files.callback(write_rows, flags.json, facts, rows)
        if flags.csv:
            files.callback(write_csv, flags.csv, rows)
        with tqdm(total=len(photos), desc="photos", unit=" photos", disable=len(photos) == 1) as progress:
            for name, path in photos.items():
                rows.append(predict_file(path, name, model, detector, flags))
                progress.write(describe_row(rows[-1]), file=sys.stdout)
                progress.update()
    return rows


def check(flags: Predict) -> None:
    """UserError for flags that make no sense, before a library is loaded that takes seconds."""
    if not flags.images:
        raise UserError("name a photo or a folder: python predict.py photo.jpg")
    if flags.explain:
        find_method(flags.explain)
    if flags.target:
        class_index(flags.target)
    if flags.min_score is not None and not 0 <= flags.min_score <= 1:
        raise UserError("--min-score is a number in 0..1")
    find_checkpoint(flags.model, flags.dataset, flags.tag, flags.checkpoint, flags.outputs_dir)


def check_outputs(flags: Predict, photos: dict[str, Path]) -> None:
    """UserError for what cannot be written or would replace a photo, before the first one instead of after the last."""
    pictures = [picture_of(name, flags) for name in photos] if flags.figures else []
    check_distinct([flags.json, flags.csv, *pictures], photos.values())
    for path in filter(None, (flags.json, flags.csv, *pictures[:1])):
        check_writable(path)


def picture_of(name: str, flags: Predict) -> Path:
    """The annotated picture of a photo."""
    return annotated_photo(flags.outputs_dir, name, find_method(flags.explain).name if flags.explain else "")


def write_rows(path: Path, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The JSON file: the facts that the photos share, and their rows."""
    write_json(path, {**facts, "photos": rows})


def predict_file(path: Path, name: str, model: FaceModel, detector: Detector | None, flags: Predict) -> dict[str, Any]:
    """The row of one photo, whose annotated picture is saved; an unreadable file gives a row with an error."""
    from ferlib.faces.photo_rows import describe_photo
    from ferlib.figures.annotation import save_annotated

    try:
        photo = read_photo(path)
    except UserError as error:
        return {"photo": printable(str(path)), "error": printable(str(error))}
    faces = predict_photo(photo, model, detector, flags.explain, flags.target)
    row = describe_photo(path, photo, faces, detector)
    if flags.figures:
        row["figure"] = str(picture_of(name, flags))
        method = find_method(flags.explain) if flags.explain else None
        save_annotated(
            Path(row["figure"]), photo.pixels, faces, caption(model, detector, flags), method, flags.own_scale
        )
    return row


def describe_run(flags: Predict, model: FaceModel, detector: Detector | None) -> dict[str, Any]:
    """The facts of a JSON file that its photos share; temperature and level are null where nothing was calibrated."""
    from ferlib.inference.confidence import LEVEL

    fitted = model.calibration.is_fitted
    return {
        "command": printable(command_line()),
        "model": printable(model.label),
        **model.engine.describe(),
        "views": "single",
        "temperature": model.calibration.temperature if fitted else None,
        "candidates_level": LEVEL if fitted else None,
        "detector": detector_title(detector),
        "explanation": flags.explain or None,
        "target": (flags.target or "predicted") if flags.explain else None,
    }


def caption(model: FaceModel, detector: Detector | None, flags: Predict) -> str:
    """The line below an annotated picture: model, calibration, detector, method, target, meaning of the colours."""
    from ferlib.inference.confidence import describe_calibration

    maps = "; the map is of the network without it" if flags.explain and model.calibration.is_fitted else ""
    parts = [f"model: {model.label}, one view", describe_calibration(model.calibration) + maps]
    parts.append(f"face detector: {detector_title(detector)}")
    if flags.explain:
        method = find_method(flags.explain)
        target = EMOTIONS[class_index(flags.target)] if flags.target else "the predicted class"
        background = " (background: drawn faces)" if "background" in method.needs else ""
        parts.append(f"{method.title} of {target}, {method.meaning}{background}")
    return " · ".join(parts)


def main() -> None:
    rows = predict(parse_flags(Predict))
    bad = [row for row in rows if "error" in row]
    if bad:
        more = f", … ({len(bad)} in all)" if len(bad) > 1 else ""
        raise UserError(f"{len(bad)} of {len(rows)} files could not be read: {bad[0]['photo']}{more}")


if __name__ == "__main__":
    run_script(main)
