"""explanations/scores: measures of known value, agreement with captum and grad-cam, the table, the script."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined
from scipy import ndimage, stats

import config
import score_explanations
from config import EMOTIONS, Score
from ferlib.explanations import driver
from ferlib.explanations.gradients import gradient_map
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution
from ferlib.explanations.scores import (
    curves,
    flow,
    infidelity,
    location,
    mean_maps,
    repeats,
    road,
    setup,
    stability,
    stages,
    summary,
    truth,
)
from ferlib.explanations.scores.columns import COLUMNS, KIND_TITLES, SIMPLE
from ferlib.explanations.scores.scorer import EXACT, Scored, Scorer, explain
from ferlib.explanations.subject import Subject, open_subject
from ferlib.faces.landmarks import MEAN_LANDMARKS
from ferlib.figures import mean_maps as mean_map_figures
from ferlib.figures import scores as score_figures
from ferlib.figures.scores import bits_of, no_figures
from ferlib.inference.engine import TORCH, name_of
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.errors import UserError
from ferlib.runtime.seeds import combine_seeds
from zoo import ONE_HOT

SIDE, CORNER = 24, 8


class ReadsOneCorner(torch.nn.Module):
    """The brighter the upper left corner, the larger the logit of class 2; nothing else matters."""

    def forward(self, images):
        logits = torch.zeros(len(images), 7)
        logits[:, 2] = 8 * images[:, :, :CORNER, :CORNER].mean((1, 2, 3)) - 4
        return logits


# ── truth ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_map_proportional_to_the_exact_values_has_no_error():
    exact = np.array([0.4, -0.1, 0.2, 0.0])
    assert truth.rank_correlation(3 * exact, exact) == pytest.approx(1)
    assert truth.shape_error(3 * exact, exact) == pytest.approx(0, abs=1e-7)
    assert truth.shape_error(-exact, exact) == 1
    assert truth.shape_error(np.zeros(4), exact) == 1
    assert truth.rank_correlation(np.ones(4), exact) == 0
    sums = np.array([0.3, 0.0, 0.0, 0.0])  # cosine with exact: 0.4 / √0.21
    assert truth.shape_error(sums, exact) == pytest.approx(np.sqrt(1 - 0.16 / 0.21))


def test_values_of_regions_are_shared_among_their_pixels():
    segments = np.array([[0, 0, 0, 1]])
    shared = truth.density(Attribution(np.array([[0.6, 0.6, 0.6, 0.5]]), {"segments": segments}))
    assert np.allclose(shared, [[0.2, 0.2, 0.2, 0.5]])
    assert np.allclose(truth.region_sums(shared, segments, 3), [0.6, 0.5, 0])
    plain = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert np.array_equal(truth.density(Attribution(plain)), plain)


# ── curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deletion_and_insertion_by_hand():
    """Ten pixels whose outputs add up: 1 for the first, 0 for the others."""
    values = np.array([[5.0, 4, 3, 2, 1], [0, -1, -2, -3, -4]])
    shown = curves.shown_pixels(curves.pixel_order(values, seed=0))
    assert shown.shape == (18, 10)
    assert shown.sum(1).tolist() == [*range(9, 0, -1), *range(1, 10)]
    output = shown[:, 0].astype(float)
    deleted, inserted = np.split(output, 2)
    assert not deleted.any()
    assert inserted.all()
    assert curves.area(np.array([1, *deleted, 0])) == pytest.approx(0.05)  # one trapezoid of half a tenth
    assert curves.area(np.array([0, *inserted, 1])) == pytest.approx(0.95)
    assert curves.area(np.linspace(0, 1, 11)) == pytest.approx(0.5)


def test_rows_of_coalitions_as_regions_go_and_come():
    deleted, inserted = curves.region_rows(curves.region_order(np.array([0.1, 0.9, 0.5]), seed=0))
    assert inserted.tolist() == [0b000, 0b010, 0b110, 0b111]
    assert deleted.tolist() == [0b111, 0b101, 0b001, 0b000]


def test_equal_values_come_in_a_random_order():
    flat = np.zeros((6, 6))
    first, other = (curves.pixel_order(flat, seed) for seed in (0, 1))
    assert sorted(first) == list(range(36))
    assert not np.array_equal(first, other)


# ── infidelity, sensitivity, ROAD ────────────────────────────────────────────────────────────────────────────────────


def test_infidelity_is_that_of_captum():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 16), torch.nn.Tanh(), torch.nn.Linear(16, 7))
    image, values = torch.rand(1, 1, 16, 16), torch.randn(1, 1, 16, 16)
    filled = torch.full_like(image[0], 0.5)
    squares = infidelity.draw_squares(16, 16, seed=3, count=20)
    with torch.no_grad():
        whole, others = network(image)[0, 2], network(infidelity.replaced(image[0], filled, squares))[:, 2]
    falls = (whole - others).double().numpy()

    def perturb(inputs, baselines=None):
        inside = torch.from_numpy(squares)[:, None].float()
        return inside, torch.where(inside > 0, filled, inputs[:1])  # contributions: the square itself, as a mask

    with torch.no_grad():
        theirs = captum_infidelity(network, perturb, image, values, target=2, n_perturb_samples=20, normalize=True)
    ours = infidelity.infidelity(values[0, 0].double().numpy(), squares, falls)
    assert ours * np.square(falls).mean() == pytest.approx(theirs.item(), rel=1e-4)
    exact = np.zeros((16, 16))
    assert infidelity.infidelity(exact, squares, falls) == 1


def test_a_linear_network_has_maps_without_infidelity():
    weight = np.random.default_rng(0).normal(size=(16, 16))
    squares = infidelity.draw_squares(16, 16, seed=1)
    falls = (squares * weight).sum((1, 2))
    assert infidelity.infidelity(5 * weight, squares, falls) == pytest.approx(0, abs=1e-12)


def test_max_sensitivity_is_that_of_captum():
    torch.manual_seed(0)
    model = LogitModel(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 7))
    )
    image = torch.rand(1, 1, 8, 8)
    copies = stability.noisy_copies(image[0], seed=5)
    assert (copies - image).abs().max() <= stability.RADIUS

    def saliency(inputs, *_):
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        maps = gradient_map(model, inputs, torch.full((len(inputs),), 2))
        return (torch.from_numpy(maps)[:, None],)

    theirs = sensitivity_max(saliency, image, perturb_func=lambda *_: (copies,), n_perturb_samples=len(copies))
    here, *others = saliency(torch.cat([image, copies]))[0].numpy()[:, 0]
    assert stability.max_sensitivity(here, others) == pytest.approx(theirs.item(), rel=1e-4)


def test_imputed_pixels_are_those_of_grad_cam():
    rng = np.random.default_rng(0)
    image, values = rng.random((3, 20, 20)), rng.normal(size=(20, 20))
    removed = road.removed_pixels(values, curves.pixel_order(values, seed=0))
    assert removed.sum((1, 2)).tolist() == [80, 160, 240, 320] * 2
    for mask in removed:
        ours = road.impute(image, mask, rng, noise=0)
        theirs = NoisyLinearImputer(noise=0)(
            torch.from_numpy(image).float(), torch.from_numpy((~mask).astype(np.float32))
        )
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_road_is_that_of_grad_cam(monkeypatch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(400, 7)).eval()
    image, values = torch.rand(1, 1, 20, 20), np.random.default_rng(1).permutation(400).reshape(20, 20).astype(float)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # without their noise
    theirs = ROADCombined(list(road.PERCENTILES))(image, values[None], [lambda output: output[2]], network)
    removed = road.removed_pixels(values, curves.pixel_order(values, seed=0))
    made = np.stack(
        [road.impute(image[0].numpy().astype(float), mask, np.random.default_rng(0), noise=0) for mask in removed]
    )
    with torch.no_grad():
        outputs = network(torch.from_numpy(made).float())[:, 2].double().numpy()
    assert road.road(outputs) == pytest.approx(float(theirs[0]), abs=2e-3)


# ── location ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mask_itself_is_perfect_and_random_maps_are_chance():
    mask = np.zeros((20, 20), bool)
    mask[2:8, 3:9] = True
    for measure in (location.pointing, location.mass_accuracy, location.rank_accuracy):
        assert measure(mask.astype(float), mask) == 1
        assert location.corrected(measure(mask.astype(float), mask), mask) == 1
        found = [measure(np.random.default_rng(seed).random((20, 20)), mask) for seed in range(400)]
        assert location.corrected(np.mean(found), mask) == pytest.approx(0, abs=0.05)
        flat = measure(np.ones((20, 20)), mask)
        assert location.corrected(flat, mask) == pytest.approx(0, abs=1e-9)
    assert location.mass_accuracy(-mask.astype(float), mask) == 0


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ranks_and_what_beats_the_simple_maps():
    rng = np.random.default_rng(0)
    scores = {
        "lime": {"road": 0.5 + 0.01 * rng.normal(size=30), "infidelity": np.full(30, 0.2)},
        "saliency": {"road": 0.1 + 0.2 * rng.normal(size=30), "infidelity": np.full(30, 0.6)},
        **{name: {"road": 0.1 + 0.01 * rng.normal(size=30), "infidelity": np.full(30, 0.5)} for name in SIMPLE},
    }
    table = summary.tabulate(scores)
    assert table["lime"]["road"]["rank"] == 1
    assert table["lime"]["infidelity"]["rank"] == 1  # lower is better
    assert table["saliency"]["road"]["rank"] == 2
    assert table["random"]["road"]["rank"] is None
    assert table["lime"]["road"]["beats_simple"] is True
    assert table["saliency"]["road"]["beats_simple"] is False
    assert table["saliency"]["infidelity"]["beats_simple"] is False
    assert table["random"]["road"]["beats_simple"] is None
    cell = table["lime"]["road"]
    assert cell["low"] < cell["mean"] < cell["high"]
    half = 1.96 * scores["lime"]["road"].std(ddof=1) / 30**0.5
    assert (cell["high"] - cell["low"]) / 2 == pytest.approx(half, rel=0.2)


def test_methods_of_the_logit_are_compared_with_the_simple_maps_scores_of_the_logit():
    values = np.arange(30) / 1000
    simple = {"infidelity": values + 0.5, "infidelity_logit": values[::-1] + 0.3, "road": values}
    scores = {name: {"infidelity": values[::-1] + 0.4, "road": values + 0.1} for name in ("lime", "shap")}
    table = summary.tabulate({**scores, "gaussian": simple}, of_logit=["shap"])
    assert table["lime"]["infidelity"]["beats_simple"] is True
    assert table["shap"]["infidelity"]["beats_simple"] is False
    assert table["shap"]["road"]["beats_simple"] is True, "columns of the probability alone have one score"
    assert set(table["gaussian"]) == {"infidelity", "road"}
    rng = np.random.default_rng(0)
    names, exact = ("lime", "shap", "random"), rng.normal(size=(4, 2, 10))
    sums = np.stack([exact[:, 0], exact[:, 1], exact[:, 1]], axis=1)
    found = flow.against_truth({"sums": sums, "exact": exact}, names)
    assert found["lime"]["truth_rank"] == found["shap"]["truth_rank"] == found["random"]["truth_rank_logit"]
    assert found["random"]["truth_error_logit"] == pytest.approx(np.zeros(4), abs=1e-6)
    assert min(found["random"]["truth_error"]) > 0.1


def test_concordance_is_kendall_s():
    def table_of(rows):
        names = ("lime", "shap", "saliency", "occlusion")
        columns = ("pixels_blur", "road", "infidelity")
        return {name: {column: {"rank": float(row[place])} for column, row in zip(columns, rows, strict=True)}
                for place, name in enumerate(names)}  # fmt: skip

    same = summary.kendall_w(table_of([[1, 2, 3, 4]] * 3), ["faithfulness"])
    assert same["w"] == pytest.approx(1)
    mixed = [[1, 2, 3, 4], [2, 1, 4, 3], [4, 3, 2, 1]]
    found = summary.kendall_w(table_of(mixed), ["faithfulness"])
    rho = np.mean([stats.spearmanr(mixed[one], mixed[other]).statistic for one, other in ((0, 1), (0, 2), (1, 2))])
    assert found["w"] == pytest.approx((rho * 2 + 1) / 3)  # the mean of Spearman's is (m W − 1) / (m − 1)
    assert summary.kendall_w(table_of(mixed), ["truth"]) is None


def test_agreement_is_the_mean_rank_correlation():
    maps = np.random.default_rng(0).normal(size=(3, 2, 22, 22))
    maps[:, 1] = 2 * maps[:, 0] + 1
    assert np.allclose(summary.agreement(maps), 1)
    maps[:, 1] = -maps[:, 0]
    assert np.allclose(summary.agreement(maps), [[1, -1], [-1, 1]])
    assert summary.pool(np.arange(16.0).reshape(4, 4), 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_every_column_has_words():
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    assert {column.kind for column in COLUMNS} == set(KIND_TITLES)
    assert all(len(column.short) < 15 for column in COLUMNS)


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def corner_scorer(**maps):
    """A scorer of a network that reads one corner, of methods that give known maps."""
    model = LogitModel(ReadsOneCorner())
    regions = np.ones((SIDE, SIDE), np.int16)
    regions[:CORNER, :CORNER] = 0
    rows = np.array([[0.5] * 1]).repeat(4, 0)
    images = torch.full((4, 1, SIDE, SIDE), 0.5)
    images[1::2, :, :CORNER, :CORNER] = 0.9
    with torch.no_grad():
        rows = model(images).numpy()
    exact = {"regions": regions, "logits": rows, "landmarks": np.zeros((5, 2), np.float32)}

    def method(values, arrays=None):
        return Scored(lambda *_: [Attribution(np.asarray(values, np.float32), arrays or {}, {})], "probability")

    methods = {EXACT: method((regions == 0).astype(float), exact)} | {name: method(each) for name, each in maps.items()}
    return Scorer(methods, model, (model,), 2, None, 50)


def test_the_mask_of_what_a_network_reads_wins_and_random_is_chance():
    mask = np.zeros((SIDE, SIDE))
    mask[:CORNER, :CORNER] = 1
    scorer = corner_scorer(good=mask, wrong=1 - mask)
    image = torch.full((1, 1, SIDE, SIDE), 0.3)
    image[..., :CORNER, :CORNER] = 0.9
    (found,) = explain(None, image, ONE_HOT[[2]], seeds=[1], scorer=scorer)
    scores = found.facts["scores"]
    drawn = [explain(None, image, ONE_HOT[[2]], seeds=[seed], scorer=scorer)[0] for seed in range(2, 26)]
    at_random = [each.facts["scores"]["random"] for each in drawn]
    for column in ("pixels_blur", "pixels_mean", "regions_blur", "regions_mean", "road"):
        assert scores["good"][column] > 0.02
        assert scores["wrong"][column] < -0.02
        assert scores["good"][column] >= max(scores[name][column] for name in SIMPLE)
        assert abs(np.mean([each[column] for each in at_random])) < 0.5 * scores["good"][column]
    assert scores["good"]["infidelity"] < 0.2 < scores["random"]["infidelity"]
    assert scores["good"]["passes"] == 0
    assert found.arrays["method_maps"].shape == (len(scorer.names), SIDE, SIDE)
    assert found.arrays["exact"][0, 0] == pytest.approx(scorer_rise(scorer), abs=1e-6)
    assert found.arrays["exact"][0, 1] == pytest.approx(0, abs=1e-7)


def test_infidelity_is_of_squares_with_the_fill():
    """A black square hides a corner of 0.5 that a grey one leaves as it is."""
    image = torch.full((1, 1, SIDE, SIDE), 0.5)
    found = {}
    for baseline in ("grey", "black"):
        scorer = replace(corner_scorer(), baseline=baseline)
        (each,) = explain(None, image, ONE_HOT[[2]], seeds=[1], scorer=scorer)
        found[baseline] = each.facts["scores"][EXACT]["infidelity"]
    assert found["grey"] == 0
    assert 0 < found["black"] < 1


def test_small_maps_are_saved_as_shares_of_their_peak():
    tiny = np.linspace(-1, 1, SIDE * SIDE).reshape(SIDE, SIDE) * 1e-9
    scorer = corner_scorer(tiny=tiny)
    (found,) = explain(None, torch.full((1, 1, SIDE, SIDE), 0.5), ONE_HOT[[2]], seeds=[1], scorer=scorer)
    saved = found.arrays["method_maps"][scorer.names.index("tiny")]
    np.testing.assert_allclose(saved, tiny * 1e9, atol=1e-3)


def test_another_seed_has_other_background_faces():
    """As another --seed has; the map of a method that compares is that of the background and of the face's seed."""

    def method(background):
        def explain_by(images, _targets, seeds):
            rng = np.random.default_rng([background, seeds[0]])
            return [Attribution(rng.normal(size=(SIDE, SIDE)).astype(np.float32)) for _ in images]

        return explain_by

    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    drawn = repeats.measure(repeats.Repeats(method(1), redrawn=method(2)), image, ONE_HOT[[2]], 3)
    again = method(2)(image, None, [combine_seeds(3, 21)])[0].map
    assert drawn["seed_rank"] == repeats.ranks(method(1)(image, None, [3])[0].map, again)


