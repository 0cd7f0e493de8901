"""The audit: altered copies of a small set are recognised and named; the facts of the real FER2013 are found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

import datasets
from config import EMOTIONS
from ferlib.data.audit.content import audit_faces
from ferlib.data.audit.counts import class_balance, judge_balance
from ferlib.data.audit.duplicates import copied_faces, exact_copies, judge_subjects, near_copies
from ferlib.data.audit.known import judge_known, known_copy, make_known, moves, write_known
from ferlib.data.audit.pictures import judge_pictures, picture_kinds
from ferlib.data.audit.quality import superiority
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS, dataset_facts
from ferlib.data.leaks import find_leaks, without_leaks
from ferlib.data.near_copies import find_near_copies
from ferlib.data.perceptual_hash import nearest_hashes, perceptual_hashes
from ferlib.data.picture_quality import measure_pictures
from ferlib.data.readers.trees import Tree
from ferlib.evaluation.audits import AUDIT, read_audit
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.runtime.runs import audit_path
from ferlib.runtime.shapes import misfit

FACES = 420


def draw(count, seed=0):
    """uint8 count×48×48×1: blobs with fine texture, of many brightnesses, none like another."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 48, 48))
    smooth = np.stack([gaussian_filter(face, 5) / gaussian_filter(face, 5).std() for face in coarse])
    fine = np.stack([gaussian_filter(face, 0.8) for face in rng.normal(size=(count, 48, 48))])
    contrast, brightness = rng.uniform(25, 45, (2, count, 1, 1))
    return np.clip(90 + brightness + contrast * smooth + 20 * fine, 0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def good():
    """A set of 420 different faces in three splits, its classes in equal shares."""
    numbers = np.arange(FACES)
    splits = np.array([0, 0, 0, 1, 2])[numbers // 7 % 5]
    return FaceData("folder:faces", draw(FACES), numbers % 7, numbers.astype(str), splits, "good")


@pytest.fixture(scope="module")
def known(good):
    return make_known(good, "the good copy")


def findings(data, known=None, **options):
    """check → (level, text) of all but what is in order."""
    return {
        finding.check: (finding.level, finding.text)
        for finding in audit_faces(data, known, **options).findings
        if finding.level != "ok"
    }


def altered(data, change):
    return replace(data, images=np.stack([change(image[..., 0]) for image in data.images])[..., None])


def equalise(image):
    return np.asarray(Image.fromarray(np.uint8(255 * (np.argsort(np.argsort(image.ravel())) / image.size)))).reshape(
        image.shape
    )


def stretch(image):
    low, high = np.percentile(image, (1, 99))
    return np.clip((image.astype(float) - low) * 255 / (high - low), 0, 255).astype(np.uint8)


# ── copies that something was done to ────────────────────────────────────────────────────────────────────────────────


def test_the_good_copy_is_in_order(good, known):
    assert findings(good, known) == {}
    assert findings(good) == {}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda image: gaussian_filter(image, 0.8), "blurred"),
        (equalise, "equalised"),
        (stretch, "contrast-stretched"),
        (lambda image: (0.6 * image).astype(np.uint8), "darker"),
        (lambda image: np.clip(image + np.random.default_rng(0).normal(0, 12, image.shape), 0, 255).astype(np.uint8),
         "sharper or noisier"),
    ],
    ids=["blurred", "equalised", "stretched", "darker", "noisy"],
)  # fmt: skip
def test_altered_pictures_are_named(good, known, change, word):
    level, text = findings(altered(good, change), known)["pictures"]
    assert level == "error"
    assert word in text
    assert "compared with the known copy" in text


def test_a_blurred_test_part_is_named_without_a_known_copy(good):
    blurred = altered(good, lambda image: gaussian_filter(image, 1.0))
    test = good.splits == SPLITS.index("test")
    mixed = replace(good, images=np.where(test[:, None, None, None], blurred.images, good.images))
    level, text = findings(mixed)["pictures"]
    assert level == "error"
    assert text.startswith("the pictures of test are blurred")
    assert text.endswith("compared with those of train")


