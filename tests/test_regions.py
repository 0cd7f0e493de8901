"""explanations/regions.py, transplants.py, region_words.py: exact values of regions for networks known by hand."""

import numpy as np
import pytest
import torch
from torch import nn

import explain_regions
from config import EMOTIONS
from ferlib.explanations.face_regions import CHEEKS, CHIN, LEFT_EYE, MOUTH, RIGHT_EYE, SURROUND, TEN, regions_of
from ferlib.explanations.flags import prepare_flags
from ferlib.explanations.records import Attribution, ExplainedFace, Target
from ferlib.explanations.region_fills import make_fills, placer
from ferlib.explanations.region_words import (
    describe_expected,
    describe_fills,
    describe_surround,
    describe_values,
    expected_units,
    list_regions,
    name_regions,
)
from ferlib.explanations.regions import count_passes, explain
from ferlib.explanations.transplants import Donor, DonorPool, find_transplant
from ferlib.faces.landmarks import MEAN_LANDMARKS
from ferlib.figures.regions import draw_regions
from ferlib.runtime.errors import UserError
from ferlib.runtime.words import with_article

HAPPY, SAD = EMOTIONS.index("Happy"), EMOTIONS.index("Sad")
SIDE = 40
REGIONS = regions_of(MEAN_LANDMARKS, SIDE)


def within(region):
    """bool SIDE×SIDE: the pixels of a region of the mean face."""
    return TEN.index(region) == REGIONS


class Reader(nn.Module):
    """Logits of Happy: the sum over regions of weight · mean brightness there, plus products of two regions."""

    def __init__(self, weights, product=None):
        super().__init__()
        self.weights, self.product, self.passes = weights, product, 0

    def forward(self, images):
        self.passes += len(images)
        means = {name: images[:, 0, torch.from_numpy(within(name))].mean(1) for name in TEN}
        logits = torch.zeros(len(images), 7)
        for name, weight in self.weights.items():
            logits[:, HAPPY] += weight * means[name]
        if self.product:
            first, second, weight = self.product
            logits[:, HAPPY] += weight * means[first] * means[second]
        return logits


def explain_white(model, **options):
    """A white face with a black baseline: a region's mean is 1 where it is shown, else 0."""
    place = placer(None, 1.0, "ten")
    fills = make_fills("black", place, lambda: torch.zeros(2, 1, SIDE, SIDE))
    settings = {"baseline": "black", "output": "logit", "place": place, "fills": fills} | options
    return explain(model, torch.ones(1, 1, SIDE, SIDE), torch.eye(7)[[HAPPY]], seeds=[0], **settings)[0]


def test_values_of_a_linear_network_are_its_weights():
    weights = {MOUTH: 2.0, LEFT_EYE: -1.0, SURROUND: 0.5}
    found = explain_white(Reader(weights))
    for name in TEN:
        assert found.facts["values"][name] == pytest.approx(weights.get(name, 0.0), abs=1e-5)
        assert found.map[within(name)] == pytest.approx(weights.get(name, 0.0), abs=1e-5)
    np.testing.assert_allclose(found.arrays["interactions"], 0, atol=1e-5)
    assert found.facts["hidden"] == 0
    assert found.facts["outcome"] == pytest.approx(1.5)


def test_a_product_is_shared_and_is_the_interaction():
    found = explain_white(Reader({}, (LEFT_EYE, RIGHT_EYE, 3.0)))
    assert found.facts["values"][LEFT_EYE] == pytest.approx(1.5, abs=1e-5)
    assert found.facts["values"][RIGHT_EYE] == pytest.approx(1.5, abs=1e-5)
    assert found.facts["pair"]["regions"] == [LEFT_EYE, RIGHT_EYE]
    assert found.facts["pair"]["value"] == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize("output", ["probability", "logit"])
def test_values_add_up(output):
    found = explain_white(Reader({MOUTH: 2.0, LEFT_EYE: 1.0}, (MOUTH, SURROUND, -4.0)), output=output)
    total = sum(found.facts["values"].values())
    assert total == pytest.approx(found.facts["outcome"] - found.facts["hidden"], abs=1e-9)
    assert found.arrays["values"].shape == (10, 7)
    assert found.arrays["logits"].shape == (1024, 7)


