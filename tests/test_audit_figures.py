"""The pictures of an audit: drawn where there is something to see, removed where there is not."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from config import Audit
from ferlib.data.audit.content import audit_faces
from ferlib.data.face_data import FaceData
from ferlib.evaluation.audits import audit_labels, find_predicted
from ferlib.figures.audit import DRAWINGS, choose_pairs, conflict_cells, draw_audit, pair_cells
from ferlib.figures.audit_charts import shares_between
from ferlib.figures.style import WIDTH
from ferlib.runtime.runs import audit_picture
from test_audit import draw
from test_label_errors import noisy, write_run

COUNT = 300


@pytest.fixture(scope="module")
def data():
    """300 faces: copies, a mirrored and a changed one, a blank one, and votes for the true classes."""
    true, labels, _, _ = noisy(COUNT)
    images = draw(COUNT)
    images[:6] = images[[31, 41, 51, 61, 71, 81]]
    images[6], images[7] = images[91, :, ::-1], images[95]
    images[7, :4, :4] += 3
    images[8] = 0
    splits, names = np.arange(COUNT) % 3, np.arange(COUNT).astype(str)
    return FaceData("fer2013", images, labels, names, splits, "abc", votes=np.eye(7, dtype=np.float32)[true])


def content_of(data, faces, outputs):
    labels, found = audit_labels(data, find_predicted(data, outputs))
    return {
        **faces.facts,
        "label_errors": labels,
        "findings": [finding.to_json() for finding in (*faces.findings, *found)],
    }


def test_all_pictures_are_drawn_and_those_of_an_earlier_audit_removed(tmp_path, data):
    write_run(tmp_path, data, "", 1)
    faces = audit_faces(data)
    flags = Audit(dataset="fer2013", outputs_dir=tmp_path, format=("png", "svg"))
    drawn = draw_audit(flags, data, faces, content_of(data, faces, tmp_path))
    assert drawn == list(DRAWINGS)
    for kind in drawn:
        path = audit_picture(tmp_path, "fer2013", kind)
        assert path.with_suffix(".svg").exists()
        with Image.open(path) as picture:
            width, height = picture.size
            assert width == int(WIDTH * 200)
            assert 300 < height < 2400
            assert np.asarray(picture.convert("L")).std() > 5, "an empty picture"
    plain = replace(data, images=draw(COUNT), votes=None)
    faces = audit_faces(plain)
    (tmp_path / "checkpoints").rename(tmp_path / "gone")
    assert draw_audit(flags, plain, faces, content_of(plain, faces, tmp_path)) == ["quality"]
    left = sorted(path.name for path in (tmp_path / "audits").iterdir())
    assert left == ["fer2013_quality.png", "fer2013_quality.svg"]


def test_pairs_are_chosen_across_splits_first_from_the_weakest_to_the_strongest(data):
    pairs = audit_faces(data).pairs
    across = (data.splits[pairs.first] != data.splits[pairs.second]).sum()
    assert len(pairs) == 2
    chosen = choose_pairs(data, pairs, 1)
    assert len(chosen) == 1
    assert across == 0 or data.splits[chosen.first[0]] != data.splits[chosen.second[0]]
    cells = list(pair_cells(data, pairs))
    for face, copy, words, note in cells:
        assert np.corrcoef(face.ravel(), copy.ravel())[0, 1] > 0.9, "a mirrored copy is turned back"
        assert " / " in words
        assert note.startswith("r 0.9") or note.startswith("r 1")
    assert sum("mirrored" in note for *_, note in cells) == 1


def test_conflicts_name_every_label_and_split(data):
    labels = data.labels.copy()
    labels[0], labels[31] = 2, 5
    words = [text for _, text in conflict_cells(replace(data, labels=labels), 24)]
    assert "Fear, train\nSad, val" in words


def test_shares_between_quantiles():
    quantiles = np.array([0.0, 0.0, 0.0, 1.0, 2.0])
    assert shares_between(quantiles, np.array([0.0, 1.0, 2.0])).tolist() == [0.75, 0.25]
    assert shares_between(np.linspace(0, 1, 101), np.array([0.0, 0.5, 1.0])) == pytest.approx([0.5, 0.5])
