"""score_explanations.py from its flags to its summary: the stages, one after the other, then the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from config import EMOTIONS, Score
from ferlib.data.face_data import FaceData
from ferlib.data.synthetic.variants import PERMUTED, variant_name
from ferlib.explanations.choice import describe_target
from ferlib.explanations.driver import Figures, explain_run
from ferlib.explanations.face_regions import TEN
from ferlib.explanations.landmark_detector import describe_placed
from ferlib.explanations.methods import METHODS
from ferlib.explanations.region_words import expected_units
from ferlib.explanations.scores import location, truth
from ferlib.explanations.scores.columns import FAITHFULNESS, KINDS, LOCATION, OF_LOGIT, SANITY, SIMPLE, STABILITY, TRUTH
from ferlib.explanations.scores.mean_maps import Group, average, average_face, describe_shares, group_faces
from ferlib.explanations.scores.stages import ENGINE, SCORES
from ferlib.explanations.scores.stages import PERMUTED as PERMUTED_STAGE
from ferlib.explanations.scores.stages import SANITY as SANITY_STAGE
from ferlib.explanations.scores.stages import STABILITY as STABILITY_STAGE
from ferlib.explanations.scores.summary import agreement, kendall_w, tabulate
from ferlib.explanations.specs import Method
from ferlib.explanations.subject import Subject, open_subject
from ferlib.runtime.digests import digest_file
from ferlib.runtime.distributed import is_main
from ferlib.runtime.files import atomic_path, require, write_json
from ferlib.runtime.provenance import command_line

Faces = Sequence[Mapping[str, Any]]  # of a summary


def score(flags: Score, methods: Sequence[str], figures: Figures) -> dict[str, Any]:
    """Scores the methods on the faces that the flags name; writes the JSON file and returns its content.

    The processes of torchrun divide the faces; the first one writes, the others return an empty summary.
    """
    subject = open_subject(flags)
    twin = find_permuted(flags) if flags.permuted_labels else None
    values = {"methods": list(methods), "baseline": flags.baseline}
    if is_main():
        print(describe_plan(plan_steps(flags)))
    stages = {"scores": run_stage(subject, SCORES, values, flags, flags.samples, figures, "")}
    stages["stability"] = run_stage(
        subject, STABILITY_STAGE, values, flags, flags.stability_faces, figures, "stability"
    )
    stages["sanity"] = run_stage(subject, SANITY_STAGE, values, flags, flags.sanity_faces, figures, "sanity")
    if twin:
        own = {**values, "permuted": twin["checkpoint"], "digest": twin["checkpoint_digest"]}
        stages["permuted"] = run_stage(subject, PERMUTED_STAGE, own, flags, flags.sanity_faces, figures, "permuted")
    if not is_main():
        return {}
    faces = {name: stage.get("faces", []) for name, stage in stages.items()}
    found = summarize(subject, methods, faces["scores"], faces["stability"], faces["sanity"], faces.get("permuted", []))
    found |= describe_settings(flags) | engines_of(stages)
    found |= {"networks": {"permuted": twin}} if twin else {}
    write_json(flags.run.scores, found)
    return found


def find_permuted(flags: Score) -> dict[str, str]:
    """Checkpoint and digest of the twin that learned permuted labels: its last epoch, as the best one on val is early.

    UserError where it is gone.
    """
    run = replace(flags, dataset=variant_name(PERMUTED)).run
    path = require(run.last_checkpoint, run.command("train.py"))
    return {"checkpoint": str(path), "checkpoint_digest": digest_file(path)}


def engines_of(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What computed the scores: engine and precision, of 8 bits also their agreement; the same of each stage that ran.

    The engine is that of forward passes; gradients, and the stages of repeats, are computed by torch.
    """
    ran = {name: {key: stage[key] for key in ENGINE if key in stage} for name, stage in stages.items() if stage}
    return {**ran["scores"], "stages": ran}


def describe_settings(flags: Score) -> dict[str, Any]:
    """What the scores depend on beside the network."""
    return {
        "baseline": flags.baseline,
        "explained": describe_target(flags.target, flags.against),
        "only": flags.only,
        "seed": flags.seed,
        "command": command_line(),
    }