def test_the_background_of_a_run_is_drawn_again_for_its_repeats(tiny_run):
    subject, seeds, drawn = open_subject(flags_of(tiny_run)), [], {}

    class Watched(Subject):
        def background(self, count):
            seeds.append(self.seed)
            drawn[self.seed] = super().background(count)
            return drawn[self.seed]

    watched = Watched(**{item.name: getattr(subject, item.name) for item in fields(Subject)})
    options = {"methods": ["shap", "saliency"], "baseline": "grey"}
    found = setup.provide_repeats(options, watched, subject.plain())["repeats"]
    assert found["saliency"].redrawn is None
    assert seeds[0] == subject.seed
    assert len(set(seeds)) == 2
    assert not torch.equal(*drawn.values())
    image = subject.face()
    maps = [each(image, ONE_HOT[[2]], [5])[0].map for each in (found["shap"].explain, found["shap"].redrawn)]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3 * np.abs(maps[0]).max()


def scorer_rise(scorer):
    logits = scorer.methods[EXACT].explain()[0].arrays["logits"]
    return float(np.diff(torch.from_numpy(logits).double().softmax(1)[:2, 2].numpy())[0])


def test_randomised_networks_lose_what_they_learned_from_the_head_down():
    torch.manual_seed(0)
    network = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))
    made = list(repeats.randomised(network, seed=1, stages=4))
    changed = [
        [not torch.equal(one.weight, other.weight) for one, other in zip(network, each, strict=True)] for each in made
    ]
    assert changed == [[False] * (3 - stage) + [True] * (stage + 1) for stage in range(4)]
    assert torch.equal(
        made[-1][0].weight.sort().values.flatten().sort().values, network[0].weight.flatten().sort().values
    )


