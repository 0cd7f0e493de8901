"""The one table of explanation methods: METHODS; scripts, report, page, predict.py and benchmarks derive from it.

Imports no torch: a row names its function as MODULE:NAME, which `Method.load` imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from config import EMOTIONS
from ferlib.explanations.specs import Method, Setting
from ferlib.runtime.errors import UserError, lookup

# ── settings that several methods have ───────────────────────────────────────────────────────────────────────────────


def baseline(what: str, also: Mapping[str, str] | None = None) -> Setting:
    """The setting --baseline: what stands in for hidden pixels."""
    extra = "".join(f", {name} ({words})" for name, words in (also or {}).items())
    return Setting(
        "baseline",
        "grey",
        f"{what}: grey, mean (of the face), blur, black, a number in 0..1{extra}",
        kind=str,
        choices=also or {},
        label="Baseline: what stands in for hidden pixels",
    )


SEGMENTATIONS = {
    "auto": "parts of the face; of faces of 112 pixels and more by colour, merged",
    "facial": "parts of the face, placed by its landmarks",
    "merged": "by colour, merged into fewer (quickshift)",
    "quickshift": "by colour (quickshift)",
    "slic": "compact (SLIC)",
    "felzenszwalb": "by edges (Felzenszwalb)",
    "grid": "squares",
}
PARTITIONS = {"ten": "ten", "eleven": "eleven, the brows one by one"}
COUNTERFACTUALS = {"runner_up": "of the second most probable class", "none": "none"} | {
    emotion: f"of {emotion}" for emotion in EMOTIONS
}
SAMPLING = {"paired": "in pairs, balanced", "independent": "at random, as in lime"}
REGION_MEAN = {"region": "the mean of each region"}
LAYER = Setting(
    "layer", "", "path of the module whose output is read, such as backbone.layer3; default: the model's own"
)
PER_PIXEL = "|∂ logit / ∂ pixel|"
BRIGHT = "bright: evidence for the class"
STEEP = "bright: the output changes most with this pixel"


def check_windows(values: Mapping[str, Any]) -> None:
    """UserError for windows that leave a part of the face uncovered."""
    if not 0 < values["stride"] <= values["window"] <= 1:
        raise UserError("--window and --stride are shares of the side: above 0, at most 1, the stride not the larger")


def cam(name: str, title: str, choice: str, how_to_read: str, caution: str, **facts: Any) -> Method:
    """A row of the CAM family."""
    return Method(
        name,
        title,
        f"explain_gradcam.py --method {choice}",
        "cam:explain",
        how_to_read,
        caution,
        **{
            "settings": (LAYER,),
            "fixed": {"kind": name},
            "needs": ("cells",),
            "meaning": BRIGHT,
            "note": "cells of {layer}, upsampled bilinearly · 1: the peak in this face, 0: no evidence, or against",
            "doubt": "doubts:of_cam",
            **facts,
        },
    )


def gradient(name: str, title: str, how_to_read: str, caution: str, **facts: Any) -> Method:
    """A row of the gradient methods."""
    return Method(
        name,
        title,
        f"explain_saliency.py --method {name}",
        "gradients:explain",
        how_to_read,
        caution,
        **{
            "fixed": {"kind": name},
            "unit": PER_PIXEL,
            "meaning": Method.meaning if facts.get("signed") else STEEP,
            "faces_per_call": (8, 16, 64),
            **facts,
        },
    )


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────

ROWS = (
    Method(
        "lime",
        "LIME",
        "explain_lime.py",
        "lime:explain",
        "Random sets of regions are replaced by the baseline, and a linear model is fitted to the probability of the "
        "class: dark red regions raise it, turquoise ones lower it.",
        "R² says how much of the variation of the network's outputs the linear model predicts of perturbations that it "
        "was not fitted to; where it is low, the weights mean little. Weights that change with the seed or with the "
        "number of perturbations are sampling error. Where the landmarks were not found, the parts of a small face are "
        "placed as on an average one.",
        settings=(
            Setting(
                "num_samples",
                1000,
                "perturbations of each face; auto: until the strongest regions are stable",
                flag="lime_samples",
                kind=int | Literal["auto"],
                minimum=2,
                label="Perturbations",
                slider=(100, 4000, 100),
            ),
            Setting(
                "sampling",
                "paired",
                "paired: perturbations and their complements, balanced over the regions, with fewer of them the same "
                "error; independent: random ones and the regression of the lime package",
                choices=SAMPLING,
            ),
            Setting(
                "top_regions",
                8,
                "regions that the figure ranks, and that must be stable with --lime-samples auto",
                minimum=1,
            ),
            Setting(
                "segmentation",
                "auto",
                "how a face is cut into regions; auto: facial below 112 pixels, else merged; quickshift is that of the "
                "lime package, with four times as many regions, too many for 1,000 perturbations",
                choices=SEGMENTATIONS,
                label="Regions",
            ),
            Setting(
                "regions",
                40,
                "number of regions of slic and grid; of merged and felzenszwalb an upper bound",
                minimum=1,
            ),
            Setting(
                "kernel_shap",
                0,
                "further perturbations, which with those of LIME give the regions' Shapley values; 0: none",
                minimum=0,
            ),
            Setting("kernel_size", 1.5, "of quickshift and merged: width of the Gaussian kernel in pixels", minimum=0),
            Setting(
                "max_dist",
                20.0,
                "of quickshift and merged: cut-off for data distances; higher gives fewer regions",
                minimum=0,
            ),
            Setting(
                "segmentation_side",
                224,
                "pixels of the side to which a face is scaled before it is segmented",
                minimum=1,
            ),
            Setting(
                "ratio",
                0.2,
                "of quickshift and merged: weight of colour (1) against image space (0)",
                minimum=0,
                maximum=1,
            ),
            baseline("what replaces a hidden region", REGION_MEAN),
        ),
        constants={"kernel_width": 0.25, "ridge": 1.0, "r2": "held out"},
        needs=("segments",),
        network="forward",
        signed=True,
        output="probability",
        unit="Δ probability",
        facts={"r2": "R² held out", "shapley_error": "sampling error of the Shapley values"},
        doubt="doubts:of_lime",
        words="region_words:describe_placement",
        expected=True,
        faces_per_call=(4, 8, 32),
    ),
    Method(
        "shap",
        "SHAP",
        "explain_shap.py",
        "shap:explain",
        "Expected gradients distribute over the pixels by how much the logit of the class exceeds its mean over "
        "background faces: dark red pixels raise it, turquoise ones lower it.",
        "The sampling error is that of the values as a share of their size; more samples reduce it. With other "
        "background faces the values change by the background error; the completeness gap is that of their sum only.",
        settings=(
            Setting(
                "background_size",
                50,
                "background faces of the train split, balanced over the classes; more need more samples",
                flag="bg_samples",
                minimum=1,
                label="Background faces (drawn ones)",
                slider=(10, 200, 10),
            ),
            Setting(
                "num_samples",
                "auto",
                "samples of (background face, interpolation point) of each face; auto: five a background face",
                flag="shap_samples",
                kind=int | Literal["auto"],
                minimum=1,
            ),
        ),
        constants={"sampling": "systematic, in two halves", "per_face": 5},
        needs=("background",),
        network="gradients",
        signed=True,
        summed=True,
        unit="Δ logit",
        facts={
            "sampling_error": "sampling error",
            "background_error": "background error",
            "logit_above_background": "logit above background",
            "completeness_gap": "completeness gap",
        },
        doubt="doubts:of_shap",
        words="doubts:caution_of_shap",
        expected=True,
        faces_per_call=(1, 4, 16),
    ),
    Method(
        "regions",
        "Facial regions",
        "explain_regions.py",
        "regions:explain",
        "Every set of the face's regions is shown to the network while the others are filled: a region's Shapley value "
        "is what it adds to the probability of the class, averaged over all orders in which regions can be shown. They "
        "add up to the difference between the face and the filled one; nothing is sampled.",
        "The values hold for what the regions are filled with, and for how the face is divided. Where the landmarks "
        "were not found, the regions are those of an average face.",
        settings=(
            Setting(
                "partition",
                "ten",
                "regions of a face: ten, or eleven, in which the brows count one by one",
                choices=PARTITIONS,
                label="Regions",
            ),
            Setting(
                "counterfactual",
                "runner_up",
                "class of the real face whose regions are transplanted: runner_up (the second most probable one), a "
                "class, or none",
                choices=COUNTERFACTUALS,
            ),
            baseline("what fills a hidden region", {"background": "the mean of other faces' regions"}),
        ),
        needs=("face_regions",),
        network="forward",
        signed=True,
        output="probability",
        unit="Δ probability",
        note=(
            "exact Shapley values of {partition} regions, hidden ones filled with: {baseline} · "
            "a region's pixels share its value"
        ),
        words="region_words:describe_face",
        named_regions="region_words:name_regions",
        constants={"landmarks": "saved"},
        table="region_table:make_table",
        faces_per_call=(4, 8, 32),
    ),
    cam(
        "hirescam",
        "HiResCAM",
        "hirescam",
        "Activation times gradient of each cell of the last layer: dark red cells raise the logit of the class by "
        "their own activation, turquoise ones lower it. Where only a linear layer follows, as in most networks here, "
        "the cells sum to the logit without its bias.",
        "Coarse: a cell can depend on a larger part of the face than it covers. Exact only where the layer feeds a "
        "linear one.",
        signed=True,
        unit="Δ logit of a cell",
        meaning=Method.meaning,
        note="cells of {layer}, upsampled bilinearly",
        facts={"cells_sum": "sum of the cells"},
        constants={"sign": "kept"},
        doubt="",
    ),
    cam(
        "gradcam",
        "Grad-CAM",
        "gradcam",
        "Cells of the last layer, weighted by the mean gradient of each channel: yellow cells raise the logit of the "
        "class. Evidence against the class is not shown.",
        "Coarse, and the mean over cells can highlight cells that the logit does not depend on: where the head sees "
        "more than one cell, HiResCAM says where the evidence is.",
    ),
    cam(
        "gradcam_plus_plus",
        "Grad-CAM++",
        "gradcam++",
        "As Grad-CAM, with positive gradients weighted by their size, so that several small areas can stand out beside "
        "one large one.",
        "Coarse, as Grad-CAM; negative gradients are ignored.",
    ),
    cam(
        "layercam",
        "LayerCAM",
        "layercam",
        "As HiResCAM with negative gradients set to zero before channels are summed: yellow cells raise the logit; "
        "usable in finer layers too.",
        "Evidence against the class is left out, so the map overstates the evidence for it.",
    ),
    cam(
        "eigencam",
        "Eigen-CAM",
        "eigencam",
        "The first principal component of the last layer's cells: where they differ most from one another.",
        "The same for every class: it shows what the layer responds to, not why a class is predicted.",
        question="shown: the strongest component",
        meaning="bright: large component, whatever the class",
        note="cells of {layer}, upsampled bilinearly · 1: the largest component in this face, 0: none",
        doubt="doubts:of_eigencam",
    ),
    cam(
        "scorecam",
        "Score-CAM",
        "scorecam",
        "Each channel masks the face, and channels are weighted by the logit of the masked face; no gradient is used.",
        "Masked pixels become black, which no training face looks like.",
        needs=("cells", "passes"),
        faces_per_call=(1, 1, 1),
    ),
    gradient(
        "saliency",
        "Saliency",
        "Yellow pixels are those where a small change moves the logit most, up or down.",
        "Sensitivity, not evidence; noisy from pixel to pixel.",
        note="absolute gradient of the logit",
    ),
    gradient(
        "loss_gradient",
        "Loss gradient",
        "As saliency, for the cross-entropy of the class, which depends on all logits; scaled to each face's peak.",
        "The gradient vanishes as the predicted probability approaches 1.",
        unit="share of the peak",
        note="absolute gradient of the cross-entropy · 1 is its largest value in this face",
        output="loss",
        question="explained: the loss of {label}",
    ),
    gradient(
        "smoothgrad",
        "SmoothGrad",
        "The mean gradient over copies of the face with Gaussian noise.",
        "Where few noisy copies keep the predicted class, the map belongs to other faces: use less noise.",
        settings=(
            Setting(
                "num_samples",
                50,
                "noisy copies of each face",
                flag="smooth_samples",
                minimum=1,
                label="Noisy copies",
                slider=(5, 200, 5),
            ),
            Setting(
                "noise_sd",
                0.03,
                "standard deviation of the noise, on the scale 0..1",
                flag="smooth_sd",
                minimum=0,
                label="Standard deviation of the noise (scale 0 to 1)",
                slider=(0, 0.2, 0.01),
            ),
        ),
        note="mean gradient of the logit over {num_samples} noisy copies (sd {noise_sd:g}) · seed {seed}",
        facts={"class_kept": "copies that keep the class"},
        doubt="doubts:of_smoothgrad",
    ),
    gradient(
        "input_x_gradient",
        "Input × gradient",
        "Pixel value times gradient: dark red pixels raise the logit compared with black ones, if the network were "
        "linear; turquoise ones lower it.",
        "Dark pixels get small values by construction.",
        signed=True,
        summed=True,
        unit="Δ logit",
        note="gradient of the logit times pixel",
    ),
    gradient(
        "integrated_gradients",
        "Integrated gradients",
        "Distributes over the pixels by how much the logit exceeds that of the baseline: dark red pixels raise it, "
        "turquoise ones lower it.",
        "Pixels equal to the baseline get nothing. The completeness gap is the error of the sum; where it is large, "
        "use more steps.",
        settings=(
            Setting(
                "steps",
                50,
                "points on the path from the baseline to the face",
                minimum=1,
                label="Steps",
                slider=(5, 200, 5),
            ),
            baseline("the image at which the path begins"),
        ),
        signed=True,
        summed=True,
        unit="Δ logit",
        note="{steps} steps of the logit's gradient from the baseline: {baseline}",
        facts={"logit_above_baseline": "logit above baseline", "completeness_gap": "completeness gap"},
        doubt="doubts:of_integrated_gradients",
    ),
    gradient(
        "guided_backprop",
        "Guided backpropagation",
        "Saliency in which each ReLU passes only positive gradients back.",
        "Close to an edge detector: it changes little with the class or with the weights.",
        note="gradient of the logit, ReLUs pass positive gradients only",
    ),
    Method(
        "occlusion",
        "Occlusion",
        "explain_occlusion.py",
        "occlusion:explain",
        "How far the probability of the class falls where a square is replaced by the baseline: it falls where dark "
        "red parts are hidden and rises where turquoise ones are.",
        "Evidence that is present in two places is not shown in either: hiding one leaves the other.",
        settings=(
            Setting(
                "window",
                0.2,
                "side of the square as a share of the face's",
                label="Side of the square",
                slider=(0.1, 0.5, 0.05),
            ),
            Setting(
                "stride",
                0.1,
                "step between two squares, likewise",
                label="Step of the square",
                slider=(0.05, 0.5, 0.05),
            ),
            baseline("what replaces the pixels of the square"),
        ),
        network="forward",
        signed=True,
        output="probability",
        unit="Δ probability",
        note=(
            "squares of {window:.0%} of the side, every {stride:.0%}, replaced by the baseline: {baseline} · "
            "a pixel shows the mean over the squares that cover it"
        ),
        facts={"largest_fall": "largest fall"},
        faces_per_call=(4, 8, 32),
        check=check_windows,
    ),
)
METHODS: dict[str, Method] = {row.name: row for row in ROWS}


def find_method(name: str) -> Method:
    """The row called `name`, by its key or by its choice on the command line (gradcam++); UserError otherwise."""
    return lookup({**METHODS, **{row.choice: row for row in ROWS}}, name, "method")


def methods_of(script: str) -> dict[str, Method]:
    """The methods of a script by the value of its --method."""
    return {row.choice: row for row in ROWS if row.command == script}
