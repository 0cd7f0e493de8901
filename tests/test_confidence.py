"""Temperature, prediction sets, selective accuracy: known answers; their file; who uses it."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from config import EMOTIONS
from ferlib.evaluation.calibration import classwise_ece, compute_calibration, equal_mass_ece
from ferlib.evaluation.conformal import class_thresholds, common_threshold, measure_sets
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.recalibration import calibrated_results, fit_calibration, write_calibration
from ferlib.evaluation.scoring import keep_calibration
from ferlib.evaluation.selective import selective_accuracy
from ferlib.evaluation.temperature import describe_direction, fit_temperature
from ferlib.inference.confidence import (
    LEVEL,
    UNCALIBRATED,
    Calibration,
    describe_calibration,
    prediction_sets,
    read_calibration,
)
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import Run, calibration_beside


def draw(count, temperature=1.0, seed=0):
    """Labels drawn from softmax(logits), and these logits times `temperature`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 7))
    cumulated = softmax(logits, axis=1).cumsum(1)
    return (cumulated > rng.random((count, 1))).argmax(1), (temperature * logits).astype(np.float32)


def saved(count, temperature, seed=0, views="single"):
    labels, logits = draw(count, temperature, seed)
    return SavedPredictions(labels, softmax(logits, axis=1), logits, labels.astype(str), views=views)


# ── temperature ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature):
    assert fit_temperature(*draw(20_000, temperature)) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_minimises_the_log_loss():
    labels, logits = draw(500, 1.7)
    best = fit_temperature(labels, logits)

    def loss(value):
        return -np.log(softmax(logits / value, axis=1)[np.arange(500), labels]).mean()

    assert loss(best) < min(loss(best * 1.02), loss(best / 1.02))


def test_directions_in_words():
    assert describe_direction(0.62, 0.72) == "too unsure by 10.0 points"
    assert describe_direction(0.8, 0.75) == "too sure by 5.0 points"
    assert describe_direction(0.75, 0.755) == "neither too sure nor too unsure on average"


def test_calibrated_probabilities_keep_the_prediction():
    _, logits = draw(200)
    scaled = Calibration(0.6, faces=10).probabilities(logits)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(scaled, softmax(logits / 0.6, axis=1), rtol=1e-5)


def test_a_network_of_votes_is_fitted_to_their_shares():
    """The votes are softmax(logits): the temperature is 1, whatever the labels, which are the most probable class."""
    _, logits = draw(2000)
    votes = softmax(logits, axis=1)
    val = SavedPredictions(logits.argmax(1), votes, logits, np.arange(2000).astype(str))
    assert fit_calibration(val).temperature < 0.2
    assert fit_calibration(val, votes).temperature == pytest.approx(1, rel=1e-3)
    assert fit_calibration(val, votes).fitted_to == "votes"
    votes[:1000] = 0  # faces without votes do not count
    assert fit_calibration(val, votes).temperature == pytest.approx(1, rel=1e-3)
    assert "as shares of annotators" in describe_calibration(fit_calibration(val, votes))


# ── calibration errors by hand ───────────────────────────────────────────────────────────────────────────────────────


def test_equal_mass_bins_hold_equally_many_faces():
    """Thirty faces, two a bin: half of the lower fifteen and all of the upper ones are right."""
    confidence = np.linspace(0.3, 0.9, 30)
    correct = np.array([0, 1] * 7 + [0, 1] + [1] * 14, float)
    by_hand = sum(abs(confidence[2 * m : 2 * m + 2].mean() - correct[2 * m : 2 * m + 2].mean()) for m in range(15)) / 15
    assert equal_mass_ece(confidence, correct) == pytest.approx(by_hand)


def test_classwise_error_by_hand():
    """Two classes, four faces at 80 %, of which two have the label: each class is off by 30 points."""
    labels, probabilities = np.array([0, 0, 1, 1]), np.tile([0.8, 0.2], (4, 1))
    assert classwise_ece(labels, probabilities) == pytest.approx(0.3)


# ── prediction sets ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_threshold_of_nineteen_faces_is_the_second_smallest():
    """⌊20 · 0.1⌋ = 2; of nine faces the smallest; of eight none."""
    probabilities = np.zeros((36, 2))
    labels = np.repeat([0, 1], [19, 17])
    probabilities[:19, 0] = np.linspace(0.05, 0.95, 19)[::-1]
    assert class_thresholds(labels[:19], probabilities[:19])[0] == pytest.approx(0.1)
    assert class_thresholds(labels[:9], probabilities[:9])[0] == probabilities[:9, 0].min()
    assert class_thresholds(labels[:8], probabilities[:8]) == [None, None]
    assert common_threshold(labels[:19], probabilities[:19]) == pytest.approx(0.1)


def test_sets_hold_the_label_as_often_as_they_say():
    val, test = saved(4000, 1.0, seed=1), saved(20_000, 1.0, seed=2)
    found = measure_sets(test.labels, test.probabilities, class_thresholds(val.labels, val.probabilities))
    assert found["coverage"] == pytest.approx(LEVEL, abs=0.015)
    for row in found["per_class"]:
        assert row["coverage"] == pytest.approx(LEVEL, abs=0.04)
        assert row["interval"][0] < row["coverage"] < row["interval"][1]
    assert sum(found["sizes"]) == 20_000
    assert np.dot(found["sizes"], np.arange(1, 8)) / 20_000 == pytest.approx(found["mean_size"])


