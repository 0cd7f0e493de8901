"""The parts train, val and test of a data set by the names of its folders."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note

WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development", "publictest"),
    "test": ("test", "tests", "testing", "tst", "privatetest"),
    "eval": ("eval", "evaluation"),  # val, or test where there is a val too
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
KNOWN = ", ".join(word for words in WORDS.values() for word in words)
ENDING = re.compile(
    r"(?<=.)(?:dataset|data|set|images?|imgs?|faces|class(?:es)?|part|split)$"
)  # of trainset, valimages
FOLDS = re.compile(r"fold|split|cv|run|repeat|round", re.I)
SHARED_NUMBERS = 2  # of two parts whose names do not say that they are folds: one may be a year, or a size in pixels
NAMED = 5  # folders that an error names


@functools.cache
def split_named(folder: str) -> str | None:
    """The part that a folder's name states, whatever its case, separators and further words; None if it states none.

    train_set, Train-Images, affectnet_train: train; PublicTest: val; `eval` of eval and evaluation; train_test: None.
    """
    words = words_of(folder)
    if split := split_of_words(folder, words):
        return split
    if "test" in words and {"public", "private"} & set(words):
        return "val" if "public" in words else "test"
    found = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
    return found.pop() if len(found) == 1 else None


def words_of(folder: str) -> list[str]:
    """The words of a folder's name in lower case, without endings such as "images"."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", folder)]
    return [ENDING.sub("", word) for word in words if not ENDING.fullmatch(f"-{word}", 1)]


def split_of_words(folder: str, words: Sequence[str]) -> str | None:
    """The part that a folder's name states and nothing else: PublicTest, TrainVal, vAlId, val-images."""
    return SPLIT_OF.get("".join(words)) or SPLIT_OF.get(folder.lower())


def is_part(folder: str) -> bool:
    """Whether a folder's name states a part and nothing else, so that it may lie at the top of a data folder."""
    return split_of_words(folder, words_of(folder)) is not None


def splits_of(paths: Sequence[str], root: Path) -> list[str]:
    """The split of each path …/PART/…/CLASS/FILE, "train" where no folder states a part.

    A folder that all paths share, such as images/, is no part unless its name states one. UserError for names that
    state none beside parts or class folders, as their faces could be trained and tested on: for folders of
    cross-validations (train_fold1, test_fold1, train_fold2, …), for parts inside other parts, for class folders beside
    a folder train.
    """
    folders = [tuple(path.split("/")[:-2]) for path in paths]
    split_of = splits_of_folders(set(folders), root)
    return [split_of[folder] for folder in folders]


def splits_of_folders(folders: set[tuple[str, ...]], root: Path) -> dict[tuple[str, ...], str]:
    """The split of each folder of class folders, which are given as the names on the way to them."""
    levels = enumerate(zip(*folders, strict=False))
    shared = next((level for level, names in levels if len(set(names)) > 1), min(map(len, folders)))
    general = next(filter(None, map(split_named, reversed(next(iter(folders))[:shared]))), None)
    own: dict[tuple[str, ...], str | None] = {}
    for folder in folders:
        found = {split_named(name) for name in folder[shared:]} - {None}
        if len(found) > 1:
            raise UserError(
                f"{root}: {'/'.join(folder)} names more than one of train, val and test; rename its folders"
            )
        own[folder] = found.pop() if found else general
    refuse_unclear({folder[shared:] for folder, split in own.items() if split is None}, own, root)
    if general is None:
        refuse_folds({folder[shared] for folder in folders if len(folder) > shared}, root)
    refuse_numbered_parts({folder[shared:]: split for folder, split in own.items()}, root)
    print_note(joined_parts({folder[shared:]: split for folder, split in own.items()}, root))
    present = set(own.values())
    held_out = "test" if "val" in present and "test" not in present else "val"
    return {folder: held_out if split == "eval" else split or "train" for folder, split in own.items()}


