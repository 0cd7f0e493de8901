"""Seeds made of several numbers; imports no torch."""

from __future__ import annotations

import numpy as np

from ferlib.runtime.errors import UserError


def combine_seeds(*seeds: int) -> int:
    """One 32-bit seed from several numbers; streams of different tuples are independent. UserError below 0."""
    if min(seeds) < 0:
        raise UserError(f"--seed {min(seeds)} is negative; seeds are whole numbers from 0 up")
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])