def test_smallest_sets_of_a_face():
    """Happy needs a logit above 0; without any region it is a tie, which the first class wins."""
    found = explain_white(Reader({MOUTH: 2.0, LEFT_EYE: 1.0}))
    assert found.facts["keeping"] == [MOUTH]
    assert sorted(found.facts["without"]) == sorted([MOUTH, LEFT_EYE])
    assert found.facts["becomes"] == 0


def test_passes_are_those_that_are_counted():
    model = Reader({MOUTH: 1.0})
    explain_white(model, batch_size=100)
    fills = make_fills("black", placer(None, 1.0, "ten"), lambda: torch.zeros(1))
    assert model.passes == 1024 + (len(fills) - 1) * 22
    assert count_passes(SIDE, "ten") == 1024 + 3 * 22
    assert count_passes(SIDE, "ten") < 1.1 * 1024


def test_batches_do_not_change_values():
    images = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    place = placer(None, 1.0, "ten")
    fills = make_fills("grey", place, lambda: images)
    model = Reader({MOUTH: 2.0, LEFT_EYE: 1.0}, (MOUTH, SURROUND, -4.0))
    options = {"seeds": [0] * 3, "place": place, "fills": fills}
    whole, parts = (explain(model, images, torch.eye(7)[[3] * 3], batch_size=size, **options) for size in (999, 33))
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_allclose(first.map, second.map, atol=1e-6)
    single = explain(model, images[2:], torch.eye(7)[[3]], **options | {"seeds": [0]})[0]
    np.testing.assert_allclose(single.map, whole[2].map, atol=1e-6)


def test_a_contrast_is_the_difference_of_two_classes():
    model = Reader({MOUTH: 2.0})
    place = placer(None, 1.0, "ten")
    fills = make_fills("black", place, lambda: torch.zeros(1, 1, SIDE, SIDE))
    weights = torch.eye(7)[[HAPPY]] - torch.eye(7)[[SAD]]
    options = {"seeds": [0], "place": place, "fills": fills, "baseline": "black"}
    both = [explain(model, torch.ones(1, 1, SIDE, SIDE), torch.eye(7)[[label]], **options)[0] for label in (HAPPY, SAD)]
    found = explain(model, torch.ones(1, 1, SIDE, SIDE), weights, **options)[0]
    np.testing.assert_allclose(found.map, both[0].map - both[1].map, atol=1e-6)


def test_what_the_values_depend_on():
    """Read against black and against another level, a linear network's values are in proportion."""
    found = explain_white(Reader({MOUTH: 2.0, LEFT_EYE: -1.0}))
    assert found.facts["fills"]["grey"] == pytest.approx(1)
    assert found.facts["fills"]["mean"] == 0  # of a white face the mean is white: nothing is hidden
    assert "depend much on what hides the regions" in describe_fills(found.facts)


# ── counterfactuals ──────────────────────────────────────────────────────────────────────────────────────────────────


def donor(level=0.0):
    image = torch.full((1, SIDE, SIDE), level)
    return Donor(image, MEAN_LANDMARKS, "donor")


class Threshold(nn.Module):
    """Happy where the mouth is bright and one eye too, else Sad."""

    def forward(self, images):
        means = [images[:, 0, torch.from_numpy(within(name))].mean(1) for name in (MOUTH, LEFT_EYE)]
        logits = torch.zeros(len(images), 7)
        logits[:, HAPPY] = 10 * (torch.stack(means).amin(0) - 0.6)
        logits[:, SAD] = -logits[:, HAPPY]
        return logits


def test_the_fewest_regions_of_a_real_face(monkeypatch):
    monkeypatch.setattr("ferlib.explanations.transplants.match", lambda moved, *_: moved)
    image = torch.ones(1, SIDE, SIDE)
    found = find_transplant(Threshold(), image, MEAN_LANDMARKS, REGIONS, TEN, donor(), SAD)
    assert len(found.regions) == 1
    assert found.regions[0] in (MOUTH, LEFT_EYE)
    assert found.passes == 9  # the surround is not exchanged
    assert found.image[0, within(found.regions[0])].mean() < 0.3
    assert found.image[0, within(SURROUND)].min() == pytest.approx(1, abs=0.3)
    back = find_transplant(Threshold(), donor().image, MEAN_LANDMARKS, REGIONS, TEN, donor(1.0), HAPPY)
    assert sorted(back.regions) == sorted([MOUTH, LEFT_EYE])
    assert back.passes == 9 + 36


