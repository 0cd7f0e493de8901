"""readers/parts.py: train, val and test by the names of folders; what cannot be understood is refused."""

from pathlib import Path

import pytest

from ferlib.data.readers.parts import is_part, split_named, splits_of
from ferlib.runtime.errors import UserError

NAMES = {
    "train": "train Training TRAIN train_set train-set TrainSet trainset train_images Train.Images train_class "
    "trainval affectnet_train train2 1_train training_data",
    "val": "val VAL valid vAlId val_set validation_set ValidationImages dev DEV dev-set development PublicTest "
    "publictest public_test test-public val2017 val_class",
    "test": "test tests testing TESTING_SET test_set test-set TestSet testset PrivateTest PRIVATE_TEST privatetest "
    "test01",
    "eval": "eval Evaluation eval_set",
    None: "images data fold1 extra happy untested train_test trainer valley latest 1",
}


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in NAMES.items() for name in names.split()])
def test_names_of_parts(split, name):
    assert split_named(name) == split


def splits(*folders):
    return splits_of([f"{folder}/angry/1.jpg".removeprefix("/") for folder in folders], Path("root"))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("",), ["train"]),
        (("images",), ["train"]),
        (("train", "test"), ["train", "test"]),
        (("data/train_set", "data/dev", "data/PrivateTest"), ["train", "val", "test"]),
        (("train", "dev", "eval"), ["train", "val", "test"]),
        (("train", "eval", "test"), ["train", "val", "test"]),
        (("images/train", "images/validation"), ["train", "val"]),
        (("images/train", "train", "validation"), ["train", "train", "val"]),
        (("train/images", "train/more", "test"), ["train", "train", "test"]),
        (("rafdb/train", "rafdb/test", "affectnet/train"), ["train", "test", "train"]),
        (("", "test"), ["train", "test"]),
        (("test",), ["test"]),
        (("train/a", "train/b"), ["train", "train"]),
    ],
)
def test_parts_of_folders(folders, expected):
    assert splits(*folders) == expected


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "extra"), "whether the faces in extra are for training or testing.*known names: train, training"),
        (("", "extra"), "whether the faces in extra are"),
        (("aligned", "raw"), "whether the faces in aligned, raw are"),
        (("fold1", "fold2"), "whether the faces in fold1, fold2 are"),
        (("data/1", "data/2"), "whether the faces in 1, 2 are"),
        (("", "train", "test"), "class folders lie beside the folder of the part train"),
        (("fold1/train", "fold1/test", "fold2/train"), "fold1, fold2 look like the folds of a cross-validation"),
        (("fold_a/train", "fold_b/test"), "fold_a, fold_b look like the folds"),
        (("train/test", "test/train"), "names more than one of train, val and test"),
    ],
)
def test_what_cannot_be_understood_is_refused(folders, message):
    with pytest.raises(UserError, match=f"root: .*{message}"):
        splits(*folders)


@pytest.mark.parametrize(
    ("name", "part"),
    [("train", True), ("Validation", True), ("dev", True), ("PrivateTest", True), ("val_set", True),
     ("test-images", True),
     ("affectnet_train", False), ("fer2013", False), ("train_test", False), ("README.md", False)],
)  # fmt: skip
def test_only_whole_names_of_parts_are_parts_at_the_top_of_a_data_folder(name, part):
    assert is_part(name) == part
