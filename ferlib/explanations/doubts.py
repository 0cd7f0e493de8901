"""When a map cannot be read, and why: a sentence made of the facts of a face, or "". Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WEAK_R2 = 0.25  # held out: below it a linear model says little of what the network does
NOISY = 0.5  # sampling error as a share of the values' size above which the signs of many of them are chance
KEPT = 0.5  # share of noisy copies that keep the class, below which the mean gradient is that of other faces
GAP = 0.25  # of integrated gradients: completeness gap as a share of what the values should sum to
LEAST_SUM = 0.02  # ... or of this share of their sizes' sum, as large values of both signs may well sum to 0


def of_lime(facts: Mapping[str, Any]) -> str:
    """A linear model that does not predict the network."""
    if facts["r2"] >= WEAK_R2:
        return ""
    share = f"{100 * max(facts['r2'], 0):.0f} %"
    return f"Too weak to read: the linear model predicts {share} of the network's variation (R² held out)."


def of_shapley_values(facts: Mapping[str, Any]) -> str:
    """Of LIME's regions: more sampling error than values."""
    error = facts.get("shapley_error")  # missing: faces explained by earlier versions
    if error is None or error <= NOISY:
        return ""
    return (
        f"Too noisy to read: the sampling error is {100 * error:.0f} % of the values' size; take more (--kernel-shap)."
    )


def of_shap(facts: Mapping[str, Any]) -> str:
    """More sampling error than values."""
    error = facts["sampling_error"]
    if error is not None and error <= NOISY:
        return ""
    size = "unknown with one sample" if error is None else f"{100 * error:.0f} % of the values' size"
    return f"Too noisy to read: the sampling error is {size}; take more samples (--shap-samples)."


def caution_of_shap(_target: str, facts: Mapping[str, Any]) -> str:
    """Values that are those of one choice of background faces."""
    error = facts.get("background_error")
    if error is None or error <= NOISY:
        return ""
    return (
        f"Caution: with other background faces the values would differ by {100 * error:.0f} % of their size; "
        "more of them reduce that (--bg-samples)."
    )


def of_smoothgrad(facts: Mapping[str, Any]) -> str:
    """Noise that changes the predicted class."""
    kept = facts["class_kept"]
    if kept >= KEPT:
        return ""
    return f"Too noisy to read: {100 * kept:.0f} % of the noisy copies keep the class; take less noise (--smooth-sd)."


def of_integrated_gradients(facts: Mapping[str, Any]) -> str:
    """Values that do not sum to what they should."""
    gap, rise = facts["completeness_gap"], facts["logit_above_baseline"]
    sizes = facts.get("sum_of_sizes", 0.0)  # missing: faces explained by earlier versions
    if abs(gap) <= max(GAP * max(abs(rise), LEAST_SUM * sizes), 0.05):
        return ""
    found, wanted = (f"{value:+.2g}".replace("-", "−") for value in (rise + gap, rise))
    return f"Too coarse to read: the values sum to {found} in place of {wanted}; take more steps (--steps)."


def of_eigencam(facts: Mapping[str, Any]) -> str:
    """Cells without a component."""
    return "" if facts["peak"] > 0 else "Nothing to read: the cells of the layer do not differ from one another."


def of_cam(facts: Mapping[str, Any]) -> str:
    """A map that is 0 everywhere."""
    return "" if facts["peak"] > 0 else "Nothing to read: no cell of the layer speaks for the class."
