"""Seeds made of several numbers; imports no torch."""

from __future__ import annotations

import numpy as np


def combine_seeds(*seeds: int) -> int:
    """One 32-bit seed from several numbers; streams of different tuples are independent."""
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])
