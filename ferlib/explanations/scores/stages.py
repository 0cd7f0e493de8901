"""The stages of scoring as rows like those of METHODS, so that the driver of the explain scripts runs and resumes them.

Imports no torch.
"""

from __future__ import annotations

from ferlib.explanations.specs import Method

SCORES = Method(
    "scores",
    "Scores",
    "score_explanations.py",
    "scores.scorer:explain",
    "",
    "",
    needs=("scorer",),
    network="forward",
    faces_per_call=(2, 4, 16),
)
STABILITY = Method(
    "scores",
    "Stability",
    "score_explanations.py",
    "scores.repeats:explain_stability",
    "",
    "",
    needs=("repeats",),
    faces_per_call=(1, 2, 8),
)
SANITY = Method(
    "scores",
    "Sanity check",
    "score_explanations.py",
    "scores.repeats:explain_sanity",
    "",
    "",
    needs=("stages",),
    faces_per_call=(5, 8, 16),
)
