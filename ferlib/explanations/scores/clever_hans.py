"""The Clever Hans test: do explanations show that a network reads a shortcut instead of the face?

Two networks of the same kind, one trained on honest drawn faces, one on faces whose class Sad carries a shortcut, are
explained on the same test faces of the other classes, all with the shortcut planted: why Sad? A map that exposes the
cheat lies on the shortcut for the second network, and not for the first. Lapuschkin et al., "Unmasking Clever Hans
predictors and assessing what machines really learn" (2019); the pair of networks as in Adebayo et al., "Debugging tests
for model explanations" (2020), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from config import EMOTIONS, Score
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.synthetic.variants import PLANTED, plant, shortcut_mask, variant_name
from ferlib.explanations.binding import Explain
from ferlib.explanations.choice import pick_faces
from ferlib.explanations.chosen_faces import predict_probabilities
from ferlib.explanations.driver import Figures, explain_run
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution
from ferlib.explanations.region_words import SURROUND_ALARM, surround_share
from ferlib.explanations.scores import location
from ferlib.explanations.scores.scorer import EXACT
from ferlib.explanations.scores.scorer import count_passes as count_passes  # of the stage
from ferlib.explanations.scores.stages import CLEVER_HANS, ENGINE
from ferlib.explanations.scores.summary import interval
from ferlib.explanations.subject import Subject, open_subject
from ferlib.runtime.digests import digest
from ferlib.runtime.distributed import is_main
from ferlib.runtime.files import write_json
from ferlib.runtime.provenance import command_line

Faces = Sequence[Mapping[str, Any]]  # of a summary
HONEST, CHEATING = NETWORKS = ("honest", "cheating")
EXPOSES, MISSES, UNCLEAR = "exposes it", "misses it", "unclear"
LEARNED = 0.5  # share of faces of other classes that the shortcut must turn into Sad


# ── the maps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def explain(
    model: nn.Module,  # noqa: ARG001 — the methods have it
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    maps: Mapping[str, Explain],
    **_: Any,
) -> list[Attribution]:
    """An attribution per face: "method_maps" float32 M×H×W of all methods, "faces" uint8 H×W×C; facts "values", the
    exact ones of the regions, and "landmarks_found".
    """
    found = {name: method(images, targets, seeds) for name, method in maps.items()}
    shown = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [
        Attribution(
            found[EXACT][face].map,
            {
                "method_maps": np.stack([rows[face].map for rows in found.values()]).astype(np.float32),
                "faces": shown[face],
            },
            {key: found[EXACT][face].facts[key] for key in ("values", "landmarks_found")},
        )
        for face in range(len(images))
    ]


# ── the test ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_methods(flags: Score, methods: Sequence[str], figures: Figures) -> dict[str, Any]:
    """Explains both networks, which are trained, and writes what it finds to Run.clever_hans; returns that.

    shortcut, planted_in (a class), faces. networks: name → run, checkpoint, its digest, accuracy on the test faces as
    drawn and with the shortcut planted in all, `called` and `called_planted` (share of the faces of other classes that
    are called the class of the shortcut, without it and with it), surround (share of the exact values that lies outside
    of the face), alarms (share of the faces whose sentence warns of it), engine and precision of the forward passes, of
    8 bits also agreement. learned: whether the second network reads the shortcut at all. methods: name → see `judge`.
    area: share of the picture that is the shortcut.
    """
    kind = flags.shortcut
    networks, maps = {}, {}
    for name, dataset in zip(NETWORKS, (flags.dataset, variant_name(kind)), strict=True):
        own = replace(flags, dataset=dataset, target=EMOTIONS[PLANTED], figures=False)
        drawn = open_subject(own)
        planted = with_shortcut(drawn, kind)
        own = replace(own, indices=choose_others(drawn.data.split("test"), flags))
        summary = explain_run(
            planted,
            replace(CLEVER_HANS, step=f"{CLEVER_HANS.title}, {name} network ({NETWORKS.index(name) + 1} of 2)"),
            stage_values(methods, flags),
            own,
            figures,
            drawn.run.with_shortcut(kind).name,
        )
        described = describe_network(drawn, planted, summary.get("faces", ()))  # predicts, which all processes share
        if is_main():
            networks[name] = described | {key: summary[key] for key in ENGINE if key in summary}
            with np.load(planted.run.with_shortcut(kind) / "maps.npz") as saved:
                maps[name] = saved["method_maps"].astype(np.float64)
    if not is_main():
        return {}
    mask, learned = seen_mask(drawn, kind), networks[CHEATING]["called_planted"] >= LEARNED
    found = {
        **{key: networks[HONEST][key] for key in ("run", "checkpoint", "checkpoint_digest")},
        "baseline": flags.baseline,
        "seed": flags.seed,
        "command": command_line(),
        "shortcut": kind,
        "planted_in": EMOTIONS[PLANTED],
        "faces": len(maps[HONEST]),
        "area": float(mask.mean()),
        "box": None if mask.all() else box_of(mask),
        "networks": networks,
        "learned": learned,
        "titles": {name: METHODS[name].title for name in methods},
        "methods": {
            name: judge(maps[HONEST][:, row], maps[CHEATING][:, row], mask, learned) for row, name in enumerate(methods)
        },
    }
    write_json(flags.run.clever_hans(kind), found)
    return found


def stage_values(methods: Sequence[str], flags: Score) -> dict[str, Any]:
    """The settings of the stage."""
    return {"methods": list(methods), "baseline": flags.baseline}


def seen_mask(subject: Subject, kind: str) -> np.ndarray:
    """bool H×W: the pixels of the shortcut as the network is given the face, which may be cropped and scaled."""
    whole = shortcut_mask(subject.data.images.shape[1], kind).astype(np.uint8) * 255
    return (subject.views(whole[None, :, :, None])[0, 0] > 0.5).cpu().numpy()


def box_of(mask: np.ndarray) -> list[int]:
    """Top, left, bottom and right of the pixels of a mask, the last two outside."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]