# ── the script ───────────────────────────────────────────────────────────────────────────────────────────────────────


def flags_of(run, **changes):
    values = {"model": run.model, "dataset": run.dataset, "tag": run.tag, "outputs_dir": run.outputs_dir}
    few = {"samples": 3, "stability_faces": 2, "sanity_faces": 1, "methods": ("hirescam", "saliency", "shap")}
    return Score(**values, **{**few, **changes})


@pytest.fixture(scope="module")
def scored(tiny_run):
    return score_explanations.score(flags_of(tiny_run))


def test_the_script_scores_a_saved_model(scored, tiny_run):
    saved = json.loads((tiny_run.outputs_dir / "explanations/scores" / f"{tiny_run.name}.json").read_text())
    assert saved["methods"] == ["shap", "regions", "hirescam", "saliency"]
    assert set(saved["table"]) == {"shap", "regions", "hirescam", "saliency", *SIMPLE}
    table = saved["table"]
    assert table["regions"]["truth_rank"]["mean"] == pytest.approx(1)
    assert table["regions"]["truth_error"]["mean"] == pytest.approx(0, abs=1e-3)
    assert table["saliency"]["passes"]["mean"] == 1
    assert table["regions"]["passes"]["mean"] == 1024 + 66
    assert 250 <= table["shap"]["passes"]["mean"] <= 260
    assert {"pointing", "mass", "rank"} <= table["hirescam"].keys()  # the synthetic faces have masks of the evidence
    assert table["random"]["seed_rank"]["mean"] < 0.2
    assert table["saliency"]["seed_rank"]["mean"] == 1
    for column in COLUMNS:
        for row in table.values():
            if cell := row.get(column.name):
                assert np.isfinite(cell["mean"])
    assert len(saved["curves"]["sanity"]["saliency"]) > 2
    pictures = {path.stem for path in tiny_run.explanations("scores").glob("*.png")}
    assert {"truth", "faithfulness", "location", "stability", "sanity", "agreement", "curves"} <= pictures