def test_a_leaky_copy_is_named(good, known):
    train, test = (np.flatnonzero(good.splits == SPLITS.index(split)) for split in ("train", "test"))
    images = good.images.copy()
    images[train[:8]] = images[test[1:9]]
    images[train[8:11]] = images[test[9:12], :, ::-1]
    shifted = np.clip(1.1 * images[test[12]].astype(float) + 8, 0, 255)
    images[train[11]] = shifted.astype(np.uint8)
    leaky = replace(good, images=images)
    level, text = findings(leaky)["leaks"]
    assert level == "error"
    assert text.startswith("12 of 84 (14.3\u202f%) faces of test stand in train, 8 of them pixel by pixel")
    assert findings(leaky, exclude_leaks=True) == {}
    kept, numbers = without_leaks(leaky)
    assert numbers == {"faces": 12, "exact": 8, "near": 4}
    assert sorted(set(leaky.names) - set(kept.names)) == sorted(leaky.names[train[:12]])
    assert kept.fingerprint == leaky.fingerprint
    assert findings(leaky)["labels of copies"][0] == "warning", "each copy has the label of its place"
    assert findings(leaky, known)["known splits"][0] == "error", "the known copy has these pictures in test alone"


def test_a_mislabelled_copy_is_named(good, known):
    labels = good.labels.copy()
    changed = np.flatnonzero(good.splits == 0)[:40]
    labels[changed] = (labels[changed] + 1) % 7
    level, text = findings(replace(good, labels=labels), known)["known labels"]
    assert level == "error"
    assert text.startswith("40 of 420 (9.5\u202f%) recognised faces have another label than in the good copy")


def test_a_copy_that_was_split_anew_is_named(good, known):
    splits = np.random.default_rng(3).permutation(good.splits)
    level, text = findings(replace(good, splits=splits), known)["known splits"]
    moved = int((splits != good.splits).sum())
    assert level == "error"
    assert f"the set was split anew: {moved} faces stand in another split" in text
    from_test = int(((good.splits == 2) & (splits == 0)).sum())
    assert f"{from_test} from test to train" in text


def test_a_face_of_several_origins_is_moved_once():
    masks = np.array([0b110, 0b110, 0b100, 0b010, 0b001 | 1 << 9], np.uint64)
    found = moves(masks, np.array([0, 0, 0, 0, 2]))
    assert found == {"val or test → train": 2, "test → train": 1, "val → train": 1, "train → test": 1}
    facts = {"copy": "a copy", "fingerprint_of": None, "compared": 5, "recognised": 5, "moved": found, "relabelled": 0,
             "missing": {}, "own_labels": True}  # fmt: skip
    [finding] = judge_known(facts)
    assert "5 faces stand in another split" in finding.text
    assert "2 from val or test to train" in finding.text


def test_a_truncated_copy_is_named(good, known):
    rows = np.flatnonzero((good.splits != 0) | (np.arange(FACES) < 200))
    lost = FACES - len(rows)
    level, text = findings(good.select(rows), known)["known faces"]
    assert (level, text) == ("error", f"faces of the good copy are missing: {lost} in train")
    short = replace(good.select(rows), dataset="fer2013")
    assert "the copy is incomplete: train" in findings(short)["counts"][1]


def test_other_faces_are_not_taken_for_known_ones(good, known):
    strangers = replace(good, images=draw(FACES, seed=5))
    level, text = findings(strangers, known)["known faces"]
    assert level == "error"
    assert "pictures are those of the good copy" in text


def test_recoded_and_scaled_pictures_are_recognised(good, known):
    def scale(image):
        return np.asarray(Image.fromarray(image).resize((112, 112)).resize((48, 48), Image.Resampling.BOX))

    found = audit_faces(altered(good, scale), known).facts["known"]
    assert found["recognised"] == FACES
    assert found["moved"] == {}
    assert found["relabelled"] == 0


def test_blank_and_saturated_pictures_are_listed(good):
    images = good.images.copy()
    images[3], images[10, :30], images[17] = 128, 255, 0
    found = audit_faces(replace(good, images=images)).facts["defects"]
    assert [face["name"] for face in found["flat"]] == ["3", "17"]
    assert [face["name"] for face in found["saturated"]] == ["10"]


