"""What the readers of the stages' JSON files look up in them, as shapes (runtime.shapes)."""

from __future__ import annotations

from typing import Any

from config import EMOTIONS
from ferlib.data.facts import SPLITS
from ferlib.data.synthetic.variants import SHORTCUTS
from ferlib.runtime.shapes import is_count, is_number, is_positive, is_share, misfit

CLASSES = len(EMOTIONS)
EMOTION = frozenset(EMOTIONS)
NUMBER = (is_number, None)
SHARE = (is_share, None)
INTERVAL = ([is_number, is_number], None)
VIEWS = {"accuracy": is_share, "interval": [is_share, is_share], "clean_accuracy": SHARE}
COUNTS = [is_count] * CLASSES


def is_zero(value: Any) -> bool:
    """The number 0."""
    return is_count(value) and value == 0


def is_empty(value: Any) -> bool:
    """A list of nothing."""
    return value == []


CLEAN_CLASS = {"emotion": EMOTION, "support": is_count, "recall": SHARE, "f1": SHARE, "intervals": dict}
CLEAN = (
    {
        "samples": is_positive,
        "accuracy": is_share,
        "macro_f1?": SHARE,
        "intervals": {"accuracy": [is_share, is_share]},
        "per_class?": ([CLEAN_CLASS] * CLASSES, None),
    },
    {"samples": is_zero, "accuracy": None, "macro_f1?": None, "per_class?": is_empty},  # every face has a copy
    None,
)


def is_versions(value: Any) -> bool:
    """Library → version, or any other name → text."""
    return isinstance(value, dict) and all(isinstance(version, str) for version in value.values())


def is_values(value: Any) -> bool:
    """Name → number."""
    return isinstance(value, dict) and all(map(is_number, value.values()))


def is_units(value: Any) -> bool:
    """Region → number of an action unit → its name."""
    return isinstance(value, dict) and all(map(is_versions, value.values()))


def is_views(value: Any) -> bool:
    """Views → their figures."""
    return isinstance(value, dict) and all(misfit(figures, VIEWS) is None for figures in value.values())


RUN: dict[str, Any] = {"model": str, "dataset": str, "tag": str, "fold?": is_count}

HISTORY: dict[str, Any] = {
    "run": RUN,
    "recipe": {"epochs": is_positive, "class_weights?": bool, "weights": str, "batch_size?": is_positive,
               "votes_weight?": is_number, "teacher_weight?": is_number, "teacher_temperature?": is_number},
    "recipe_name": str,
    "init_from": str,
    "teacher?": [str],
    "teacher_views?": str,
    "begun_for_epochs?": [is_positive],
    "exclude_leaks?": bool,
    "leaks?": {"faces": is_count, "exact": is_count, "near": is_count},
    "conflicts_dropped?": is_count,
    "earlier_commands?": [str],
    "image_size": (is_positive, None),
    "max_steps": (is_positive, None),
    "seed": int,
    "device": str,
    "precision": str,
    "command": str,
    "parameters": is_count,
    "data": {"fingerprint": str, "counts": dict.fromkeys(SPLITS, (COUNTS, [is_count] * 8))},
    "versions": is_versions,
    "epochs": [
        {"epoch": is_positive, "train_loss?": is_number, "train_accuracy?": NUMBER, "val_loss?": is_number,
         "val_accuracy": is_share, "val_objective?": is_number},
    ],
    "best_epoch": is_positive,
    "finished": bool,
    "minutes": is_number,
    "paused_minutes?": is_number,
}  # fmt: skip

BIN = {
    "low": is_number,
    "high": is_number,
    "faces": is_count,
    "confidence": SHARE,
    "accuracy": SHARE,
    "gap": NUMBER,
    "interval?": INTERVAL,
}
CALIBRATION = {
    "ece": is_number, "largest_gap": is_number, "mean_confidence": is_share, "bins": [BIN],
    "equal_mass_ece?": is_number, "classwise_ece?": is_number,
}  # fmt: skip
ENTROPY = {"network": is_number, "people": is_number, "rank_correlation": NUMBER}
PROBABILITY_SCORES = {
    "ece": is_number, "ece_debiased": SHARE, "nll": is_number, "brier": is_number,
    "intervals": dict.fromkeys(("ece", "nll", "brier"), INTERVAL),
}  # fmt: skip