def test_what_computed_each_stage_is_stated(scored, tiny_run):
    from ferlib.explanations.scores.terminal import describe_scores

    assert scored["engine"].startswith("torch ")
    assert set(scored["stages"]) == {"scores", "stability", "sanity"}
    assert scored["stages"]["stability"] == {key: scored[key] for key in ("engine", "precision")}
    line = f"forward passes: {scored['engine']} in {scored['precision']} (scores, stability, sanity)"
    assert line in describe_scores(scored, flags_of(tiny_run))


def test_repeats_are_computed_by_torch_whatever_computes_the_scores(tiny_run, monkeypatch):
    """Their summary said openvino int8, as the flags do."""
    subject = open_subject(flags_of(tiny_run))
    subject = replace(subject, engine=replace(subject.engine, name="openvino", precision="int8"))
    exact = name_of(subject.model.dtype)
    found = {}

    def bind(_method, _values, network):
        found.update(network.engine.describe())
        return lambda images, _targets, _seeds: [
            Attribution(np.zeros(images.shape[2:], np.float32), {}, {"stability": {}}) for _ in images
        ]

    monkeypatch.setattr(driver, "bind", bind)
    own = flags_of(tiny_run, samples=2, figures=False)
    values = {"methods": ["saliency"], "baseline": "grey"}
    summary = driver.explain_run(subject, stages.STABILITY, values, own, no_figures(), "unused")
    assert (summary["engine"], summary["precision"]) == (TORCH.title, exact)
    assert found == {"engine": summary["engine"], "precision": exact}


