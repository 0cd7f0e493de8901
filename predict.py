"""Names the expressions of the faces in photos; by default with the shipped model.

python predict.py photo.jpg holiday/ --explain gradcam --json faces.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

import config
from config import EMOTIONS
from ferlib.faces.crops import crop_face, whole_face
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import DETECTORS, open_detector
from ferlib.faces.face_model import EXPLAINERS, FaceModel, open_face_model
from ferlib.faces.photo_rows import FacePrediction, describe_photo, describe_row, write_csv
from ferlib.faces.photos import Photo, find_photos, read_photo
from ferlib.figures.annotation import Annotation, annotate
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.files import atomic_path, write_json
from ferlib.runtime.provenance import command_line
from ferlib.runtime.runs import annotated_photo, slug

# ── for programs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def predict_single_image(
    image: Path | str | Image.Image | np.ndarray,
    model: FaceModel | None = None,
    detector: Detector | None = None,
    *,
    explain: str = "",
    target: str = "",
    whole: bool = False,
) -> list[FacePrediction]:
    """The faces of a picture, the largest first; none if there is no face.

    image: a file, a PIL image or an array uint8 H×W×3 RGB. model: open_face_model(…), by default the shipped one.
    detector: open_detector(…), by default YuNet or what there is. explain: a method of predictor.EXPLAINERS, whose
    maps explain the predicted class or `target`. whole: the picture is one face, cropped already. UserError for
    pictures that cannot be read and unknown names.
    """
    model = model or shipped_model()
    detector = detector or (None if whole else usual_detector())
    return predict_photo(read_photo(image), model, None if whole else detector, explain, target)


@lru_cache(maxsize=1)
def shipped_model() -> FaceModel:
    return open_face_model()


@lru_cache(maxsize=1)
def usual_detector() -> Detector:
    return open_detector()


def predict_photo(
    photo: Photo, model: FaceModel, detector: Detector | None, explain: str = "", target: str = ""
) -> list[FacePrediction]:
    """As predict_single_image; without a detector, the central square of the photo is the face."""
    faces = detector(photo.pixels) if detector else [whole_face(photo.pixels)]
    if not faces:
        return []
    crops = np.stack([crop_face(photo.pixels, face, model.crop_size) for face in faces])
    maps: Sequence[np.ndarray | None] = [None] * len(faces)
    if explain:
        targets = [target_label(target)] * len(faces) if target else None
        maps = model.explain(crops, explain, targets)
    rows = zip(faces, model.probabilities(crops), crops, maps, strict=True)
    return [FacePrediction(*row) for row in rows]


def target_label(name: str) -> int:
    """The number of an expression, whatever the case; UserError that lists the seven otherwise."""
    return lookup({emotion: label for label, emotion in enumerate(EMOTIONS)}, name.capitalize(), "expression")


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def predict(flags: config.Predict) -> list[dict[str, Any]]:
    """Predicts all photos, prints and writes what the flags ask for; a row a photo, with its faces or an error."""
    check(flags)
    photos = name_photos(find_photos(flags.images))
    model = open_face_model(flags.model, flags.dataset, flags.tag, flags.checkpoint, flags.outputs_dir, flags.device)
    detector = None if flags.whole else open_detector(flags.detector, flags.detector_weights, flags.min_score)
    print(f"{model.label}, {str(model.dtype).removeprefix('torch.')}; faces: {describe_detector(detector)}")
    rows: list[dict[str, Any]] = []
    try:
        with tqdm(total=len(photos), desc="photos", unit=" photos", disable=len(photos) == 1) as progress:
            for name, path in photos.items():
                rows.append(predict_file(path, name, model, detector, flags))
                progress.write(describe_row(rows[-1]), file=sys.stdout)
                progress.update()
    finally:  # ctrl-C loses nothing that was done
        if flags.json:
            write_json(flags.json, {**describe_run(flags, model, detector), "photos": rows})
        if flags.csv:
            write_csv(flags.csv, rows)
    return rows


def check(flags: config.Predict) -> None:
    """UserError for flags that make no sense, before anything is loaded."""
    if not flags.images:
        raise UserError("name a photo or a folder: python predict.py photo.jpg")
    if flags.explain:
        lookup(EXPLAINERS, flags.explain, "method")
    if flags.target:
        target_label(flags.target)
    if flags.min_score is not None and not 0 <= flags.min_score <= 1:
        raise UserError("--min-score is a number in 0..1")


def describe_detector(detector: Detector | None) -> str:
    return DETECTORS[detector.name].title if detector else "each picture is one"


def name_photos(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for the annotated picture of each file, no two alike: its own, with folder or number where need be."""
    named: dict[str, Path] = {}
    for path in paths:
        for name in candidate_names(path):
            if named.setdefault(name, path) is path:
                break
    return named


def candidate_names(path: Path) -> Iterator[str]:
    yield slug(path.stem)
    yield slug(f"{path.parent.name}-{path.stem}" if path.parent.name else path.name)
    number = 2
    while True:
        yield f"{slug(path.stem)}-{number}"
        number += 1


def predict_file(
    path: Path, name: str, model: FaceModel, detector: Detector | None, flags: config.Predict
) -> dict[str, Any]:
    """The row of one photo; a file that cannot be read gives a row with an error and stops nothing."""
    try:
        photo = read_photo(path)
        faces = predict_photo(photo, model, detector, flags.explain, flags.target)
    except UserError as error:
        return {"photo": str(path), "error": str(error)}
    row = describe_photo(path, photo, faces)
    if flags.figures:
        row["figure"] = str(annotated_photo(flags.outputs_dir, name))
        save_picture(Path(row["figure"]), draw(photo, faces, flags.explain, caption(model, detector, flags)))
    return row


def describe_run(flags: config.Predict, model: FaceModel, detector: Detector | None) -> dict[str, Any]:
    """What made the rows of a JSON file."""
    return {
        "command": command_line(),
        "model": model.label,
        "detector": describe_detector(detector),
        "explanation": flags.explain or None,
        "target": (flags.target or "predicted") if flags.explain else None,
    }


def caption(model: FaceModel, detector: Detector | None, flags: config.Predict) -> str:
    """The line below an annotated picture."""
    parts = [f"model: {model.label}", f"faces: {describe_detector(detector)}"]
    if flags.explain:
        row = EXPLAINERS[flags.explain]
        asked = EMOTIONS[target_label(flags.target)] if flags.target else "the expression named"
        parts.append(f"{row.title} of {asked}, {row.meaning}{row.note and f' ({row.note})'}")
    return " · ".join(parts)


def draw(photo: Photo, faces: Sequence[FacePrediction], method: str, text: str) -> Image.Image:
    """The annotated picture; `method`: which one's maps the faces have, if any."""
    row = EXPLAINERS.get(method)
    look = {"signed": row.signed, "summed": row.summed} if row else {}
    items = [Annotation(item.face, item.probabilities, item.crop, item.map, **look) for item in faces]
    return annotate(photo.pixels, items, text if faces else f"no face found · {text}")


def save_picture(path: Path, picture: Image.Image) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, quality=90, subsampling=0)


def main() -> None:
    rows = predict(tyro.cli(config.Predict))
    bad = [row for row in rows if "error" in row]
    if bad:
        raise UserError(f"{len(bad)} of {len(rows)} files could not be read: {bad[0]['photo']}{', …' * (len(bad) > 1)}")


if __name__ == "__main__":
    run_script(main)
