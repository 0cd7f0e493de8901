"""readers/parts.py: train, val and test by the names of folders; what cannot be understood is refused."""

from pathlib import Path

import pytest

from ferlib.data.readers.parts import is_part, split_named, splits_of
from ferlib.runtime import notes
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
        (("train_part1", "train_part2", "test"), ["train", "train", "test"]),
        (("train1", "train2", "test1"), ["train", "train", "test"]),
        (("train/001", "train/002", "test/001", "test/002"), ["train", "train", "test", "test"]),
        (("train/subject1", "train/subject2", "test/subject1", "test/subject2"), ["train", "train", "test", "test"]),
        (("fold1/train", "fold1/test"), ["train", "test"]),
        (("train_fold1", "test_fold1"), ["train", "test"]),
        (("train/fold1", "train/fold2", "test/fold3"), ["train", "train", "test"]),
        (("fer2013_train", "fer2013_test"), ["train", "test"]),
        (("train_a", "train_b", "test_a", "test_b"), ["train", "train", "test", "test"]),
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
    ("folders", "names"),
    [
        (("train_a", "train_b", "test_a", "test_b"), "a, b"),
        (("a/train", "a/test", "b/train", "b/val"), "a, b"),
        (("train/001", "train/002", "test/001", "test/003"), "001"),
        (("asian_train", "asian_test", "western_train", "western_test"), "asian, western"),
        (("train/1", "train/2", "test/3", "test/4"), None),
        (("train-images", "test-images"), None),
        (("train1", "train2", "test"), None),
        (("rafdb/train", "rafdb/test"), None),
    ],
)
def test_parts_that_may_be_folds_are_joined_with_a_note(folders, names, capsys):
    notes.print_once.cache_clear()
    splits(*folders)
    printed = capsys.readouterr().out
    assert printed == "" if names is None else f" are joined from folders of the same names ({names}); if" in printed


@pytest.mark.parametrize(
    "form",
    ["{part}_fold{k}", "{part}{k}", "{part}/fold{k}", "fold{k}_{part}", "fold0{k}/{part}_0{k}", "{part}_fold_0{k}",
     "{part}-split-{k}", "cv{k}.{part}", "images/{part}_{k}/faces", "rafdb/fold{k}/{part}", "{k}-{part}"],
)  # fmt: skip
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("Training", "eval_set")])
def test_folds_of_a_cross_validation_are_not_merged(form, parts):
    folders = [form.format(part=part, k=k) for part in parts for k in (1, 2, 3)]
    with pytest.raises(UserError, match="look like the folds of a cross-validation") as error:
        splits(*folders)
    assert "keep the folders of one fold" in str(error.value) or "name one of them" in str(error.value)
    assert splits(*(form.format(part=part, k=1) for part in parts)) is not None, "one fold alone is a set"


def test_folds_named_by_letters_and_shared_with_val_alone_are_not_merged():
    for folders in (
        ("train/fold_a", "train/fold_b", "test/fold_a", "test/foldB"),
        ("train1", "val1", "train2", "val2", "test"),
        ("train_fold1", "test_fold1", "train_fold2"),
        ("train/fold1", "train/fold2", "test/fold2"),
    ):
        with pytest.raises(UserError, match="look like the folds"):
            splits(*folders)
    with pytest.raises(
        UserError, match=r"root: test1, test2, train1, train2, train3 look.*rename them if they are pieces of one"
    ):
        splits("train1", "test1", "train2", "test2", "train3")


@pytest.mark.parametrize(
    ("name", "part"),
    [("train", True), ("Validation", True), ("dev", True), ("PrivateTest", True), ("val_set", True),
     ("test-images", True),
     ("affectnet_train", False), ("fer2013", False), ("train_test", False), ("README.md", False)],
)  # fmt: skip
def test_only_whole_names_of_parts_are_parts_at_the_top_of_a_data_folder(name, part):
    assert is_part(name) == part