def test_people_in_two_splits_and_empty_classes(good):
    assert judge_subjects(good) == (None, [])
    apart = replace(good, subjects=good.splits * 100 + np.arange(FACES) % 9)
    assert judge_subjects(apart)[1][0].level == "ok"
    shared = replace(good, subjects=np.arange(FACES) % 50)
    assert findings(shared)["subjects"][0] == "error"
    labels = np.where((good.splits == 2) & (good.labels == 1), 0, good.labels)
    poor = replace(good, labels=labels)
    assert ("error", "test has no faces of Disgust") in [
        (finding.level, finding.text) for finding in judge_balance(class_balance(poor), EMOTIONS)
    ]


# ── measures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_copies_between_splits_by_hand():
    numbers, splits = np.array([0, 0, 1, 1, 1, 2, 3, 3]), np.array([0, 2, 0, 0, 1, 2, 1, 1])
    found = copied_faces(numbers, splits)
    assert found["train"].tolist() == [False, True, True, True, True, False, False, False]
    assert found["val"].tolist() == [False, False, True, True, False, False, True, True]
    assert found["test"].tolist() == [True] + [False] * 7


def test_exact_copies_by_hand():
    images = np.arange(8, dtype=np.uint8)[[0, 0, 1, 1, 1, 2, 3, 3], None, None, None]
    labels, splits = np.array([0, 0, 1, 2, 1, 0, 6, 6]), np.array([0, 2, 0, 0, 1, 2, 1, 1])
    found = exact_copies(FaceData("fer2013", images, labels, labels.astype(str), splits, ""))
    assert (found["unique"], found["groups"], found["largest_group"]) == (4, 3, 3)
    assert (found["conflicting_groups"], found["conflicting_faces"]) == (1, 3)
    assert found["faces_with_copy"]["test"] == {"train": 1, "val": 0, "test": 0}
    assert found["by_class"]["test in train"] == [1, 0, 0, 0, 0, 0, 0]


def test_near_copies_are_found_once_and_only_near_ones():
    images = draw(60, seed=2)
    images = np.concatenate([images, images[[4]], images[[9], :, ::-1], np.roll(images[[20]], 24, axis=1)])
    images[60, :4, :4] += 3  # a copy with a changed corner; 61 is a mirrored one; 62 is another picture
    images = np.concatenate([images, images[[60]], np.full((2, 48, 48, 1), 9, np.uint8)])
    pairs = find_near_copies(images, np.arange(len(images)))
    found = {(int(one), int(other), bool(mirrored)) for one, other, mirrored in zip(*pairs[:2], pairs[4], strict=True)}
    assert found == {(4, 60, False), (9, 61, True)}
    between = find_near_copies(images, np.arange(30), np.arange(30, len(images)))
    assert len(between) == 2
    assert len(find_near_copies(images, np.arange(30))) == 0