def test_sets_by_hand():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4]])
    assert prediction_sets(probabilities, [0.5, 0.35, None]).tolist() == [[True, False, True], [False, True, True]]
    assert prediction_sets(probabilities, [0.9, 0.9, 0.9]).tolist() == [[True, False, False], [False, True, False]]
    candidates = Calibration(1.0, (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2), 10).candidates
    assert candidates(np.array([0.25, 0, 0.4, 0.05, 0.1, 0.2, 0])) == ("Fear", "Angry", "Sad")
    assert UNCALIBRATED.candidates(np.full(7, 1 / 7)) == ()


def test_a_rare_class_that_no_threshold_covers_is_in_every_set():
    labels = np.array([0] * 40 + [1] * 3)
    thresholds = class_thresholds(labels, np.tile([0.9, 0.1], (43, 1)))
    assert thresholds == [0.9, None]
    assert measure_sets(np.array([1]), np.array([[0.95, 0.05, 0, 0, 0, 0, 0]]), [0.9, *[None] * 6])["coverage"] == 1


# ── selective accuracy ───────────────────────────────────────────────────────────────────────────────────────────────


def test_selective_accuracy_by_hand():
    """Twenty faces, the surest ten right, the others wrong: the risk is 0 up to half, then (k - 10) / k."""
    labels = np.zeros(20, int)
    sure = np.linspace(0.99, 0.6, 20)
    probabilities = np.column_stack([sure, 1 - sure])
    probabilities[10:] = probabilities[10:, ::-1]
    found = selective_accuracy(labels, probabilities)
    assert [row["accuracy"] for row in found["curve"]][:10] == [1] * 10
    assert found["curve"][-1]["accuracy"] == 0.5
    assert found["aurc"] == pytest.approx(sum((k - 10) / k for k in range(11, 21)) / 20)


# ── all of it, and its file ──────────────────────────────────────────────────────────────────────────────────────────


def test_calibration_lowers_ece_and_log_loss():
    val, test = saved(4000, 0.5, seed=1), saved(4000, 0.5, seed=2)
    found = calibrated_results(val, test.labels, test.logits)
    assert found["temperature"] == pytest.approx(0.5, rel=0.05)
    assert found["ece"] < 0.3 * compute_calibration(test.labels, test.probabilities)["ece"]
    assert found["on_val"]["after"]["nll"] < found["on_val"]["before"]["nll"]
    assert found["sets"]["coverage"] == pytest.approx(0.9, abs=0.02)
    assert found["sets"]["mean_size"] >= found["sets"]["one_threshold"]["mean_size"] - 0.1
    assert found["faces"] == 4000


@pytest.fixture
def run(tmp_path):
    return Run("mini_resnet", "synthetic", "t", tmp_path)


def test_the_file_is_found_beside_its_checkpoint_only(run, capsys):
    fitted = fit_calibration(saved(300, 0.5))
    write_calibration(run, {"single": fitted}, "digest", "faces")
    assert run.calibration.name == "mini_resnet_synthetic_t_calibration.json"
    assert read_calibration(run.best_checkpoint, "digest") == fitted
    assert read_calibration(run.best_checkpoint, "digest", "flip") == UNCALIBRATED
    assert capsys.readouterr().err == ""
    assert read_calibration(run.best_checkpoint, "another") == UNCALIBRATED
    assert "of another checkpoint" in capsys.readouterr().err
    assert read_calibration(run.last_checkpoint, "digest") == UNCALIBRATED


def test_views_are_added_while_checkpoint_and_faces_stay(run):
    one, two = fit_calibration(saved(300, 0.5)), fit_calibration(saved(300, 0.8))
    write_calibration(run, {"single": one}, "digest", "faces")
    write_calibration(run, {"flip": two}, "digest", "faces")
    assert set(read_json(run.calibration, "")["views"]) == {"single", "flip"}
    write_calibration(run, {"flip": two}, "newer", "faces")
    assert set(read_json(run.calibration, "")["views"]) == {"flip"}


def test_a_damaged_file_is_an_error(run):
    run.calibration.parent.mkdir(parents=True)
    run.calibration.write_text('{"schema": 2, "run": 5}')
    with pytest.raises(UserError, match="is damaged: run is 5"):
        read_calibration(run.best_checkpoint, "digest")
    write_calibration(run, {"single": Calibration(0.5, (0.1,) * 7, 20)}, "digest", "faces")
    text = run.calibration.read_text()
    for value in ("0", "1e-300", "1e15", "NaN"):
        run.calibration.write_text(text.replace('"temperature": 0.5', f'"temperature": {value}'))
        with pytest.raises(UserError, match="is damaged: views"):
            read_calibration(run.best_checkpoint, "digest")
    run.calibration.write_text(text.replace('"level": 0.9', '"level": 0.5'))
    assert read_calibration(run.best_checkpoint, "digest").thresholds == ()  # sets of another level are not those


def test_words_on_the_calibration():
    assert describe_calibration(UNCALIBRATED) == "probabilities not calibrated"
    assert "temperature 0.74" in describe_calibration(Calibration(0.74, faces=3589))
    assert calibration_beside(Run("a", "b").best_checkpoint).name == "a_b_calibration.json"
    assert len(EMOTIONS) == 7


def test_an_evaluation_in_8_bits_leaves_the_calibration_as_it_is(tmp_path, capsys):
    run = Run("mini_resnet", "synthetic", "t", tmp_path)
    keep_calibration(run, SimpleNamespace(hardware={"precision": "int8"}, path=tmp_path / "other.pth"), None, {})
    assert not run.calibration.exists()
    printed = capsys.readouterr().out
    assert "no calibration of the checkpoint is written from 8 bits; for one, run: python evaluate.py" in printed
    assert f"--checkpoint {tmp_path / 'other.pth'}" in printed