def test_a_donor_that_does_not_help(monkeypatch):
    monkeypatch.setattr("ferlib.explanations.transplants.match", lambda moved, *_: moved)
    found = find_transplant(Threshold(), torch.ones(1, SIDE, SIDE), MEAN_LANDMARKS, REGIONS, TEN, donor(1.0), SAD)
    assert found.regions is None
    assert found.passes == 2**9 - 1


def test_the_donor_has_the_brightness_of_the_face():
    generator = torch.Generator().manual_seed(0)
    image = 0.2 + 0.1 * torch.rand(1, SIDE, SIDE, generator=generator)
    other = Donor(0.5 + 0.5 * torch.rand(1, SIDE, SIDE, generator=generator), MEAN_LANDMARKS, "bright")
    found = find_transplant(Threshold(), image, MEAN_LANDMARKS, REGIONS, TEN, other, HAPPY)
    assert found.image.mean() == pytest.approx(float(image.mean()), abs=0.02)


def test_the_nearest_donor():
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(5, 1, SIDE, SIDE, generator=generator)
    pool = DonorPool(faces, np.repeat(MEAN_LANDMARKS[None], 5, 0), [f"face {number}" for number in range(5)])
    assert pool.nearest(0.5 * faces[3] + 0.2, MEAN_LANDMARKS).name == "face 3"  # whatever its brightness
    assert DonorPool(faces[:0], np.zeros((0, 5, 2)), []).nearest(faces[0], MEAN_LANDMARKS) is None


def test_the_counterfactual_of_a_face(monkeypatch):
    monkeypatch.setattr("ferlib.explanations.transplants.match", lambda moved, *_: moved)
    asked = []

    def find(image, landmarks, label):
        asked.append(label)
        return donor()

    found = explain_white(Threshold(), find_donor=find)
    assert asked == [0]  # all but Happy and Sad have the logit 0; the first of them is the runner-up
    found = explain_white(Threshold(), find_donor=find, counterfactual="Sad")
    assert found.facts["counterfactual"]["label"] == SAD
    assert found.facts["counterfactual"]["donor"] == "donor"
    assert found.arrays["transplant"].shape == (SIDE, SIDE, 1)
    for nothing in ("none", "Happy"):
        found = explain_white(Threshold(), find_donor=find, counterfactual=nothing)
        assert found.facts["counterfactual"] is None
        assert not found.arrays["transplant"].any()


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def facts(values, without=(MOUTH,), becomes=SAD, outcome=0.41):
    return {
        "values": dict.fromkeys(TEN, 0.0) | values,
        "without": without and list(without),
        "becomes": becomes,
        "outcome": outcome,
    }


@pytest.mark.parametrize(
    ("values", "without", "sentence"),
    [
        (
            {LEFT_EYE: 0.15, RIGHT_EYE: 0.16, MOUTH: 0.22, "brows": -0.08},
            (LEFT_EYE, RIGHT_EYE),
            "Fear (41 %): both eyes +0.31 and the mouth +0.22 speak for it, the brows −0.08 against; "
            "without both eyes it would be Sad.",
        ),
        ({MOUTH: 0.3, LEFT_EYE: 0.2, RIGHT_EYE: -0.01}, None, "Fear (41 %): the mouth +0.30 and the left eye +0.20 "
         "speak for it."),
        ({MOUTH: -0.3}, None, "Fear (41 %): the mouth −0.30 speaks against it."),
        ({"cheeks": 0.1}, None, "Fear (41 %): the cheeks +0.10 speak for it."),
        ({MOUTH: 0.01}, None, "Fear (41 %): no region changes it by 0.03 or more."),
    ],
)  # fmt: skip
def test_sentences(values, without, sentence):
    assert describe_values("Fear", facts(values, without)) == sentence


