"""bench_peers.py and its worker: classes, preprocessing, environments that are missing; no other package is needed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bench_peers
import peer_worker
from config import EMOTIONS
from ferlib.runtime.errors import UserError

FLAGS = bench_peers.Flags()
MEASURED = [name for name, peer in bench_peers.PEERS.items() if not peer.fetched_from]


@pytest.mark.parametrize("name", MEASURED)
def test_every_class_of_a_package_is_one_of_ours(name: str) -> None:
    """The column of a class comes out under its emotion: Fear is the third, whatever a package calls it and where."""
    classes = bench_peers.PEERS[name].classes
    columns = bench_peers.reorder(np.arange(7.0)[None], classes)[0].astype(int)
    begins = [classes[column][:3].lower() for column in columns]
    assert begins == [emotion[:3].lower() for emotion in EMOTIONS]


def test_the_scores_of_further_classes_are_dropped() -> None:
    classes = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
    assert bench_peers.reorder(np.arange(8.0)[None], classes).tolist() == [[0, 2, 3, 4, 5, 6, 7]]
    with pytest.raises(UserError, match="8 classes were expected"):
        bench_peers.reorder(np.zeros((2, 7)), classes)


def test_every_measured_row_has_an_opener() -> None:
    in_python = {name for name in MEASURED if bench_peers.PEERS[name].kind == "python"}
    assert set(peer_worker.OPENERS) == in_python


def test_it_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    flags = replace(FLAGS, folder=tmp_path)
    assert bench_peers.what_is_missing("ours", flags) == ""
    assert "--prepare --names fer" in bench_peers.what_is_missing("fer", flags)
    assert "npm install @vladmandic/face-api" in bench_peers.what_is_missing("face-api", flags)
    assert "fetches them from huggingface.co/py-feat" in bench_peers.what_is_missing("py-feat", flags)
    own = tmp_path / "python"
    own.touch()
    assert bench_peers.what_is_missing("fer", replace(flags, python=(f"fer={own}",))) == ""


def test_preprocessing() -> None:
    faces = np.array([[[0, 255], [51, 102]]], np.uint8)
    assert peer_worker.to_colour(faces).shape == (1, 2, 2, 3)
    assert np.allclose(peer_worker.centred(faces), [[[-1, 1], [-0.6, -0.2]]])
    assert [len(batch) for batch in peer_worker.batches(np.zeros((130, 2, 2)), 64)] == [64, 64, 2]


def test_every_library_gets_the_same_number_of_threads() -> None:
    limits = bench_peers.environment(3)
    assert {limits[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "OPENCV_FOR_THREADS_NUM")} == {"3"}


def test_size_is_that_of_a_package_with_all_that_it_requires() -> None:
    small = peer_worker.measure_size({"requirements": ["numpy"]})
    large = peer_worker.measure_size(
        {"requirements": ["pandas>=2", "no-such-package; python_version < '3'", "absent-one"]}
    )
    assert small["installed"] > 1e6
    assert large["installed"] > small["installed"]
    assert (small["absent"], large["absent"]) == ([], ["absent-one"])
    assert large["version"]


@pytest.mark.process
def test_the_worker_of_ours_scores_faces(tmp_path: Path) -> None:
    """A process of its own, with the time that it took."""
    np.save(tmp_path / "faces.npy", np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8))
    request = {"faces": str(tmp_path / "faces.npy"), "scores": str(tmp_path / "scores.npy")}
    answer = bench_peers.ask("ours", "score", FLAGS, **request)
    assert answer["cpu"] > 0
    assert np.allclose(np.load(tmp_path / "scores.npy").sum(1), 1, atol=1e-3)


def test_a_process_that_fails_is_reported_with_the_end_of_its_messages() -> None:
    with pytest.raises(UserError, match="fer failed: no weights"):
        bench_peers.run_timed([sys.executable, "-c", "raise SystemExit('no weights')"], "fer", FLAGS)
