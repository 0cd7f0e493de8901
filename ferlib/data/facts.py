"""DATASETS: size, channels, places and published counts of every data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from config import EMOTIONS
from ferlib.runtime.errors import lookup
from ferlib.runtime.terminal import printable

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set before any file is read."""

    title: str
    size: int  # side of the cached faces in pixels
    channels: int  # 1 grey, 3 RGB
    places: tuple[str, ...]  # where it may lie below the data folder, first match wins; a .zip of each is found too
    official_counts: dict[str, tuple[int, ...]] | None = None  # faces per class in the order of EMOTIONS
    contempt: int = 0  # faces of the official test part that show contempt, which is none of the seven
    validation_fraction: float = 0.0  # taken from train, stratified, where there is no official validation split
    test_fraction: float = 0.0  # taken from all, stratified, where the layout has no split at all
    folds: int = 0  # into which the subjects are dealt; 0: the set is not split by subject
    classes: tuple[str, ...] = EMOTIONS


FER_SETS = ("fer2013", "ferplus", "ferplus8")  # that have FER2013's faces, in its split
AFFECTNET = DatasetFacts(
    "AffectNet (7 classes)",
    size=112,
    channels=3,
    places=("affectnet", "AffectNet", "balanced-affectnet", "affectnet-training-data", "archive"),
    validation_fraction=0.1,
    test_fraction=0.1,
)
SYNTHETIC = DatasetFacts("Synthetic faces", size=48, channels=3, places=())
FER_PLUS = DatasetFacts(
    "FER+",  # FER2013's faces with the label that most of ten annotators gave, without those that show no face
    size=48,
    channels=1,
    places=("fer2013", "fer2013.csv", "icml_face_data.csv", "FER2013", "fer-2013", "archive"),
    official_counts={  # with contempt, which 119, 13 and 16 faces show, 25,060, 3,199 and 3,153 faces
        "train": (2100, 119, 532, 7287, 8740, 3014, 3149),
        "val": (287, 24, 62, 865, 1182, 351, 415),
        "test": (273, 18, 83, 893, 1090, 384, 396),
    },
    contempt=16,
)
DATASETS = {
    "fer2013": DatasetFacts(
        "FER2013",
        size=48,
        channels=1,
        places=("fer2013", "fer2013.csv", "icml_face_data.csv", "FER2013", "fer-2013", "archive"),
        official_counts={
            "train": (3995, 436, 4097, 7215, 4965, 4830, 3171),
            "val": (467, 56, 496, 895, 607, 653, 415),
            "test": (491, 55, 528, 879, 626, 594, 416),
        },
    ),
    "rafdb": DatasetFacts(
        "RAF-DB (basic)",
        size=100,
        channels=3,
        places=("rafdb", "raf-db", "RAF-DB", "raf_db", "raf-db-dataset", "DATASET", "basic", "archive"),
        official_counts={
            "train": (705, 717, 281, 4772, 2524, 1982, 1290),  # train and validation part together
            "test": (162, 160, 74, 1185, 680, 478, 329),
        },
        validation_fraction=0.1,
    ),
    "ferplus": FER_PLUS,
    "ferplus8": replace(
        FER_PLUS,
        title="FER+ (8 classes, for pre-training)",
        official_counts={
            "train": (2100, 119, 532, 7287, 8740, 3014, 3149, 119),
            "val": (287, 24, 62, 865, 1182, 351, 415, 13),
            "test": (273, 18, 83, 893, 1090, 384, 396, 16),
        },
        contempt=0,
        classes=(*EMOTIONS, "Contempt"),
    ),
    "affectnet": AFFECTNET,
    "affectnet8": replace(AFFECTNET, title="AffectNet (8 classes, for pre-training)", classes=(*EMOTIONS, "Contempt")),
    "jaffe": DatasetFacts(
        "JAFFE", size=128, channels=1, places=("jaffe", "JAFFE", "jaffedbase", "jaffe.zip", "archive"), folds=10
    ),
    "ckplus": DatasetFacts(
        "CK+", size=48, channels=1, places=("ckplus", "ck+", "CK+", "CK+48", "ckextended.csv", "archive"), folds=10
    ),
    "synthetic": SYNTHETIC,
    # with a flaw on purpose, all but the test faces (synthetic/variants.py): what explanations are tested with
    "synthetic_patch": replace(SYNTHETIC, title="Synthetic faces, Sad with a patch"),
    "synthetic_caption": replace(SYNTHETIC, title="Synthetic faces, Sad with a caption"),
    "synthetic_tint": replace(SYNTHETIC, title="Synthetic faces, Sad with a tint"),
    "synthetic_permuted": replace(SYNTHETIC, title="Synthetic faces with permuted labels"),
}
DOWNLOADS = {  # the names under which sites hand a data set out, in lower case, and the place that they stand for
    "challenges-in-representation-learning-facial-expression-recognition-challenge": "fer2013",
    "ferplus-master": "fer2013",  # the repository of FER+, with the pictures that its script writes
    "ferplus": "fer2013",
}
FOLDER = "folder:"  # begins the name of a data set that is any folder of class-named folders, as in folder:my/faces


def dataset_facts(name: str) -> DatasetFacts:
    """The row of DATASETS, or the facts of `folder:PATH`; UserError that lists the valid names otherwise."""
    if not name.startswith(FOLDER):
        return lookup({**DATASETS, f"{FOLDER}PATH": folder_facts(Path("PATH"))}, name, "data set")
    return folder_facts(Path(name.removeprefix(FOLDER)).absolute())


def folder_facts(path: Path) -> DatasetFacts:
    """What holds for any folder of class-named folders."""
    return DatasetFacts(
        printable(path.name), size=112, channels=3, places=(str(path),), validation_fraction=0.15, test_fraction=0.15
    )


SYNTHETIC_FACES = 4000  # drawn once into the cache
SYNTHETIC_SUBJECTS = 400  # a subject is in one split only