def test_the_percents_are_those_beside_the_face():
    """The outcome of all regions in bfloat16 is 41 %, the probability in the title 43 %."""
    assert describe_values("Fear", facts({"cheeks": 0.1}, None) | {"probability": 0.43}).startswith("Fear (43 %): the")


def test_the_fill_is_named_in_plain_words():
    words = {"background": "−0.06 where the mean of other faces hides them", "grey": "−0.06 where grey 0.5 hides them"}
    words |= {"0.3": "−0.06 where grey 0.3 hides them", "blur": "−0.06 where the blurred face hides them"}
    for name, end in words.items():
        assert describe_fills({"fills": {"other": 0.9, name: -0.06}}).endswith(f"(correlation {end}).")
    assert [with_article(label) for label in ("Angry", "Fear")] == ["an Angry", "a Fear"]


def test_a_contrast_in_words_has_no_percent():
    assert describe_values("Fear rather than Sad", facts({MOUTH: 0.3}, None)).startswith("Fear rather than Sad: the")


def test_a_change_is_that_of_the_predicted_class():
    """A face called Happy, of which Sad is explained: without the mouth it would be Sad."""
    sentence = describe_values("Sad", facts({MOUTH: -0.3}) | {"label": HAPPY})
    assert sentence.endswith("; the network says Happy, and without the mouth it would be Sad.")
    assert "says" not in describe_values("Happy", facts({MOUTH: 0.3}) | {"label": HAPPY})
    assert "says Happy" in describe_values("Fear rather than Sad", facts({MOUTH: 0.3}) | {"label": HAPPY})


def test_evidence_beside_the_face_is_named():
    assert describe_surround(facts({SURROUND: 0.3, MOUTH: -0.3})["values"]) == (
        "50 % of the evidence lies outside of the face, in the hair and surround: it may be a shortcut."
    )
    assert describe_surround(facts({SURROUND: 0.05, MOUTH: 0.3})["values"]) is None
    assert describe_surround(facts({SURROUND: -0.3, MOUTH: 0.3})["values"]) is None  # it speaks against the class
    assert describe_surround(facts({})["values"]) is None


def test_action_units_of_a_region():
    assert expected_units("Happy", "cheeks") == {6: "cheek raiser", 12: "lip corner puller"}
    assert expected_units("Surprise", "left brow") == {1: "inner brow raiser", 2: "outer brow raiser"}
    assert expected_units("Neutral", MOUTH) == {}
    every = {unit for label in EMOTIONS for region in TEN for unit in expected_units(label, region)}
    assert every == {1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26}


def test_values_beside_the_action_units_that_are_expected():
    named = name_regions("Happy", facts({MOUTH: 0.22, CHEEKS: 0.3, CHIN: -0.08}))
    assert named["values"] == dict.fromkeys(TEN, 0.0) | {MOUTH: 0.22, CHEEKS: 0.3, CHIN: -0.08}
    raiser = {"6": "cheek raiser"}
    assert named["expected_units"] == {
        MOUTH: {"12": "lip corner puller", "25": "lips part"},
        CHEEKS: raiser | {"12": "lip corner puller"},
        LEFT_EYE: raiser,
        RIGHT_EYE: raiser,
    }
    rows = list_regions(named["values"], named["expected_units"])
    assert rows[:2] == (
        (CHEEKS, "+0.30", "AU 6 cheek raiser, AU 12 lip corner puller"),
        (MOUTH, "+0.22", "AU 12 lip corner puller, AU 25 lips part"),
    )
    assert rows[-1] == (CHIN, "−0.08", "")
    fear = name_regions("Fear", facts({MOUTH: 0.22}))
    assert list_regions(fear["values"], fear["expected_units"])[0] == (
        MOUTH, "+0.22", "AU 20 lip stretcher, AU 25 lips part, AU 26 jaw drop",
    )  # fmt: skip
    assert name_regions("Neutral", facts({}))["expected_units"] == {}


def test_what_the_action_units_are_is_said():
    words = "action units that EMFACS expects of {} in the region; they are measured neither in the face nor"
    assert words.format("Fear") in describe_expected("Fear", {MOUTH: {}})
    assert words.format("the emotion that is explained") in describe_expected("Fear rather than Sad", {MOUTH: {}})
    assert describe_expected("Neutral", {}) == "EMFACS expects no action units of Neutral."