def test_eight_bits_are_stated_with_their_agreement():
    eight = {"engine": "openvino 2025", "precision": "int8", "agreement": {"flips": 0.01}}
    exact = {"engine": "torch 2", "precision": "bfloat16"}
    ran = {"scores": {**eight, "faces": []}, "stability": {**exact, "faces": []}, "sanity": {}}
    found = flow.engines_of(ran)
    assert found == {**eight, "stages": {"scores": eight, "stability": exact}}
    assert bits_of(found, "scores") == " · network in 8 bits"
    assert bits_of(found, "stability") == ""
    assert stages.describe_engines(found["stages"]) == (
        "forward passes: openvino 2025 in int8 (scores), torch 2 in bfloat16 (stability)"
    )


def test_scoring_goes_on_where_it_stopped(scored, tiny_run, monkeypatch):
    from ferlib.explanations.scores import scorer

    monkeypatch.setattr(scorer, "score_face", lambda *_: pytest.fail("a face was scored again"))
    again = score_explanations.score(flags_of(tiny_run))
    for name, row in scored["table"].items():
        for column, cell in row.items():
            assert again["table"][name][column]["mean"] == pytest.approx(cell["mean"])


def test_pictures_of_an_earlier_run_do_not_stay(scored, tiny_run):
    score_explanations.score(flags_of(tiny_run, figures=False))
    assert not list(tiny_run.explanations("scores").glob("*.png"))
    score_explanations.score(flags_of(tiny_run))