def either(filled: dict[str, Any], count: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of some faces, or those of none, which are null; `count` names the number of faces."""
    return {count: is_positive, **filled}, {count: is_zero, **dict.fromkeys(filled)}


SETS = {
    "coverage": is_share, "interval": [is_share, is_share], "mean_size": is_number, "sizes": COUNTS,
    "per_class": [
        tuple({"emotion": frozenset((emotion,)), **each} for each in either(
            {"coverage": is_share, "interval": [is_share, is_share], "mean_size": is_number}, "faces"))
        for emotion in EMOTIONS
    ],
}  # fmt: skip
CALIBRATED = (
    {
        "views": str, "faces": is_positive, "temperature": is_number, "fitted_to": str,
        "on_val": {"before": PROBABILITY_SCORES, "after": PROBABILITY_SCORES},
        **PROBABILITY_SCORES,
        "calibration": CALIBRATION,
        "against_votes?": ({"calibration": CALIBRATION, "entropy": ENTROPY}, None),
        "sets": {**SETS, "level": is_share, "thresholds": [SHARE] * CLASSES, "one_threshold": SETS},
        "selective": {"aurc": is_share, "curve": [{"coverage": is_share, "faces": is_positive, "accuracy": is_share,
                                                   "interval": [is_share, is_share]}]},
    },
    None,
)  # fmt: skip
ON_VAL = (
    *({"samples": is_positive, "views": str, "accuracy": is_share, "macro_f1": is_share,
       "interval": [is_share, is_share], **clean} for clean in (
          {"clean_samples": is_positive, "clean_accuracy": is_share, "clean_interval": [is_share, is_share]},
          {"clean_samples": (is_zero, None), "clean_accuracy": None, "clean_interval": None})),
    None,
)  # fmt: skip
TEST = (
    {"chi_square": is_number, "degrees_of_freedom": is_count, "p_value": is_share, "cramers_v": is_number,
     "faces": is_count, "sparse_cells": SHARE},
    None,
)  # fmt: skip
CONFUSION = {"true": EMOTION, "predicted": EMOTION, "faces": is_count, "share": is_share}
ERROR = {
    "index": is_count, "name": str, "true": EMOTION, "predicted": EMOTION, "probability": is_share,
    "probabilities": [is_share] * CLASSES,
}  # fmt: skip


def per_class(emotion: str) -> dict[str, Any]:
    """The figures of a class."""
    scores = ("precision", "recall", "f1")
    return {
        "emotion": frozenset((emotion,)),
        **dict.fromkeys((*scores, "auc", "average_precision"), SHARE),
        "support": is_count,
        "intervals": dict.fromkeys((*scores, "auc"), INTERVAL),
    }


# figures of a model on faces, its own test split or another set's
FIGURES: dict[str, Any] = {
    "run": RUN,
    "samples": is_positive,
    "accuracy": is_share,
    "macro_f1": is_share,
    "weighted_f1": is_share,
    "mean_auc": SHARE,
    **dict.fromkeys(("ece", "nll", "brier"), is_number),
    **dict.fromkeys(("balanced_accuracy?", "top2_accuracy?", "ece_debiased?"), SHARE),
    **dict.fromkeys(("kappa?", "mcc?"), NUMBER),
    "intervals": {
        "accuracy": [is_share, is_share],
        **dict.fromkeys(("macro_f1", "weighted_f1", "mean_auc"), INTERVAL),
        **dict.fromkeys(("ece?", "ece_debiased?", "nll?", "brier?", "kappa?", "mcc?"), INTERVAL),
        **dict.fromkeys(("balanced_accuracy?", "top2_accuracy?"), INTERVAL),
    },
    "versions": is_versions,
    "per_class": [per_class(emotion) for emotion in EMOTIONS],
    "command": str,
}

CHECKPOINT = ({"path": str, "digest?": str}, None)
MEMBER = {"name": str, "val_accuracy": is_share, "accuracy": is_share, "interval": [is_share, is_share]}
GAIN = {"gain": is_number, "interval": [is_number, is_number], "test?": str, "p": is_share}

AGREEMENT = {"one_annotator": is_share, "most_annotators": is_share}
PART = either({"accuracy": is_share, "interval": [is_share, is_share]}, "faces")
VOTES_OF_CLASS = {
    "votes": [is_share] * CLASSES,
    **dict.fromkeys(("label_without_votes", "most_annotators", "recall"), is_share),
    "network": AGREEMENT,
}
BESIDE_VOTES = {"faces": is_positive, "predictions": AGREEMENT, "labels": AGREEMENT}
VOTED = {
    "index": is_count,
    "true": EMOTION,
    "predicted": EMOTION,
    "probability": is_share,
    "votes": [is_share] * CLASSES,
}

RESULTS: dict[str, Any] = {
    **FIGURES,
    "split": str,
    "fingerprint": str,
    "views": str,
    "other_views": is_views,
    "exclude_leaks?": bool,
    "may_have_seen?": bool,
    "without_training_copies": CLEAN,
    "against_votes?": (
        {
            **BESIDE_VOTES,
            "labels_without_votes": is_share,
            "label_has_most_votes": PART,
            "elsewhere": PART,
            "by_share": [tuple({**part, "low": is_number, "high": is_share} for part in PART)],
            "errors": {
                "count": is_count,
                **dict.fromkeys(("most", "some", "none", "label_without_votes"), is_count),
                "surest": {"most": [VOTED], "none": [VOTED]},
            },
            "calibration": CALIBRATION,
            "entropy": ENTROPY,
            "per_class": [
                tuple({"emotion": frozenset((emotion,)), **each} for each in either(VOTES_OF_CLASS, "faces"))
                for emotion in EMOTIONS
            ],
        },
        {**BESIDE_VOTES, "errors?": frozenset()},  # of an earlier version, which had nothing else
        None,
    ),
    "with_contempt?": ({"samples": is_positive, "contempt": is_positive, "accuracy": is_share}, None),
    "confusion_matrix": [COUNTS] * CLASSES,
    "main_confusions": [CONFUSION],
    "confusion_test": {"errors": TEST, "all_faces": TEST},
    "confident_errors": [ERROR],
    "calibration": CALIBRATION,
    "calibrated?": CALIBRATED,
    "on_val?": ON_VAL,
    "checkpoint": ({"path": str, "epoch": NUMBER, "metrics": (dict, None), "digest?": str}, None),
    "parameters": is_count,
    "images_per_second": NUMBER,
    "device": str,
    "precision": str,
    "ensemble?": {
        "members": [{**MEMBER, "checkpoint?": CHECKPOINT}],
        "methods": [{**MEMBER, "title": str, "gain": GAIN}],
        "chosen": str,
        "best_member": str,
        "weights": dict,
        "any_right": SHARE,
        "disagreement": [[is_number]],
    },
    "folds?": [{"checkpoint?": CHECKPOINT}],
}

SUMMARY: dict[str, Any] = {
    "run": RUN,
    "method": str,
    "settings": dict,
    "settings_digest?": str,  # that figures and maps have too; not of earlier versions
    "seed": int,
    "command": str,
    "checkpoint?": str,
    "checkpoint_digest?": str,
    "fingerprint?": str,  # of the data; not of earlier versions
    "explained": str,
    "image_size": is_positive,
    "scaled_size": is_positive,
    "seconds_per_face": is_number,
    "faces": [
        {"index": is_count, "name": str, "true": (str, None), "predicted": str, "target": str,
         "probability": is_share, "probabilities": [is_share] * CLASSES, "figure": (str, None),
         "values?": is_values, "expected_units?": is_units},
    ],
}  # fmt: skip

EXPLAINED: dict[str, Any] = {"run": RUN, "checkpoint?": str}  # what summaries and scores have in common

CELL = {"mean": is_number, "low": NUMBER, "high": NUMBER, "faces": is_positive, "rank": NUMBER,
        "beats_simple": (bool, None)}  # fmt: skip
CONCORDANCE = ({"w": is_number, "columns": [str], "methods": [str]}, None)


def has_interval(value: Any, shape: dict[str, Any]) -> bool:
    """Whether a cell has the shape, and both ends of its interval or none."""
    return misfit(value, shape) is None and (value["low"] is None) == (value["high"] is None)


def is_score_table(value: Any) -> bool:
    """Row → column → cell."""
    rows = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(row, dict) and all(has_interval(cell, CELL) for cell in row.values()) for row in rows)


def is_concordance(value: Any) -> bool:
    """Kind → Kendall's W."""
    return isinstance(value, dict) and all(misfit(each, CONCORDANCE) is None for each in value.values())


SHARE_OF_REGION = {"mean": is_number, "low": NUMBER, "high": NUMBER}


def is_region_shares(value: Any) -> bool:
    """Row → group of faces → region → its share, and the number of faces."""
    rows = value.values() if isinstance(value, dict) else [None]
    groups = [group for row in rows for group in (row.values() if isinstance(row, dict) else [None])]
    return all(
        isinstance(group, dict)
        and is_count(group.get("faces"))
        and all(has_interval(cell, SHARE_OF_REGION) for name, cell in group.items() if name != "faces")
        for group in groups
    )


def is_engines(value: Any) -> bool:
    """Stage → what computed its forward passes."""
    return isinstance(value, dict) and all(misfit(each, ENGINE) is None for each in value.values())


ENGINE: dict[str, Any] = {"engine": str, "precision": str}
SCORES: dict[str, Any] = {
    "run": RUN,
    "checkpoint": str,
    "checkpoint_digest": str,
    "fingerprint?": str,
    "faces": is_positive,
    "titles": is_versions,
    "table": is_score_table,
    "concordance": is_concordance,
    "region_shares?": is_region_shares,
    "baseline?": str,
    "explained?": str,
    "only?": str,
    "command?": str,
    "passes": is_number,
    "stages?": is_engines,
}

SHARE_OF_FACES = {"mean": is_share, "low": SHARE, "high": SHARE}
NETWORK = {"run": RUN, "accuracy": is_share, "accuracy_planted": is_share, "called": is_share,
           "called_planted": is_share, "surround": SHARE_OF_FACES, "alarms": SHARE_OF_FACES,
           "engine?": str, "precision?": str}  # fmt: skip
SHARES_OF_FACES = ("mass_honest", "mass_cheating", "exposed", "false_alarms")


def is_exposures(value: Any) -> bool:
    """Method → how it shows a shortcut."""
    return isinstance(value, dict) and all(map(is_exposure, value.values()))


def is_exposure(value: Any) -> bool:
    """All shares with their intervals, or none of them and no verdict: that of a shortcut without a place."""
    if not isinstance(value, dict) or not {*SHARES_OF_FACES, "verdict"} <= value.keys():
        return False
    if all(value[name] is None for name in SHARES_OF_FACES):
        return value["verdict"] is None
    shares = all(has_interval(value[name], SHARE_OF_FACES) for name in SHARES_OF_FACES)
    return shares and misfit(value["verdict"], (str, None)) is None


CLEVER_HANS: dict[str, Any] = {
    "run": RUN,
    "checkpoint": str,
    "checkpoint_digest": str,
    "shortcut": frozenset(SHORTCUTS),
    "planted_in": EMOTION,
    "faces": is_positive,
    "area": is_share,
    "networks": {"honest": NETWORK, "cheating": NETWORK},
    "learned": bool,
    "command?": str,
    "titles": is_versions,
    "methods": is_exposures,
}

ELSEWHERE: dict[str, Any] = {
    **FIGURES,
    "on": str,
    "views": str,
    "checkpoint?": str,
    "checkpoint_digest": str,
    "without_training_copies": ({"accuracy": is_share, "samples": is_count}, None),
}

ENDS = [is_number, is_number]
DIFFERENCE = {"gain": is_number, "interval": ENDS}
DIFFERENCE_OF_CLASS = (DIFFERENCE, {"gain": NUMBER, "interval": (ENDS, None)})
DIFFERING = {
    "count": is_count,
    "faces": [{"index": is_count, "name": str, "true": is_count, "predicted": [is_count, is_count],
               "probability": [is_share, is_share]}],
}  # fmt: skip
SLICED = {"accuracy": is_share, "interval": [is_share, is_share]}

COMPARISON: dict[str, Any] = {
    "dataset": str,
    "samples": is_positive,
    "unit": str,
    "equal_within": is_share,
    "runs": [{"name": str, "run": RUN, "views": str, "seed": NUMBER, "recipe": (str, None), "picked": (str, None),
              "checkpoint_digest": (str, None), "val_accuracy": [is_share], "fingerprint?": str, "precision?": str}],
    "contestants": [
        {"name": str, "runs": [str], "views": str, "seeds": is_positive, "accuracy": is_share, "macro_f1": is_share,
         "balanced_accuracy": is_share, "top2_accuracy": is_share, "kappa": NUMBER, "mcc": NUMBER,
         "clean_accuracy": SHARE, "exclude_leaks?": bool, "recall": [SHARE] * CLASSES, "intervals": dict,
         "sd": (dict, None)},
    ],
    "pairs": [
        {"first": str, "second": str, **DIFFERENCE, "test": str, "p": is_share, "p_holm": is_share, "better": is_share,
         "equal": is_share, "worse": is_share, "verdict": frozenset(("better", "worse", "equal", "unknown")),
         "sentence": str, "other_figures": {"macro_f1": DIFFERENCE, "nll": DIFFERENCE},
         "per_class": [DIFFERENCE_OF_CLASS] * CLASSES, "faces": {"only_first": DIFFERING, "only_second": DIFFERING}},
    ],
    "published": [{"system": str, "accuracy": is_share, "interval": [is_share, is_share], "scored": str, "picked": str,
                   "start": str, "views": str}],
    "people": ({"faces": is_positive, "labels": AGREEMENT}, None),
    "slices": [{"name": str, "meaning": str, "faces": is_positive,
                "contestants": [{"name": str, "inside": SLICED, "outside": SLICED}]}],
    "left_out": [str],
    "command": str,
}  # fmt: skip