# ── the script ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run_script(tiny_run, monkeypatch, *flags):
    given = ["--tag", "tiny", "--outputs-dir", str(tiny_run.outputs_dir), "--engine", "torch", *flags]
    monkeypatch.setattr("sys.argv", ["explain_regions.py", *given])
    return explain_regions.main()


def test_the_script_explains_a_saved_model(tiny_run, monkeypatch):
    monkeypatch.setattr("ferlib.explanations.landmark_detector.open_landmarks", lambda: None)
    summary = run_script(tiny_run, monkeypatch, "--samples", "8", "--counterfactual", "Happy")
    folder = tiny_run.explanations("regions")
    with np.load(tiny_run.explanation_maps("regions")) as saved:
        assert saved["maps"].shape == (8, 48, 48)
        assert saved["logits"].shape == (8, 1024, 7)
        assert saved["transplant"].shape[:3] == (8, 48, 48)
    for face in summary["faces"]:
        total = sum(face["values"].values())
        assert total == pytest.approx(face["outcome"] - face["hidden"], abs=1e-6)
        assert face["words"].startswith(f"{face['target']} ({100 * face['probability']:.0f} %)")
        assert face["expected_units"] == name_regions(face["target"], face)["expected_units"]
        assert not face["landmarks_found"]
        found = face["counterfactual"]
        assert found is None or EMOTIONS[found["label"]] == "Happy"
    assert (folder / "table.png").exists() == ("table" in summary)
    assert len(list(folder.glob("*_pred*.png"))) == 8
    again = run_script(tiny_run, monkeypatch, "--samples", "1")
    assert "table" not in again
    assert not (folder / "table.png").exists()
    (face,) = run_script(tiny_run, monkeypatch, "--samples", "1", "--target", "Happy", "--against", "Sad")["faces"]
    assert face["expected_units"][CHEEKS] == {"6": "cheek raiser", "12": "lip corner puller"}


def test_wrong_settings_are_named():
    for wrong, words in (
        ({"partition": "nine"}, "--partition"),
        ({"counterfactual": "Joy"}, "--counterfactual"),
        ({"baseline": "region"}, "--baseline"),
    ):
        with pytest.raises(UserError, match=words):
            prepare_flags(explain_regions.ExplainRegions(**wrong), explain_regions.SCRIPT)


# ── the picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_sets(keeping, label):
    """The picture of a face predicted Fear whose sets are of a network in another precision."""
    face = ExplainedFace(3, "3.png", None, np.array([0.1, 0.1, 0.26, 0.1, 0.1, 0.25, 0.09]), Target(2), seed=0)
    own = facts({MOUTH: 0.3}, [MOUTH], HAPPY) | {"keeping": keeping, "label": label, "landmarks_found": True}
    own |= {"pair": {"regions": [MOUTH, CHIN], "value": 0.0}, "fills": {"mean": 1.0}}
    placed = regions_of(MEAN_LANDMARKS, 24)
    values = np.array([own["values"][name] for name in TEN], np.float32)[placed]
    return draw_regions(
        face, np.full((24, 24, 1), 0.5, np.float32), Attribution(values, {"regions": placed}, own), "ten", "run", ""
    )


def words_of(figure):
    return " ".join(
        " ".join(each.get_text() for each in figure.findobj(lambda part: hasattr(part, "get_text"))).split()
    )


def test_the_picture_names_the_class_of_the_sets():
    words = words_of(draw_sets([MOUTH], SAD))
    assert "1 of 10 regions: still Sad" in words
    assert "predicted Fear (26 %) · in the precision of the sets: Sad" in words
    assert "the network says Sad, and without the mouth it would be Happy" in words
    assert "in the precision" not in words_of(draw_sets([MOUTH], 2))


def test_a_filled_face_of_the_same_class_needs_no_region():
    words = words_of(draw_sets([], 2))
    assert "0 of 10 regions: still Fear" in words
    assert "the filled face is Fear too" in words
    assert "no region keeps" not in words
