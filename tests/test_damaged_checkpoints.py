"""Checkpoints that are damaged, hold code, or were made for something else: refused with a line that says why."""

import contextlib
import io
import math
import os
import pickle
import random
import struct
import zipfile
from unittest.mock import patch

import numpy as np
import pytest
import torch

from damage import limited_file_size, mutated
from ferlib.inference.splits import Predictor
from ferlib.networks.checkpoints import save_checkpoint
from ferlib.networks.tensor_files import read_tensors
from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import UnwritableError
from models import create_model, load_checkpoint

CPU = torch.device("cpu")


class Payload:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("echo a command ran",)


@pytest.fixture
def saved(tmp_path):
    """A small network's checkpoint."""
    path = tmp_path / "a.pth"
    save_checkpoint(path, "mini_resnet", create_model("mini_resnet"), metrics={"val_accuracy": 0.5}, epoch=1)
    return path


@pytest.mark.parametrize("write", [pickle.dumps, lambda payload: torch_bytes({"state": payload})])
def test_code_is_not_run_and_torch_s_advice_to_run_it_is_not_handed_on(tmp_path, capfd, write):
    (tmp_path / "a.pth").write_bytes(write(Payload()))
    with pytest.raises(UserError, match="holds code, not weights") as caught:
        read_tensors(tmp_path / "a.pth")
    assert "weights_only" not in str(caught.value)
    assert "a command ran" not in capfd.readouterr().out


def torch_bytes(content):
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_checkpoint_that_is_replaced_after_it_was_read_keeps_its_digest(saved):
    loaded, digest = load_checkpoint(saved, CPU), digest_file(saved)
    assert loaded.digest == digest == Predictor(saved, loaded, CPU, None, 1).checkpoint_digest
    load = torch.load

    def replace_and_load(file, **more):
        save_checkpoint(saved, "mini_resnet", create_model("mini_resnet"), epoch=2)
        return load(file, **more)

    with patch.object(torch, "load", replace_and_load):
        found = load_checkpoint(saved, CPU)
    assert (found.info["epoch"], found.digest) == (1, digest)
    assert digest_file(saved) != digest


def test_a_flipped_bit_of_the_weights_is_found(saved, generator):
    data = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename and part.file_size]
    for part in parts[:12]:
        damaged = bytearray(data)
        name, extra = struct.unpack_from("<HH", data, part.header_offset + 26)
        damaged[part.header_offset + 30 + name + extra + part.file_size // 2] ^= 4
        saved.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.pth is damaged: .* does not match its checksum"):
            load_checkpoint(saved, CPU)
    saved.write_bytes(data)
    load_checkpoint(saved, CPU)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value, half):
    model = create_model("mini_resnet")
    with torch.no_grad():
        model.head[-1].weight[0, 0] = value
    save_checkpoint(tmp_path / "a.pth", "mini_resnet", model.half() if half else model)
    with pytest.raises(UserError, match=r"not finite, in state\.head\.\d\.weight"):
        load_checkpoint(tmp_path / "a.pth", CPU)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("model", 3),
        ("classes", None),
        ("classes", [1, 2]),
        ("image_size", "48"),
        ("state", [1, 2]),
        ("state", {"head": "x"}),
        ("metrics", {"val_accuracy": "high"}),
        ("training", 7),
        ("dataset", 4),
    ],
)
def test_a_checkpoint_of_wrong_parts_names_the_part(saved, part, value):
    torch.save({**torch.load(saved, weights_only=True), part: value}, saved)
    with pytest.raises(UserError, match=f"a.pth is damaged: its {part} is missing or of another kind"):
        load_checkpoint(saved, CPU)


def test_a_checkpoint_for_faces_of_an_absurd_size_is_refused(saved):
    torch.save({**torch.load(saved, weights_only=True), "image_size": 10**9}, saved)
    with pytest.raises(UserError, match="faces have 1 to 2048 px"):
        load_checkpoint(saved, CPU)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_checkpoint(tmp_path, make):
    make(tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth is no file"):
        load_checkpoint(tmp_path / "a.pth", CPU)


def test_a_full_disk_keeps_the_checkpoint_that_was_there(saved):
    before = saved.read_bytes()
    with (
        limited_file_size(len(before) // 2),
        pytest.raises(UnwritableError, match=r"a\.pth cannot be written: File too"),
    ):
        save_checkpoint(saved, "mini_resnet", create_model("mini_resnet"))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["a.pth"]


@pytest.mark.slow
def test_mutated_checkpoints_load_as_they_were_or_not_at_all(saved):
    data, draw = saved.read_bytes(), random.Random(0)
    whole = load_checkpoint(saved, CPU).model.state_dict()
    for _ in range(200):
        saved.write_bytes(mutated(data, draw))
        try:
            state = load_checkpoint(saved, CPU).model.state_dict()
        except UserError:
            continue
        assert all(torch.equal(state[name], whole[name]) for name in whole)


def test_arrays_that_are_damaged_beneath_a_right_checksum_are_refused(tmp_path):
    """The archive is whole, and an array in it is not: numpy reads its header as Python."""
    whole = io.BytesIO()
    np.save(whole, np.arange(12.0).reshape(3, 4))
    path, draw = tmp_path / "maps.npz", random.Random(0)
    forged = whole.getvalue().replace(b"(3, 4), }", b"((3, 4, }")
    for content in [forged, *(mutated(whole.getvalue(), draw) for _ in range(300))]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("maps.npy", content)
        with contextlib.suppress(DamagedError):
            read_npz(path, ["maps"])
    path.write_bytes(b"")
    with pytest.raises(DamagedError, match=r"maps\.npz is damaged"):
        read_npz(path)
