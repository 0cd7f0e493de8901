"""The section of the report on the data: findings, tables, pictures, and what is left out."""

import json

import numpy as np
import pytest

from browsing import accessibility_findings, open_page, overflow
from ferlib.data.audit.content import audit_faces
from ferlib.data.face_data import FaceData
from ferlib.evaluation.audits import audit_labels, find_predicted
from ferlib.report.page import build_report, write_reports
from ferlib.runtime.files import write_json
from ferlib.runtime.runs import Run, audit_path, audit_picture
from report_outputs import DATASET, FINGERPRINT, write_history, write_picture, write_results
from test_audit import draw
from test_label_errors import noisy, write_run

COUNT = 300


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Two runs, of which one has predictions, and an audit of the data they used."""
    folder = tmp_path_factory.mktemp("audited")
    true, labels, _, _ = noisy(COUNT)
    images = draw(COUNT)
    images[:9] = images[[2, 5, 8, 11, 14, 17, 20, 23, 26]]
    names, splits = np.array([f"<b>{row}</b>.png" for row in range(COUNT)]), np.arange(COUNT) % 3
    data = FaceData(DATASET, images, labels, names, splits, FINGERPRINT, votes=np.eye(7, dtype=np.float32)[true])
    run = write_run(folder, data, "", 1, fingerprint=FINGERPRINT)
    write_history(run)
    write_results(run)
    audit = audit_faces(data)
    facts, findings = audit_labels(data, find_predicted(data, folder))
    content = {
        **audit.facts,
        "fold": 0,
        "source": "here",
        "kinds": [],
        "unreadable": [],
        "label_errors": facts,
        "findings": [finding.to_json() for finding in (*audit.findings, *findings)],
        "pictures_drawn": ["near_copies", "quality"],
        "command": "python datasets.py",
    }
    write_json(audit_path(folder, DATASET), content)
    write_picture(audit_picture(folder, DATASET, "quality"))
    return folder


def change(outputs, tmp_path, **changes):
    """Another folder of outputs whose audit has other values."""
    content = json.loads(audit_path(outputs, DATASET).read_text()) | changes
    write_json(audit_path(tmp_path, DATASET), {key: value for key, value in content.items() if key != "schema"})
    run = Run("mini_resnet", DATASET, "", tmp_path)
    write_history(run)
    write_results(run)
    return build_report(tmp_path, DATASET).read_text()


def test_the_page_shows_findings_tables_and_pictures_that_are_there(outputs):
    page = build_report(outputs, DATASET).read_text()
    assert page.count('<li class="error">') >= 2
    assert "stand in train, " in page
    assert '<code class="flag">--exclude-leaks</code>' in page
    content = json.loads(audit_path(outputs, DATASET).read_text())
    exact, either = (content[name]["faces_with_copy"]["test"]["train"] for name in ("exact_copies", "near_copies"))
    assert f'{exact} <small class="quiet">{either}</small>' in page
    row = content["label_errors"]["against_votes"]["criteria"]["outvoted"]["confident_learning"][0]
    assert f"{100 * row['precision']:.0f}\u202f%</td>" in page
    assert "Brightness, contrast, sharpness and histograms, by split" in page
    assert "Near copies, and what differs in them" not in page, "that picture is gone"
    assert "The data: the copy is incomplete" in page, "a caveat, as it invalidates results"
    assert "another version of the data" not in page
    markdown, *_ = write_reports(outputs, [DATASET], DATASET, ("md",))
    assert "## The data" in markdown.read_text()


def test_an_audit_of_other_data_says_so_and_gives_no_caveat(outputs, tmp_path):
    page = change(outputs, tmp_path, fingerprint="of another copy")
    assert "This audit is of another version of the data" in page
    assert "The data: " not in page


def test_without_an_audit_the_command_stands_there(tmp_path):
    run = Run("mini_resnet", DATASET, "", tmp_path)
    write_history(run)
    page = build_report(tmp_path, DATASET).read_text()
    assert "To audit the data:" in page
    assert f"python datasets.py</span> <span>--dataset {DATASET}" in page


def test_a_damaged_audit_is_left_out_by_name(outputs, tmp_path):
    page = change(outputs, tmp_path, faces="many")
    assert "The audit is left out: " in page
    assert "faces is &#39;many&#39;" in page
    assert "To audit the data:" in page


def test_leaks_that_were_left_out_of_training_are_told(outputs, tmp_path):
    run = Run("mini_resnet", DATASET, "", tmp_path)
    write_history(run, exclude_leaks=True, leaks={"faces": 921, "exact": 703, "near": 218})
    write_results(run)
    page = build_report(tmp_path, DATASET).read_text()
    assert "trained without the 921 training faces that stand in the validation or test split" in page
    assert "the less biased figure" not in page
    assert page.count("none in training") == 1
    assert "Recall without copies" not in page
    assert write_reports(tmp_path, [DATASET], DATASET, ("md",))[0].read_text().count("none in training") == 1


@pytest.mark.parametrize("width", [1440, 400])
def test_the_section_fits_and_can_be_read_by_all(browser, outputs, width):
    path = build_report(outputs, DATASET)
    with open_page(browser, path.as_uri(), width) as visit:
        assert overflow(visit.page) == 0
        assert visit.errors == []
        assert visit.page.locator(f"#{DATASET}-data").inner_text().count("likely errors") == 1
        assert accessibility_findings(visit.page) == []
