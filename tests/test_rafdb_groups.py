"""Groups of people that RAF-DB itself gives, as slices of a comparison."""

import numpy as np
import pytest

import datasets
from ferlib.data.readers.rafdb_groups import read_groups
from ferlib.data.readers.trees import Tree
from ferlib.evaluation.slices import find_slices
from ferlib.runtime.errors import UserError
from test_layouts import save

LANDMARKS = "30.5\t40.1\n60\t40\n45\t55\n35\t70\n55\t70\n"


def write_attributes(root, name, codes):
    path = root / f"Annotation/manual/{name}_manu_attri.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LANDMARKS + codes)


def test_groups_are_read_by_name(tmp_path):
    write_attributes(tmp_path, "test_0001", "0\n2\n4\n")
    write_attributes(tmp_path, "test_0002", "1\n0\n2\n")
    found = read_groups(Tree(tmp_path), ["x/test_0002_aligned.jpg", "test_0001_aligned.jpg", "test_0003_aligned.jpg"])
    assert found["female"].tolist() == [True, False, False]
    assert found["Asian"].tolist() == found["70 years and older"].tolist() == [False, True, False]
    assert sum(rows.sum() for rows in found.values()) == 6, "a face without a file is in no group"


@pytest.mark.parametrize("codes", ["", "0\n2\n", "3\n0\n0\n", "0\n-1\n0\n", "0 1\n0\n0\n", "0\n0\n0\n0\n"])
def test_other_files_are_refused(tmp_path, codes):
    write_attributes(tmp_path, "test_0001", codes)
    with pytest.raises(
        UserError, match=r"test_0001_manu_attri\.txt does not hold 5 lines of landmarks and a code each"
    ):
        read_groups(Tree(tmp_path), ["test_0001_aligned.jpg"])


def test_a_data_set_without_groups(tmp_path, synthetic):
    assert datasets.load_groups("synthetic", tmp_path, tmp_path, ["a"]) == {}
    assert read_groups(Tree(tmp_path), ["a"]) == {}
    groups = {"female": np.arange(len(synthetic.split("test"))) % 2 == 0, "few": np.zeros(1, bool)}
    groups["few"] = np.arange(len(groups["female"])) < 3
    names = [each.name for each in find_slices(synthetic, groups)]
    assert "female" in names
    assert "few" not in names


def test_groups_of_the_official_archive(tmp_path):
    root = tmp_path / "data/rafdb"
    lines = []
    for number in range(1, 5):
        part = "train" if number < 3 else "test"
        save(root / f"Image/aligned/{part}_000{number}_aligned.jpg", number, form="JPEG")
        write_attributes(root, f"{part}_000{number}", f"{number % 2}\n0\n1\n")
        lines.append(f"{part}_000{number}.jpg {number}\n")
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel/list_patition_label.txt").write_text("".join(lines))
    names = ["test_0003_aligned.jpg", "test_0004_aligned.jpg"]
    found = datasets.load_groups("rafdb", tmp_path / "data", tmp_path, names)
    assert found["female"].tolist() == [True, False]
    assert found["male"].tolist() == [False, True]