def test_repeats_are_of_few_faces_also_of_those_that_are_named(tiny_run):
    found = score_explanations.score(
        flags_of(tiny_run, indices=(1, 2, 3), stability_faces=1, sanity_faces=2, methods=("saliency",))
    )
    row = found["table"]["saliency"]
    assert [row[name]["faces"] for name in ("truth_rank", "seed_rank", "sanity")] == [3, 1, 2]


def test_pictures_of_stages_that_are_left_out_are_removed(scored, tiny_run):
    score_explanations.score(flags_of(tiny_run, stability_faces=0, sanity_faces=0))
    pictures = {path.stem for path in tiny_run.explanations("scores").glob("*.png")}
    assert "truth" in pictures
    assert not {"stability", "sanity", "random_layers"} & pictures


def test_flags_that_make_no_sense(tiny_run, tmp_path):
    for changes, words in (
        ({"methods": ("limes",)}, "method"),
        ({"image": (tmp_path / "a.png",)}, "--image"),
        ({"against": "Fear"}, "--against"),
        ({"baseline": "pink"}, "--baseline"),
        ({"sanity_faces": -1}, "0 or more"),
    ):
        with pytest.raises(UserError, match=words):
            score_explanations.score(flags_of(tiny_run, **changes))


def test_the_terminal_shows_every_method(scored, tiny_run):
    from ferlib.explanations.scores.terminal import describe_scores

    text = describe_scores(scored, flags_of(tiny_run))
    for name in ("regions", "hirescam", "saliency"):
        assert METHODS[name].title in text
    assert "Kendall's W" in text
    assert "error ↓" in text
    assert max(map(len, text.split("→")[0].split("\n"))) <= 120
    assert EMOTIONS[0] not in text