def test_a_pair_that_is_alike_in_both_ways_or_orders_is_found_once():
    half = draw(30, seed=8)[:, :, :24]
    symmetric = np.concatenate([half, half[:, :, ::-1]], axis=2)
    noise = np.random.default_rng(0).normal(0, 3, (3, 48, 48, 1))
    ramp = np.linspace(-4, 4, 48)[None, :, None] * np.array([1, -1, 1])[:, None, None, None]
    near = np.clip(symmetric[:3] + ramp + noise, 0, 255).astype(np.uint8)  # 31 is more alike when it is mirrored
    images = np.concatenate([symmetric + np.linspace(-4, 4, 48)[:, None], near]).clip(0, 255).astype(np.uint8)
    pairs = find_near_copies(images, np.arange(len(images)))
    found = {(int(one), int(other)): bool(way) for one, other, way in zip(*pairs[:2], pairs.mirrored, strict=True)}
    assert found == {(0, 30): False, (1, 31): True, (2, 32): False}
    assert len(pairs) == 3
    again = np.concatenate([images, images[[0, 30]]])  # the first pair stands in both sets
    assert len(find_near_copies(again, np.arange(33), np.array([33, 34]))) == 1
    train = FaceData("folder:x", images, np.zeros(33, int), np.arange(33).astype(str), np.arange(33) // 30 * 2, "")
    content = near_copies(train, pairs)
    assert (content["pairs"], content["mirrored"], len(content["weakest"])) == (3, 1, 3)


def test_leaks_go_through_copies_of_near_copies():
    images = draw(30, seed=4)
    images[10] = images[2]
    images[10, :4, :4] += 3
    images[11] = images[10]
    splits = np.where(np.arange(30) == 2, 2, 0)
    data = FaceData("folder:x", images, splits * 0, splits.astype(str), splits, "")
    leaks = find_leaks(data)
    assert np.flatnonzero(leaks.near).tolist() == [10, 11]
    assert not leaks.exact.any()


def test_measures_of_plain_pictures():
    half = np.zeros((48, 48), np.uint8)
    half[:, 24:] = 200
    even = np.tile(np.arange(256, dtype=np.uint8), 9).reshape(48, 48)
    gaps = (even // 4) * 4
    found = measure_pictures(np.stack([half, even, gaps, np.full_like(half, 7)])[..., None])
    assert found["brightness"].tolist() == [100, 127.5, 126, 7]
    assert found["contrast"][0] == pytest.approx(100)
    assert found["saturation"].tolist() == pytest.approx([0.5, 2 / 256, 1 / 64, 0])
    assert found["uniformity"][1] == pytest.approx(0, abs=1e-6)
    assert found["comb"][1] == pytest.approx(0, abs=1e-3)
    assert found["comb"][2] > 0.6, "three of four grey levels are empty"
    assert found["sharpness"][3] == 0


def test_superiority_is_the_share_of_pairs():
    values, others = np.array([1.0, 2, 2, 5]), np.array([2.0, 3])
    pairs = [(value > other) + 0.5 * (value == other) for value in values for other in others]
    assert superiority(values, others) == pytest.approx(np.mean(pairs))


def test_hashes_are_those_of_the_definition_and_nearest_ones_are_found():
    images = draw(20, seed=6)
    hashes = perceptual_hashes(images)
    assert all(bin(int(value)).count("1") == 32 for value in hashes), "half of the frequencies exceed their median"
    known = np.unique(hashes)
    masks = np.arange(1, 21, dtype=np.uint64)
    asked = known[[3, 7]] ^ np.array([0, 0b101], np.uint64)
    distances, found = nearest_hashes(asked, known, masks)
    assert distances.tolist() == [0, 2]
    assert found.tolist() == [4, 8]


def test_a_known_copy_survives_its_file(tmp_path, monkeypatch, known):
    from ferlib.data.audit import known as module

    monkeypatch.setattr(module, "table_path", lambda name: tmp_path / f"{name}.npz")
    write_known(tmp_path / "fer2013.npz", known)
    read = known_copy("fer2013")
    assert read.title == known.title
    np.testing.assert_array_equal(read.hashes, known.hashes)
    assert known_copy("ferplus").own_labels is False
    assert known_copy("rafdb") is None


# ── the script ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["datasets.py", *map(str, arguments)])
    datasets.main()


def write_folders(root, good, leaks=0):
    """The good copy as folders of PNGs, of which some training faces are those of test."""
    test = np.flatnonzero(good.splits == 2)
    for row, (image, label, split) in enumerate(zip(good.images, good.labels, good.splits, strict=True)):
        if split == 0 and row < 7 * leaks:
            image = good.images[test[(row + 1) % len(test)]]
        folder = root / SPLITS[split] / EMOTIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).resize((112, 112), Image.Resampling.NEAREST).save(folder / f"{row}.png")


def test_pictures_of_many_sizes_are_all_judged(tmp_path):
    for side in range(30, 80):
        Image.new("L", (side, side)).save(tmp_path / f"{side}.png")
    (tmp_path / "original").mkdir()
    Image.new("L", (10, 10)).save(tmp_path / "original" / "of_another_folder.png")
    kinds = picture_kinds(Tree(tmp_path), [f"{side}.png" for side in range(30, 80)])
    assert sum(kind["files"] for kind in kinds) == 50, "those that are no faces of the set do not count"
    [finding] = judge_pictures(kinds, (), dataset_facts("fer2013"))
    assert finding.text == "18 of 50 pictures are smaller than 48 pixels a side and are enlarged"


def test_the_script_writes_what_it_finds(tmp_path, monkeypatch, capsys, good):
    write_folders(tmp_path / "faces", good, leaks=2)
    broken = tmp_path / "faces/train/Fear/2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    name, outputs = f"folder:{tmp_path / 'faces'}", tmp_path / "outputs"
    flags = ("--dataset", name, "--outputs-dir", outputs)
    run(monkeypatch, *flags)
    printed = capsys.readouterr().out
    assert "1 pictures cannot be read and are left out: train/Fear/2.png" in printed
    assert "faces of test stand in train" in printed
    content = read_audit(outputs, name)
    assert misfit(content, AUDIT) is None
    assert content["leaks"]["test"]["exact"] == content["exact_copies"]["faces_with_copy"]["test"]["train"] > 0
    assert content["kinds"] == [{"format": "PNG", "mode": "L", "width": 112, "height": 112, "files": FACES - 1}]
    for kind in content["pictures_drawn"]:
        with Image.open(audit_path(outputs, name).with_name(f"{audit_path(outputs, name).stem}_{kind}.png")) as picture:
            assert min(picture.size) > 200
    assert {"conflicts", "quality"} <= set(content["pictures_drawn"])
    with pytest.raises(UserError, match=r"would invalidate results:\n✗ files: .*\n✗ leaks: "):
        run(monkeypatch, *flags, "--strict", "--no-figures")
    assert read_audit(outputs, name)["pictures_drawn"] == []
    broken.unlink()
    run(monkeypatch, *flags, "--strict", "--no-figures", "--exclude-leaks")
    assert read_audit(outputs, name)["excluded"]["faces"] > 0
    with pytest.raises(
        UserError, match=r"nothing has no predictions on this version of faces; run: python evaluate\.py"
    ):
        run(monkeypatch, *flags, "--no-figures", "--run", "nothing")


def test_a_damaged_audit_is_refused_with_the_command(tmp_path):
    path = audit_path(tmp_path, "fer2013")
    assert read_audit(tmp_path, "fer2013") is None
    write_json(path, {"dataset": "fer2013"})
    with pytest.raises(UserError, match=r"is damaged: .*; run again: python datasets\.py --dataset fer2013"):
        read_audit(tmp_path, "fer2013")
    path.write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        read_audit(tmp_path, "fer2013")


# ── the real set ─────────────────────────────────────────────────────────────────────────────────────────────────────


REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module", params=["", "kaggle_csv"], ids=["jpeg", "csv"])
def real(request, tmp_path_factory):
    """Both copies of the real FER2013, audited."""
    if not (REAL / request.param / "fer2013.zip").exists():
        pytest.skip("the real FER2013 is not here")
    outputs = tmp_path_factory.mktemp("real")
    source = datasets.locate("fer2013", datasets.dataset_facts("fer2013"), REAL / request.param, outputs)
    cache = datasets.cache_of("fer2013", datasets.dataset_facts("fer2013"), source.key, outputs)
    data = datasets.cached_faces(cache, "fer2013", source.faces, source.size)
    return request.param, audit_faces(data, known_copy("fer2013"))


@pytest.mark.slow
def test_facts_of_the_real_fer2013(real):
    place, audit = real
    exact, near, leaks = (audit.facts[name] for name in ("exact_copies", "near_copies", "leaks"))
    assert exact["unique"] == {"": 34_034, "kaggle_csv": 34_036}[place]
    assert exact["faces_with_copy"]["test"]["train"] == 288
    assert exact["by_class"]["test in train"][EMOTIONS.index("Surprise")] == 118
    assert exact["faces_with_copy"]["test"]["val"] == 44
    assert exact["faces_with_copy"]["val"]["train"] == 280
    assert exact["conflicting_groups"] == 57
    assert len(audit.facts["defects"]["flat"]) == 13
    assert near["faces_with_unmirrored_copy"]["test"]["train"] == 362
    assert leaks["test"] == {"faces": 365, "exact": 288, "of": 3589}
    assert abs(leaks["train"]["faces"] - 921) <= 1
    known = audit.facts["known"]
    assert known["fingerprint_of"]
    assert known["recognised"] == known["compared"] == 35_874
    assert known["relabelled"] == 0
    assert sum(known["moved"].values()) <= 2
    errors = {finding.check for finding in audit.findings if finding.level == "error"}
    assert errors == {"leaks"}
    assert len(json.dumps(audit.facts)) < 1e6