def refuse_unclear(unclear: set[tuple[str, ...]], own: dict[tuple[str, ...], str | None], root: Path) -> None:
    """UserError for folders of which it is not known whether they are for training."""
    strangers = sorted({names[0] for names in unclear if names})
    if strangers:
        named = ", ".join(strangers[:NAMED]) + (", …" if len(strangers) > NAMED else "")
        raise UserError(
            f"{root}: it is not clear whether the faces in {named} are for training or testing; rename the folders "
            f"(known names: {KNOWN}), or move them away"
        )
    if unclear and "train" in own.values():
        raise UserError(
            f"{root}: class folders lie beside the folder of the part train; move them into a part (known names: "
            f"{KNOWN}), or away"
        )


def refuse_folds(names: Iterable[str], root: Path) -> None:
    """UserError for numbered folders with parts inside, in which a face of one's train may be of another's test."""
    folds = sorted(name for name in names if split_named(name) is None)
    alike = {re.sub(r"\d+", "", name) for name in folds}
    if len(folds) > 1 and (len(alike) < len(folds) or any(map(FOLDS.search, folds))):
        raise UserError(
            f"{root}: {', '.join(folds[:NAMED])} look like the folds of a cross-validation, of which each has its own "
            f"train and test; name one of them, as in --dataset folder:{root}/{folds[0]}"
        )


def refuse_numbered_parts(split_of: dict[tuple[str, ...], str | None], root: Path) -> None:
    """UserError for folds whose names state part and number: train1, test1, train2, test2; train/fold1, test/fold1, …

    A face of one fold's train may be of another's test. Numbers of one part only, as of its pieces, are no folds, nor
    are numbers in names that state neither a part nor a fold, such as those of people.
    """
    numbers: dict[str, set[tuple[str, ...]]] = {}
    for names, split in split_of.items():
        if split and (number := number_of_fold(names)):
            numbers.setdefault(split, set()).add(number)
    for one, other in itertools.combinations(sorted(numbers), 2):
        common, either = numbers[one] & numbers[other], numbers[one] | numbers[other]
        alike = sorted(names for names in split_of if split_of[names] in (one, other) and number_of_fold(names))
        says_fold = any(FOLDS.search(name) for names in alike for name in names)
        if len(common) >= (1 if says_fold else SHARED_NUMBERS) and len(either) > 1:
            shown = ", ".join("/".join(names) for names in alike[:NAMED]) + (", …" if len(alike) > NAMED else "")
            raise UserError(
                f"{root}: {shown} look like the folds of a cross-validation, in which a face of one fold's train is of "
                "another's test; keep the folders of one fold and move the others away, or rename them if they are "
                "pieces of one set, as in train_a, train_b, test_a"
            )


def joined_parts(split_of: dict[tuple[str, ...], str | None], root: Path) -> str:
    """The line that says that parts are joined from folders of the same names, which may be folds; empty if none are.

    a/train, a/test, b/train, b/test; train_a, test_a, …; train/001, test/001, …: nothing says whether they are folds of
    a cross-validation or pieces of one set.
    """
    parts_of: dict[str, set[str]] = {}  # piece → the parts that have it
    for names, split in split_of.items():
        words = [word for name in names for word in re.findall(r"[a-z]+|\d+", name.lower())]
        if split and (piece := " ".join(word for word in words if split_named(word) is None)):
            parts_of.setdefault(piece, set()).add(split)
    common = sorted(piece for piece, parts in parts_of.items() if len(parts) > 1)
    if not common or len(parts_of) == 1:
        return ""
    parts = " and ".join(sorted(set.union(*map(parts_of.__getitem__, common)), reverse=True))
    shown = ", ".join(common[:NAMED]) + (", …" if len(common) > NAMED else "")
    return (
        f"{root}: {parts} are joined from folders of the same names ({shown}); if these are folds of a cross-"
        "validation, a face of one's train may be of another's test: keep the folders of one"
    )


def number_of_fold(names: Sequence[str]) -> tuple[str, ...]:
    """The numbers in those of the names that state a part or a fold, without leading zeros; letters of folds too.

    train_fold01: 1; fold_a, fold_b: a, b; 001, class3: none.
    """
    found = []
    for name in names:
        is_fold = FOLDS.search(name) is not None
        if is_fold or split_named(name) is not None:
            found += [str(int(number)) for number in re.findall(r"\d+", name)]
            found += [word for word in words_of(name) if len(word) == 1] if is_fold else []
    return tuple(found)