def test_numbers_at_the_terminal_have_real_minus_signs():
    from ferlib.explanations.scores.terminal import show

    assert show({"mean": -0.123, "beats_simple": True}, cost=False) == "−0.12 "
    assert show({"mean": -0.001, "beats_simple": False}, cost=False) == "0.00*"


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_best_curve_is_thick_and_methods_that_are_not_named_are_pale():
    from ferlib.figures.scores import PALE, choose_looks

    looks = choose_looks(["scorecam", "lime", "random", "eigencam"], "eigencam")
    assert looks["scorecam"]["color"] == PALE != looks["eigencam"]["color"]
    assert looks["eigencam"]["linewidth"] > looks["lime"]["linewidth"]
    assert next(iter(looks)) == "scorecam", "below the others"


def test_a_picture_explains_only_the_marks_that_it_has(scored):
    from ferlib.figures.scores import explain_marks, faces_of

    columns = {column.name: column for column in COLUMNS}
    assert explain_marks(scored, ["regions"], [columns["sanity"]], 1) == []
    [line] = explain_marks(
        scored, ["regions", "random"], [columns["truth_rank"]], faces_of(scored, columns["truth_rank"])
    )
    assert "orange" in line


# ── mean maps ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_maps_are_moved_to_where_the_landmarks_lie():
    """A spot at the nose of two faces, one of them half as large, lies at the nose of the mean face."""
    small = 0.5 + (MEAN_LANDMARKS - 0.5) / 2
    maps = np.zeros((2, 48, 48), np.float32)
    for values, landmarks in zip(maps, (MEAN_LANDMARKS, small), strict=True):
        column, row = np.round(landmarks[2] * 48 - 0.5).astype(int)
        values[row - 1 : row + 2, column - 1 : column + 2] = 1
    both = np.stack([MEAN_LANDMARKS, small])
    peaks = [
        np.unravel_index(each.argmax(), each.shape)
        for each in mean_maps.into_mean_face(ndimage.gaussian_filter(maps, (0, 1, 1)), both)
    ]
    assert np.abs(np.subtract(*peaks)).max() <= 3
    mean = mean_maps.average(maps, both)
    assert mean.shape == (mean_maps.SIDE, mean_maps.SIDE)
    assert abs(np.argmax(mean.sum(0)) - mean_maps.SIDE / 2) <= 2
    assert mean[0, 0] == 0  # beyond both pictures


def test_the_mean_face_is_that_of_the_faces_that_reach_there():
    images = np.stack([np.full((48, 48), 0.2, np.float32), np.full((48, 48), 0.6, np.float32)])
    face = mean_maps.average_face(images, np.stack([MEAN_LANDMARKS] * 2))
    assert face[32, 32] == pytest.approx(0.4)
    assert face[0, 0] == 0.5


