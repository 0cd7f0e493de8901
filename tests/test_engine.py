"""inference/engine.py and what it opens: converted networks, their cache, 8 bits, networks cut at a layer."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import config
import evaluate
import explain_gradcam
import explain_lime
import explain_occlusion
from config import EngineFlags
from ferlib.explanations.crops import cam_of_crops
from ferlib.faces.face_model import open_face_model
from ferlib.inference import engine, openvino_network, quantization
from ferlib.inference.engine import ENDLESS, Source, choose_engine, open_engine
from ferlib.networks.checkpoints import save_checkpoint
from ferlib.networks.classifier import FaceClassifier
from ferlib.networks.costs import count_multiply_adds
from ferlib.runtime.errors import UserError
from ferlib.runtime.openvino import import_openvino
from ferlib.runtime.processor import describe_processor, find_extensions
from models import create_model
from zoo import KINDS, make_classifier, random_faces, slow_unless, small_spec

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not engine.is_installed(), reason="needs openvino and nncf")
OPENVINO, FLOAT32 = EngineFlags(engine="openvino"), EngineFlags(engine="openvino", precision="float32")


def make_source(name="fer_resnet", digest="a", **changes):
    classifier, spec = make_classifier(name), small_spec(name)
    return Source(classifier.eval(), spec, random_faces(1, spec.image_size, spec.channels), digest, **changes)


# ── the choice ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_auto_converts_where_a_long_run_pays(monkeypatch):
    for installed, pays, expected in ((True, True, "openvino"), (True, False, "torch"), (False, True, "torch")):
        monkeypatch.setattr(engine, "is_installed", lambda installed=installed: installed)
        assert choose_engine(EngineFlags(), CPU, pays=lambda pays=pays: pays).name == expected
    assert choose_engine(EngineFlags(engine="torch"), CPU, pays=lambda: True).name == "torch"


def test_other_devices_stay_with_torch(monkeypatch):
    monkeypatch.setattr(engine, "is_installed", lambda: True)
    mps = torch.device("mps")
    assert choose_engine(EngineFlags(), mps, pays=lambda: True).name == "torch"
    for flags, words in ((OPENVINO, "--engine openvino"), (EngineFlags(precision="int8"), "--precision int8")):
        with pytest.raises(UserError, match=f"{words} is computed on CPUs, not on mps; add --device cpu"):
            choose_engine(flags, mps)


def test_flags_that_exclude_each_other_are_refused(monkeypatch):
    monkeypatch.setattr(engine, "is_installed", lambda: True)
    with pytest.raises(UserError, match="leave --engine torch out"):
        choose_engine(EngineFlags(engine="torch", precision="int8"), CPU)
    with pytest.raises(UserError, match="--no-amp computes in float32, not in int8"):
        choose_engine(EngineFlags(precision="int8"), CPU, amp=False)
    monkeypatch.setattr(engine, "autocast_dtype", lambda *_: torch.float32)
    with pytest.raises(UserError, match="this cpu has no bfloat16"):
        choose_engine(EngineFlags(precision="bfloat16"), CPU)
    monkeypatch.setattr(engine, "is_installed", lambda: False)
    for flags in (OPENVINO, EngineFlags(precision="int8")):
        with pytest.raises(UserError, match="pip install openvino nncf"):
            choose_engine(flags, CPU)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_flips_is_a_share(share):
    with pytest.raises(UserError, match=r"--max-flips .* is not a share of faces in 0\.\.1"):
        choose_engine(EngineFlags(max_flips=share), CPU)


@pytest.mark.parametrize("more", [{"engine": "openvino"}, {"precision": "int8", "max_flips": 1.0}])
def test_methods_of_gradients_refuse_another_engine(tiny_run, more):
    flags = explain_gradcam.ExplainGradcam(**stage_flags(tiny_run, amp=True, **more))
    with pytest.raises(UserError, match="HiResCAM takes gradients, which torch computes"):
        explain_gradcam.explain(flags)


@pytest.mark.parametrize("agreement", [(np.nan, 1.0), (0.0, np.nan)])
def test_an_agreement_that_is_no_number_is_refused(agreement):
    flips, rank = agreement
    with pytest.raises(UserError):
        quantization.check(quantization.Agreement(flips, 1000, rank), 0.5)


def test_float32_is_one_precision_by_either_flag():
    assert choose_engine(EngineFlags(precision="float32"), CPU) == choose_engine(EngineFlags(), CPU, amp=False)


def test_multiply_adds_are_those_of_the_zoo():
    source, meta = make_source("resnet18"), copy.deepcopy(make_classifier("resnet18")).to("meta")
    assert engine.multiply_adds(source) == count_multiply_adds(meta, source.spec)


@needs_openvino
def test_the_multiply_adds_of_the_run_decide(monkeypatch):
    source = make_source()
    passes = engine.WORTH / engine.multiply_adds(source)
    assert open_engine(EngineFlags(), source, passes=0.9 * passes)[1] is None
    assert open_engine(EngineFlags(), source, passes=1.1 * passes)[0].name == "openvino"


# ── conversion ───────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_openvino
@pytest.mark.parametrize("name", slow_unless({"fer_resnet", "fer_vgg"}, KINDS))
def test_a_converted_network_computes_the_same_logits_for_any_batch(name):
    source = make_source(name, digest=name)
    _, network = open_engine(FLOAT32, source)
    for count in (1, 5):
        images = random_faces(count, source.spec.image_size, source.spec.channels, seed=count)
        with torch.inference_mode():
            expected = source.classifier(images)
            assert torch.allclose(network(images), expected, atol=5e-4 * expected.abs().max())
            channels_last = network(images.contiguous(memory_format=torch.channels_last))
            assert torch.allclose(channels_last, expected, atol=5e-4 * expected.abs().max())


@needs_openvino
def test_a_network_is_converted_once(monkeypatch):
    source = make_source(digest="once")
    images = random_faces(3, source.spec.image_size, source.spec.channels)
    first = open_engine(FLOAT32, source)[1](images)
    monkeypatch.setattr(openvino_network, "convert", lambda *_: pytest.fail("converted again"))
    assert torch.equal(open_engine(FLOAT32, source)[1](images), first)
    with pytest.raises(pytest.fail.Exception):
        open_engine(FLOAT32, replace(source, digest="other weights"))


@needs_openvino
@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_cache_is_made_again(damage):
    source = make_source(digest=damage)
    images = random_faces(3, source.spec.image_size, source.spec.channels)
    first = open_engine(FLOAT32, source)[1](images)
    path = openvino_network.Key.of(source).path
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    if damage == "other":
        with path.open("wb") as file:
            np.savez(file, graph=np.zeros(3, np.uint8), weights=np.zeros(3, np.uint8))
    assert torch.equal(open_engine(FLOAT32, source)[1](images), first)
    assert openvino_network.read_cached(openvino_network.Key.of(source)) is not None


@needs_openvino
def test_without_a_cache_that_can_be_written_the_network_is_converted_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(openvino_network, "user_cache", lambda: tmp_path / "file")
    source = make_source(digest="unwritable")
    for _ in range(2):
        assert open_engine(FLOAT32, source)[1](source.face).shape == (1, 7)


@needs_openvino
def test_a_full_folder_of_temporary_files_costs_the_cache_only(monkeypatch):
    def full(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(import_openvino(), "save_model", full)
    source = make_source(digest="full")
    assert open_engine(FLOAT32, source)[1](source.face).shape == (1, 7)
    assert not openvino_network.is_cached(openvino_network.Key.of(source))


@needs_openvino
def test_packages_that_cannot_be_loaded_leave_torch(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)  # its import fails
    monkeypatch.setattr(engine, "is_installed", lambda: True)
    with pytest.raises(UserError, match="is installed and cannot be loaded"):
        open_engine(OPENVINO, make_source(digest="unloadable"))
    monkeypatch.setattr(engine, "WORTH", 0)
    assert open_engine(EngineFlags(), make_source(digest="unloadable"), passes=1)[0].name == "torch"
    assert "torch computes it" in capsys.readouterr().err


@needs_openvino
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_network_in_8_bits_is_asked_for_or_made_again(damage, monkeypatch):
    monkeypatch.setattr(quantization, "MIN_RANK", -1.0)
    source, flags = make_source(digest=f"int8 {damage}"), EngineFlags(precision="int8", max_flips=1.0)
    faces = random_faces(20, source.spec.image_size, source.spec.channels)
    ranges = lambda: quantization.Ranges(faces[:10], faces[10:])  # noqa: E731
    first = open_engine(flags, source, ranges=ranges)[1](faces)
    path = openvino_network.Key.of(source, "int8 ").path
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:  # the exact one in its place
        path.write_bytes(openvino_network.Key.of(source).path.read_bytes())
    with pytest.raises(UserError, match="needs training faces once"):
        open_engine(flags, source)
    assert torch.equal(open_engine(flags, source, ranges=ranges)[1](faces), first)


@needs_openvino
def test_the_cache_keeps_the_networks_that_were_used_last(own_cache, monkeypatch):
    monkeypatch.setattr(openvino_network, "KEPT", 2)
    monkeypatch.setattr(openvino_network, "user_cache", lambda: own_cache / "few")
    model = openvino_network.convert(make_source().classifier, make_source().face)
    keys = [openvino_network.Key(name, (1, 8, 8)) for name in "abc"]
    for key in keys:
        openvino_network.find_or_convert(key, lambda: model)
        if key is keys[1]:
            openvino_network.read_cached(keys[0])
    assert [openvino_network.is_cached(key) for key in keys] == [True, False, True]


class Unknown(nn.Module):
    """A backbone with an operation that OpenVINO does not have."""

    def forward(self, images):
        return torch.special.bessel_j0(images).mean((2, 3))


class Counting(nn.Module):
    """One whose output depends on the size of the batch, which tracing fixes."""

    def forward(self, images):
        return images.mean((2, 3)) * (1 if len(images) == 2 else 5)


@needs_openvino
@pytest.mark.parametrize(("backbone", "reason"), [(Unknown, "cannot convert"), (Counting, "other outputs than torch")])
def test_what_cannot_be_converted_is_computed_by_torch_and_refused_where_it_was_asked_for(backbone, reason, capsys):
    spec = replace(small_spec("fer_resnet"), backbone=backbone)
    source = Source(FaceClassifier(spec).eval(), spec, random_faces(1, spec.image_size), backbone.__name__)
    with pytest.raises(UserError, match=reason):
        open_engine(OPENVINO, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "WORTH", 0)
        chosen, network = open_engine(EngineFlags(), source, passes=1)
    assert (chosen.name, network) == ("torch", None)
    assert "torch computes it" in capsys.readouterr().err


@needs_openvino
def test_nothing_is_reported_to_the_makers_of_the_packages():
    import_openvino()
    assert sys.modules["openvino_telemetry"] is None


# ── 8 bits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_openvino
def test_8_bits_need_faces_once_and_keep_how_far_they_agree(monkeypatch, capsys):
    source = make_source(digest="int8", dataset="fer2013")
    flags = EngineFlags(precision="int8", max_flips=1.0)
    monkeypatch.setattr(quantization, "MIN_RANK", -1.0)
    with pytest.raises(UserError, match="needs training faces once"):
        open_engine(flags, source)
    faces = random_faces(40, source.spec.image_size, source.spec.channels)
    ranges = quantization.Ranges(faces[:20], faces[20:])
    chosen, network = open_engine(flags, source, ranges=lambda: ranges)
    assert (chosen.name, chosen.precision) == ("openvino", "int8")
    assert "20 training faces, compared on 20 of val" in capsys.readouterr().out
    with torch.inference_mode():
        expected, found = source.classifier(faces), network(faces)
        again = open_engine(flags, source)[1](faces)
    error = ((found - expected).square().mean().sqrt() / expected.std()).item()
    assert 0 < error < 0.2
    assert torch.equal(again, found)


@needs_openvino
def test_8_bits_are_compared_again_on_other_faces(monkeypatch):
    monkeypatch.setattr(quantization, "MIN_RANK", -1.0)
    source, flags = make_source(digest="int8 faces", fingerprint="one"), EngineFlags(precision="int8", max_flips=1.0)
    faces, asked = random_faces(20, source.spec.image_size, source.spec.channels), []

    def ranges():
        asked.append(1)
        return quantization.Ranges(faces[:10], faces[10:])

    for fingerprint, times in (("one", 1), ("one", 1), ("", 1), ("other", 2), ("other", 2)):
        open_engine(flags, replace(source, fingerprint=fingerprint), ranges=ranges)
        assert len(asked) == times, fingerprint


@needs_openvino
def test_8_bits_that_change_classes_or_ranks_are_refused_with_the_figure():
    agreement = quantization.Agreement(flips=0.0179, faces=1000, rank=0.97)
    with pytest.raises(UserError, match=r"1\.8% of 1,000 faces .* allow it with --max-flips 0\.018"):
        quantization.check(agreement, 0.005)
    with pytest.raises(UserError, match=r"rank correlation 0\.970, at least 0\.99"):
        quantization.check(agreement, 0.018)
    quantization.check(replace(agreement, rank=0.99), 0.018)


def corner_network(*weights):
    """Logits of seven classes: the means of the upper left and the lower right quarter, weighted."""

    def network(images):
        side = images.shape[-1] // 2
        corners = torch.stack([images[..., :side, :side], images[..., side:, side:]]).mean((2, 3, 4)).T
        return torch.cat([corners * torch.tensor(weights), torch.zeros(len(images), 5)], 1)

    return network


def test_agreement_counts_changed_classes_and_ranks_effects_of_regions():
    faces = random_faces(30, 24)
    same = quantization.compare(corner_network(1.0, 1.0), corner_network(1.0, 1.0), faces)
    assert (same.flips, same.faces, round(same.rank, 6)) == (0.0, 30, 1.0)
    quarter = faces.clone()
    quarter[:9, :, :12, :12], quarter[9:, :, :12, :12] = 0.9, 0.1
    quarter[:, :, 12:, 12:] = 0.5
    scaled = quantization.compare(corner_network(1.0, 1.0), corner_network(-1.0, 1.0), quarter)
    assert scaled.flips == pytest.approx(9 / 30)
    assert scaled.rank < 0.9


INTERRUPTED = """
import gc, os, signal, time
from ferlib.inference import openvino_network, quantization
from zoo import make_classifier, random_faces, small_spec
face = random_faces(1, small_spec("mini_resnet").image_size)
exact = openvino_network.convert(make_classifier("mini_resnet"), face)
networks = [openvino_network.OpenVinoNetwork(exact, "float32", 1) for _ in range(2)]
for network in (*networks, openvino_network.OpenVinoNetwork(quantization.quantize(exact, face), "float32", 1)):
    assert network(face).isfinite().all()
