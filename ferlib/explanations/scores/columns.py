"""The one table of scores, COLUMNS: what each is called, which end is good, what it is of. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

TRUTH, FAITHFULNESS, LOCATION, STABILITY, SANITY, COST = KINDS = (
    "truth",
    "faithfulness",
    "location",
    "stability",
    "sanity",
    "cost",
)
COMPARED = (TRUTH, FAITHFULNESS, LOCATION)  # with the simple maps; in others a map that never changes is the best
KIND_TITLES = {
    TRUTH: "Against exact values of facial regions",
    FAITHFULNESS: "Faithfulness to the network",
    LOCATION: "Location",
    STABILITY: "Stability",
    SANITY: "Sanity check",
    COST: "Cost of a face",
}


OF_LOGIT = "_logit"  # after a column's name: the score of a simple map beside methods whose values are of the logit
SIMPLE = {  # maps that need no network (simple_maps.py), which every method must beat → their titles
    "random": "Random",
    "gaussian": "Centred Gaussian",
    "sobel": "Sobel edges",
}


@dataclass(frozen=True)
class Column:
    """A score of a method."""

    name: str  # in JSON
    title: str
    kind: str
    higher: bool  # a higher value is the better one
    says: str  # what it measures, and its range
    short: str  # of the table at the terminal


COLUMNS = (
    Column(
        "truth_rank", "Rank correlation", TRUTH, True, "with the exact values of the regions, −1 to 1", "rank corr."
    ),
    Column("truth_error", "Error", TRUTH, False, "of the best multiple of the map, as a share of the values", "error"),
    Column("pixels_blur", "Pixels, blurred", FAITHFULNESS, True, "insertion less deletion of pixels", "pix.blur"),
    Column("pixels_mean", "Pixels, mean", FAITHFULNESS, True, "the same, filled with the face's mean", "pix.mean"),
    Column("regions_blur", "Regions, blurred", FAITHFULNESS, True, "insertion less deletion of regions", "reg.blur"),
    Column("regions_mean", "Regions, mean", FAITHFULNESS, True, "the same, filled with the face's mean", "reg.mean"),
    Column(
        "regions_transplant",
        "Regions, another's",
        FAITHFULNESS,
        True,
        "the same, filled with the most similar face of the second class",
        "reg.other",
    ),
    Column("road", "ROAD", FAITHFULNESS, True, "lowest pixels first less highest first, imputed", "ROAD"),
    Column("infidelity", "Infidelity", FAITHFULNESS, False, "share of what squares do that it misses", "infidelity"),
    Column("r2", "R², held out", FAITHFULNESS, True, "of a surrogate, for other perturbations", "R²"),
    Column("pointing", "Pointing game", LOCATION, True, "peak in the evidence; 0: chance, 1: always", "pointing"),
    Column("mass", "Mass", LOCATION, True, "of positive values in the evidence; 0: chance", "mass"),
    Column("rank", "Rank accuracy", LOCATION, True, "of the highest values in the evidence; 0: chance", "rank acc."),
    Column("emfacs", "Regions of EMFACS", LOCATION, True, "positive values where it expects action units", "EMFACS"),
    Column(
        "seed_rank", "Another seed", STABILITY, True, "rank correlation of pixels with another seed's map", "other seed"
    ),
    Column("seed_top", "Strongest pixels", STABILITY, True, "shared with another seed's map", "strongest"),
    Column(
        "fill_rank",
        "Another fill",
        STABILITY,
        True,
        "rank correlation with the map filled by blur, or by the mean where that is the fill",
        "other fill",
    ),
    Column("segmentation_rank", "Other regions", STABILITY, True, "rank correlation with SLIC's", "SLIC"),
    Column("sensitivity", "Max-sensitivity", STABILITY, False, "largest change under noise of ±0.02", "sensitivity"),
    Column(
        "sanity",
        "Weights at random",
        SANITY,
        False,
        "rank correlation with maps of the network as layers are randomised",
        "random weights",
    ),
    Column(
        "permuted",
        "Labels at random",
        SANITY,
        False,
        "rank correlation with maps of a network that learned permuted labels by heart",
        "random labels",
    ),
    Column("passes", "Passes", COST, False, "forward passes", "passes"),
    Column("seconds", "Seconds", COST, False, "on this machine", "seconds"),
)
BY_NAME = {column.name: column for column in COLUMNS}
