"""What an explain_* script prints when it is done."""

from __future__ import annotations

import statistics
from typing import Any

from config import Explain
from ferlib.explanations.landmark_detector import describe_placed
from ferlib.explanations.methods import METHODS
from ferlib.explanations.specs import ERRORS
from ferlib.runtime.terminal import counted


def describe_summary(summary: dict[str, Any], flags: Explain) -> str:
    """Faces, time, means of the method's facts, how faces were placed, contrast, and folder.

    summary: as driver.explain_run returns it.
    """
    method, faces = METHODS[summary["method"]], summary["faces"]
    facts = [
        f"mean size of the {title} {statistics.fmean(abs(face[key]) for face in faces):.2g}"
        if key in ERRORS
        else f"mean {title} {statistics.fmean(face[key] for face in faces):.2f}"
        for key, title in method.facts.items()
        if all(face.get(key) is not None for face in faces)
    ]
    alone = sum(face.get("sampling") == "independent" for face in faces)
    if alone and summary["settings"].get("sampling") == "paired":
        facts.append(f"{alone} with independent perturbations, as there were fewer pairs than regions")
    facts += filter(None, [describe_placed(faces)])
    parts = [counted(len(faces), "face"), f"{summary['seconds_per_face']:.2g} s a face", *facts]
    contrast = f"\nexplained: {summary['explained']}" if flags.against else ""
    folder = flags.run.explanations(method.name)
    return f"{method.title}: {', '.join(parts)}{contrast}\n→ {folder / 'pictures' if flags.image else folder}"
