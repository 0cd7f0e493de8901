"""readers/face_files.py: class names in any wording, parts held out class by class."""

import pytest

from config import EMOTIONS
from ferlib.data.facts import DATASETS
from ferlib.data.readers.face_files import CLASSES, FaceFile, class_named, hold_out, of_known_class, parse_emotion
from ferlib.runtime.errors import UserError


@pytest.mark.parametrize(
    ("text", "name"),
    [("happiness", "Happy"), ("Happy", "Happy"), ("HA", "Happy"), ("ANGER", "Angry"), ("angry", "Angry"),
     ("AN", "Angry"), (" sadness ", "Sad"), ("Surprised", "Surprise"), ("contempt", "Contempt"), ("neutral", "Neutral"),
     ("hungry", None), ("", None)],
)  # fmt: skip
def test_classes_are_found_whatever_the_wording(text, name):
    assert class_named(text) == name


def test_a_class_that_the_set_does_not_have_is_an_error():
    assert parse_emotion("Contempt", "here", DATASETS["affectnet8"].classes) == 7
    with pytest.raises(UserError, match="here: unknown emotion 'Contempt'; known are Angry, Disgust"):
        parse_emotion("Contempt", "here")


def test_the_seven_emotions_come_first():
    assert CLASSES[:7] == EMOTIONS


def test_each_class_gives_its_share():
    files = [FaceFile(f"{number}", number % 2) for number in range(40)]
    moved = hold_out(files, 0.25, "train", "val")
    assert [file._replace(split="train") for file in moved] == files
    for label in range(2):
        assert sum(file.split == "val" for file in moved if file.label == label) == 5
    assert moved == hold_out(files, 0.25, "train", "val"), "not the same at every call"


def test_contempt_is_left_out_of_the_seven():
    files = [FaceFile("a", 0), FaceFile("b", 7)]
    assert of_known_class(files, DATASETS["affectnet"]) == files[:1]
    assert of_known_class(files, DATASETS["affectnet8"]) == files