while networks:  # the first one first
    network = networks.pop(0)
    del network
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@needs_openvino
@pytest.mark.process
def test_ctrl_c_ends_a_process_that_has_closed_networks(ctrl_c):
    """A plugin of OpenVINO changes the stack of signals; unloaded in the wrong order, it leaves one that is gone."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], env=environment, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1:] == ["interrupted"], (ended.returncode, ended.stderr[-2000:])


# ── the stages ───────────────────────────────────────────────────────────────────────────────────────────────────────


def stage_flags(run, **more):
    return {"tag": "tiny", "outputs_dir": run.outputs_dir, "device": "cpu", "figures": False, "amp": False, **more}


@needs_openvino
def test_evaluate_scores_the_same_by_either_engine(tiny_run):
    results = [
        evaluate.evaluate(config.Evaluate(**stage_flags(tiny_run, engine=name))) for name in ("torch", "openvino")
    ]
    assert [result["engine"].split()[0] for result in results] == ["torch", "openvino"]
    assert results[0]["accuracy"] == results[1]["accuracy"]
    assert results[0]["mean_auc"] == pytest.approx(results[1]["mean_auc"], abs=1e-6)


@needs_openvino
@pytest.mark.parametrize(
    ("script", "method", "more"),
    [
        (explain_lime.ExplainLime, "lime", {"lime_samples": 40}),
        (explain_occlusion.ExplainOcclusion, "occlusion", {}),
        (explain_gradcam.ExplainGradcam, "scorecam", {"method": "scorecam"}),
    ],
)
def test_maps_are_the_same_by_either_engine(tiny_run, script, method, more):
    maps = {}
    for name in ("torch", "openvino"):
        flags = script(**stage_flags(tiny_run, samples=2, seed=4, engine=name, **more))
        module = {"lime": explain_lime, "occlusion": explain_occlusion, "scorecam": explain_gradcam}[method]
        summary = module.explain(flags)
        assert summary["engine"].split()[0] == name
        maps[name] = np.load(tiny_run.explanation_maps(method))["maps"].astype(float)
    assert np.abs(maps["torch"] - maps["openvino"]).max() < 2e-3 * np.abs(maps["torch"]).max()


@needs_openvino
def test_the_summary_says_that_a_network_ran_in_8_bits(tiny_run, monkeypatch):
    monkeypatch.setattr(quantization, "MIN_RANK", -1.0)
    more = {"samples": 1, "lime_samples": 20, "precision": "int8", "max_flips": 1.0, "amp": True}
    summary = explain_lime.explain(explain_lime.ExplainLime(**stage_flags(tiny_run, **more)))
    assert (summary["engine"].split()[0], summary["precision"]) == ("openvino", "int8")
    saved = json.loads(tiny_run.explanation_summary("lime").read_text())
    assert saved["precision"] == "int8"
    assert set(saved["agreement"]) == {"flips", "faces", "rank"}
    assert 0 <= saved["agreement"]["flips"] <= 1


@needs_openvino
@pytest.mark.parametrize("name", ["mini_resnet", "resnet18"])
def test_a_cut_network_gives_the_same_class_activation_maps(tmp_path, name, crops):
    path = tmp_path / "network.pth"
    save_checkpoint(path, name, create_model(name, image_size=48), image_size=48, dataset="fer2013")
    plain = open_face_model(checkpoint=path, device="cpu", flags=EngineFlags(engine="torch", precision="float32"))
    cut = open_face_model(checkpoint=path, device="cpu", flags=FLOAT32, passes=ENDLESS, cut=True)
    assert cut.cut is not None
    for found, expected in zip(cam_of_crops(cut, crops), cam_of_crops(plain, crops), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_class_activation_maps_in_8_bits_are_refused():
    flags = EngineFlags(precision="int8", max_flips=1.0)
    with pytest.raises(UserError, match="maps are not computed in 8 bits; add --no-cam"):
        open_face_model(device="cpu", flags=flags, passes=ENDLESS, cut=True)


@pytest.mark.parametrize("more", [{"engine": "openvino"}, {"precision": "int8"}])
def test_other_data_sets_are_scored_by_torch(tiny_run, more):
    flags = config.Evaluate(**stage_flags(tiny_run, on=("synthetic",), **{"amp": True, **more}))
    with pytest.raises(UserError, match="--on is computed by torch"):
        evaluate.evaluate_on_others(flags)
    plain = config.Evaluate(**stage_flags(tiny_run, on=("synthetic",)))
    assert evaluate.open_checkpoint(plain).hardware["engine"].startswith("torch ")


def test_a_head_that_needs_more_than_the_layers_output_is_not_cut():
    from ferlib.inference.cut_network import trace_head

    class Around(nn.Module):
        """A sum that passes by the layer."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 4, 3, padding=1)

        def forward(self, images):
            return (self.layer(images) + images).mean((2, 3))

    with pytest.raises(openvino_network.NotConvertibleError, match="needs more than its output"):
        trace_head(Around().eval(), "layer", random_faces(1, 8))


def test_the_processor_is_described_by_its_extensions():
    flags = "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_tile amx_bf16\n"
    assert find_extensions(flags) == ["AVX2", "AVX-512", "bfloat16", "VNNI", "AMX"]
    assert find_extensions("flags : fpu avx2\n") == ["AVX2"]
    assert describe_processor()