def with_shortcut(subject: Subject, kind: str) -> Subject:
    """The same network, whose test faces all have the shortcut."""
    images = np.array(subject.data.images)
    test = subject.data.splits == SPLITS.index("test")
    images[test] = plant(images[test], kind)
    data = replace(subject.data, images=images, fingerprint=digest(subject.data.fingerprint, kind))
    return replace(subject, data=data)


def choose_others(test: FaceData, flags: Score) -> tuple[int, ...]:
    """Rows of test faces that do not show the class of the shortcut, balanced over the others."""
    rows = np.flatnonzero(test.labels != PLANTED)
    count = len(rows) if flags.samples == "all" else flags.samples
    return tuple(rows[pick_faces(test.labels[rows], min(count, len(rows)), flags.seed)].tolist())


def describe_network(drawn: Subject, planted: Subject, faces: Faces) -> dict[str, Any]:
    """The entry of a network, from its test faces as they are drawn and with the shortcut, and the explained ones."""
    found: dict[str, Any] = {
        "run": drawn.run.identity(),
        "checkpoint": str(drawn.checkpoint),
        "checkpoint_digest": drawn.checkpoint_digest,
    }
    for ending, subject in (("", drawn), ("_planted", planted)):
        test = subject.data.split("test")
        classes = predict_probabilities(subject, test.images).argmax(1)
        found[f"accuracy{ending}"] = float((classes == test.labels).mean())
        found[f"called{ending}"] = float((classes == PLANTED)[test.labels != PLANTED].mean())
    if not faces:  # only the first process of torchrun has them
        return found
    shares = np.array([surround_share(face["values"]) for face in faces])
    return found | {"surround": around(shares), "alarms": around(shares >= SURROUND_ALARM)}


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────────


def judge(honest: np.ndarray, cheating: np.ndarray, mask: np.ndarray, learned: bool = True) -> dict[str, Any]:
    """How a method's maps N×H×W of the two networks lie to the shortcut bool H×W.

    mass_honest, mass_cheating: share of the positive values that lies on it. exposed, false_alarms: share of the faces
    whose strongest value lies on it, or on a region that reaches there, for the second network and for the first (the
    pointing game: Zhang et al., "Top-down neural attention by excitation backprop", 2016). Each with mean, low and high
    (95 % over faces). verdict: EXPOSES where `exposed` is above a half and `false_alarms` below it, MISSES where
    `exposed` is below a half, each with the whole interval; else UNCLEAR. A shortcut that fills the picture has no
    place: all null. verdict is null, too, where the second network has not learned the shortcut.
    """
    if mask.all():
        empty = dict.fromkeys(("mass_honest", "mass_cheating", "exposed", "false_alarms", "verdict"))
        return dict(empty)
    mass = [np.array([location.mass_accuracy(each, mask) for each in maps]) for maps in (honest, cheating)]
    false, true = (np.array([points_at(each, mask) for each in maps]) for maps in (honest, cheating))
    exposed, alarms = around(true), around(false)
    return {
        "mass_honest": around(mass[0]),
        "mass_cheating": around(mass[1]),
        "exposed": exposed,
        "false_alarms": alarms,
        "verdict": decide(exposed, alarms) if learned else None,
    }


def points_at(values: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the strongest value, above 0, lies in the mask, alone or with others as strong."""
    return bool(values[mask].max() >= values.max() > 0)


def decide(exposed: Mapping[str, float | None], alarms: Mapping[str, float | None]) -> str:
    """The verdict."""
    low, high, most = exposed["low"], exposed["high"], alarms["high"]
    if low is None or high is None or most is None:
        return UNCLEAR
    if low > 0.5 > most:
        return EXPOSES
    return MISSES if high < 0.5 else UNCLEAR


def around(values: np.ndarray) -> dict[str, float | None]:
    """mean, low and high of the mean of N values: bootstrap, or Wilson's of a share (bool N); none of a single one."""
    if values.dtype == bool and len(values) > 1:
        found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
        return {"mean": float(np.mean(values)), "low": float(found.low), "high": float(found.high)}
    low, high = interval(values.astype(float))
    return {"mean": float(np.mean(values)), "low": low, "high": high}