def run_stage(
    subject: Subject,
    stage: Method,
    values: Mapping[str, Any],
    flags: Score,
    samples: Any,
    figures: Figures,
    folder: str,
) -> Mapping[str, Any]:
    """A stage's summary of no more than `samples` faces; empty where no face is asked for."""
    if samples == 0:
        return {}
    count = samples if samples == "all" or flags.samples == "all" else min(samples, flags.samples)
    indices = flags.indices[:samples] if stage is not SCORES and samples != "all" else flags.indices
    own = replace(flags, samples=count, indices=indices, figures=False)
    return explain_run(subject, name_step(stage, plan_steps(flags)), values, own, figures, folder)


def plan_steps(flags: Score) -> dict[str, Any]:
    """Title of each stage that will run → its faces at most."""
    planned = {
        SCORES.title: flags.samples,
        STABILITY_STAGE.title: flags.stability_faces,
        SANITY_STAGE.title: flags.sanity_faces,
        PERMUTED_STAGE.title: flags.sanity_faces if flags.permuted_labels else 0,
    }
    all_faces = flags.samples == "all"
    return {
        title: samples if all_faces or samples == "all" else min(samples, flags.samples)
        for title, samples in planned.items()
        if samples != 0
    }


def describe_plan(planned: Mapping[str, Any]) -> str:
    """A line on the steps: 3 steps: scores of 100 faces, stability of 20, sanity check of 20."""
    parts = [f"{title.lower()} of {faces}" for title, faces in planned.items()]
    parts[0] += " faces"
    return f"{len(parts)} step{'s' * (len(parts) != 1)}: {', '.join(parts)}"


def name_step(stage: Method, planned: Mapping[str, Any]) -> Method:
    """The stage, whose lines on the progress say which step of how many it is."""
    return replace(stage, step=f"{stage.title}, step {list(planned).index(stage.title) + 1} of {len(planned)}")


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def summarize(
    subject: Subject, methods: Sequence[str], scores: Faces, stable: Faces, sane: Faces, permuted: Faces
) -> dict[str, Any]:
    """The content of the JSON file, as plain Python.

    methods: the rows, in order. table: see summary.tabulate. concordance: Kendall's W of all columns and of those of
    each kind. agreement: names and rank correlations of each two maps. curves: means over faces of the outputs of
    deletion and insertion, and of the sanity check. region_shares: see mean_maps.describe_shares; its groups are those
    of mean_maps.npz, named by the class explained. passes: of a face beside the maps' own. placement: how faces were
    placed, in words.
    """
    names = [*methods, *SIMPLE]
    with np.load(subject.run.explanation_maps("scores")) as saved:
        arrays = {name: saved[name] for name in ("method_maps", "sums", "regions", "landmarks", "exact")}
    columns: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for face in scores:
        add(columns, face["scores"])
    for name, own in against_truth(arrays, names).items():
        columns[name] |= own
    for name, own in where(subject, scores, arrays, names).items():
        columns[name] |= own
    for face in stable:
        add(columns, face["stability"])
    for face in sane:
        add(columns, {name: {"sanity": float(np.mean(np.abs(curve[1:])))} for name, curve in face["sanity"].items()})
    for face in permuted:
        add(columns, {name: {"permuted": abs(curve[1])} for name, curve in face["sanity"].items()})
    table = tabulate(columns, [name for name in methods if METHODS[name].output != "probability"])
    groups = list(group_faces(scores))
    save_mean_maps(subject, scores, arrays, groups)
    ranked = [kind for kind in KINDS if kind in (TRUTH, FAITHFULNESS, LOCATION, STABILITY, SANITY)]
    return {
        "run": subject.run.identity(),
        "checkpoint": str(subject.checkpoint),
        "checkpoint_digest": subject.checkpoint_digest,
        "fingerprint": subject.data.fingerprint,
        "faces": len(scores),
        "methods": list(methods),
        "titles": {name: METHODS[name].title for name in methods} | SIMPLE,
        "table": table,
        "concordance": {kind: kendall_w(table, [kind]) for kind in ranked} | {"all": kendall_w(table, ranked)},
        "agreement": {"names": names, "values": agreement(arrays["method_maps"]).tolist()},
        "region_shares": describe_shares(arrays["sums"], groups, names),
        "curves": {"pixels": mean_curves(scores, names), "sanity": mean_sanity(sane)},
        "passes": float(np.mean([face["passes"] for face in scores])),
        "placement": describe_placed(scores),
    }