def test_shares_of_regions_are_those_of_positive_sums():
    shares = mean_maps.region_shares(np.array([[3.0, -1.0, 1.0], [0.0, 0.0, -2.0]]))
    assert shares.tolist() == [[0.75, 0, 0.25], [0, 0, 0]]


def test_faces_are_grouped_by_the_class_explained_and_the_outcome():
    """With --target Fear, the maps of faces called Happy explain Fear."""
    columns = [("Happy", "Happy"), ("Happy", "Happy"), ("Happy", "Sad"), ("Fear", "Sad"), ("Fear", None)]
    faces = [{"predicted": predicted, "true": true, "target": "Fear"} for predicted, true in columns]
    groups = list(mean_maps.group_faces(faces))
    assert [(group.name, group.rows) for group in groups] == [("Fear_right", (0, 1)), ("Fear_wrong", (2, 3))]


def titles_of_mean_maps(tmp_path, monkeypatch, **options):
    """Titles of the columns of a picture, limits of its cells, and its words."""
    maps = {"Happy_right": 0.5, "Sad_right": 0.25, "Sad_wrong": 2.0}
    arrays = {name: np.full((1, 4, 4), value) for name, value in maps.items()}
    arrays |= {f"{name}_face": np.full((4, 4), 0.5) for name in maps} | {f"{name}_faces": np.array(3) for name in maps}
    limits, words, titles = [], [], []
    overlay = mean_map_figures.overlay

    def entitle(figure, *parts):
        words.extend(parts)
        titles.extend(axes.get_title() for axes in figure.axes if axes.get_title())

    monkeypatch.setattr(mean_map_figures, "overlay", lambda *given: limits.append(given[2]) or overlay(*given))
    monkeypatch.setattr(mean_map_figures, "entitle", entitle)
    mean_map_figures.draw_mean_maps(tmp_path / "maps.png", arrays, ["lime"], True, "subject", ("png",), **options)
    return titles, limits, " ".join(words)


def test_the_scale_of_mean_maps_is_that_of_the_faces_in_the_picture(tmp_path, monkeypatch):
    titles, limits, words = titles_of_mean_maps(tmp_path, monkeypatch)
    assert limits == [0.5, 0.5]
    assert titles == ["Happy\n3 faces", "Sad\n3 faces"]
    assert "no face is predicted Angry" in words


def test_mean_maps_of_another_class_than_the_predicted_one_name_it(tmp_path, monkeypatch):
    titles, _, words = titles_of_mean_maps(tmp_path, monkeypatch, by_prediction=False)
    assert titles == ["why Happy?\n3 faces", "why Sad?\n3 faces"]
    assert "is explained of no face predicted right" in words


def test_a_finding_names_the_simple_map_that_is_better_than_all_methods(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(score_figures, "entitle", lambda _figure, finding, _subject: said.append(finding))
    curves_of = {"saliency": [[0.5, 0.4, 0.3], [0.3, 0.4, 0.5]], "gaussian": [[0.5, 0.1, 0.3], [0.3, 0.9, 0.5]]}
    titles = {"saliency": "Saliency", "gaussian": "Centred Gaussian", "random": "Random"}
    for names in (["saliency"], ["saliency", "gaussian"]):
        drawn = {name: {"blur": curves_of[name]} for name in names}
        found = {"curves": {"pixels": drawn}, "titles": titles}
        score_figures.draw_curves(tmp_path / "curves.png", found, "subject", config.Score())
    alone = "Insertion less deletion of pixels is largest in the order of Saliency"
    assert said == [alone, f"{alone} of all methods, and larger in that of Centred Gaussian"]


def test_faces_of_unknown_class_are_in_no_group():
    faces = [
        {"predicted": "Happy", "target": "Happy", "true": true} for true in ("Happy", "Happy", "Sad", "Fear", None)
    ]
    groups = list(mean_maps.group_faces(faces))
    assert [(group.name, group.rows) for group in groups] == [("Happy_right", (0, 1)), ("Happy_wrong", (2, 3))]