def save_mean_maps(subject: Subject, faces: Faces, arrays: Mapping[str, np.ndarray], groups: Sequence[Group]) -> None:
    """Writes mean_maps.npz: of each group M×SIDE×SIDE of all rows, "…_face" SIDE×SIDE in 0..1, "…_faces" a number."""
    test, landmarks = subject.data.split("test"), arrays["landmarks"]
    found: dict[str, Any] = {}
    for group in groups:
        rows = list(group.rows)
        maps = arrays["method_maps"][rows].astype(np.float32)
        found[group.name] = np.stack([average(maps[:, row], landmarks[rows]) for row in range(maps.shape[1])])
        images = subject.views(test.images[[faces[row]["index"] for row in rows]]).mean(1).cpu().numpy()
        found[f"{group.name}_face"] = average_face(images, landmarks[rows])
        found[f"{group.name}_faces"] = np.array(len(rows))
    with atomic_path(subject.run.explanations("scores") / "mean_maps.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **found)


def add(columns: dict[str, dict[str, list[float]]], face: Mapping[str, Mapping[str, float]]) -> None:
    """Appends the scores of a face, row → column → number."""
    for name, own in face.items():
        for column, value in own.items():
            columns[name].setdefault(column, []).append(value)


def against_truth(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Rank correlation and error of each row's sums over regions against the exact values of its own output.

    Of simple maps against those of the probability, and of the logit too, by names with OF_LOGIT.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for row, name in enumerate(names):
        games = {"": 0, OF_LOGIT: 1} if name in SIMPLE else {"": int(METHODS[name].output != "probability")}
        sums = arrays["sums"][:, row].astype(float)
        for suffix, game in games.items():
            pairs = list(zip(sums, arrays["exact"][:, game].astype(float), strict=True))
            found[name]["truth_rank" + suffix] = [truth.rank_correlation(*pair) for pair in pairs]
            found[name]["truth_error" + suffix] = [truth.shape_error(*pair) for pair in pairs]
    return found


def where(
    subject: Subject, faces: Faces, arrays: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Location: against masks of the evidence where the data set has them, and by regions that EMFACS expects."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    evidence = evidence_masks(subject, subject.data.split("test"), [face["index"] for face in faces])
    for number, face in enumerate(faces):
        expected = np.isin(arrays["regions"][number], expected_regions(face["target"]))
        for row, name in enumerate(names):
            values = arrays["method_maps"][number, row].astype(float)
            if 0 < expected.sum() < expected.size:
                share = location.mass_accuracy(values, expected)
                found[name].setdefault("emfacs", []).append(location.corrected(share, expected))
            mask = evidence[number] if evidence is not None else np.zeros(0)
            if 0 < mask.sum() < mask.size:
                for column, measure in MEASURES.items():
                    found[name].setdefault(column, []).append(location.corrected(measure(values, mask), mask))
    return found


MEASURES = {"pointing": location.pointing, "mass": location.mass_accuracy, "rank": location.rank_accuracy}


def evidence_masks(subject: Subject, test: FaceData, rows: Sequence[int]) -> np.ndarray | None:
    """bool N×H×W: where faces of the test split show their expression, as the network sees them; None if not known."""
    if test.evidence is None:
        return None
    shown = (test.evidence[np.asarray(rows)] > 0).astype(np.uint8) * 255
    return (subject.views(shown[..., None])[:, 0] > 0.5).cpu().numpy()


def expected_regions(target: str) -> list[int]:
    """Numbers of the regions in which EMFACS expects action units of an emotion; none of a contrast."""
    return [number for number, name in enumerate(TEN) if target in EMOTIONS and expected_units(target, name)]


def mean_curves(faces: Faces, names: Sequence[str]) -> dict[str, dict[str, list[list[float]]]]:
    """Row → fill → means over faces of the outputs of deletion and of insertion."""
    fills = list(faces[0]["curves"][names[0]])
    return {
        name: {fill: np.mean([face["curves"][name][fill] for face in faces], axis=0).tolist() for fill in fills}
        for name in names
    }


def mean_sanity(faces: Faces) -> dict[str, list[float]]:
    """Row → means over faces of the curve of the sanity check."""
    if not faces:
        return {}
    return {name: np.mean([face["sanity"][name] for face in faces], axis=0).tolist() for name in faces[0]["sanity"]}
