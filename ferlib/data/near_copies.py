"""Near copies: pictures cropped, scaled, coded or mirrored anew, found by block means and confirmed on pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ferlib.data.block_means import block_means, standardise
from ferlib.data.copies import number_copies

BLOCKS = 12  # a side, of the means that are compared first
BLOCKS_ALIKE = 0.99  # correlation of the block means of two pictures from which their pixels are compared
PIXELS_ALIKE = 0.9  # correlation of the pixels from which they are near copies
SIDE = 48  # pixels a side at most, of pictures whose pixels are compared
PRODUCTS, PAIRS = 1 << 25, 4096  # correlations, and pairs of pixels, that are computed at once


class NearCopies(NamedTuple):
    """P pairs of faces whose pictures are alike, those of the same pixels left out."""

    first: np.ndarray  # int64 P, row of a face
    second: np.ndarray  # int64 P, row of another one
    blocks: np.ndarray  # float32 P, correlation of the block means
    pixels: np.ndarray  # float32 P, correlation of the pixels
    mirrored: np.ndarray  # bool P, whether the second one is alike when it is mirrored

    def __len__(self) -> int:  # type: ignore[override]  # of the pairs, not of the columns
        return self.first.size

    def select(self, rows: np.ndarray) -> NearCopies:
        """Some of the pairs."""
        return NearCopies(*(column[rows] for column in self))


def find_near_copies(images: np.ndarray, first: np.ndarray, second: np.ndarray | None = None) -> NearCopies:
    """The near copies uint8 N×H×W×C between the rows `first` and `second`, or among `first`, each pair once.

    Stage one compares the means of BLOCKS×BLOCKS blocks, less their mean, by their correlation: the perceptual hash of
    Yang, Gu & Niu, "Block mean value based image perceptual hashing" (2006), without rounding it to bits. Stage two
    correlates the pixels, at SIDE pixels a side at most. Of copies of the same pixels only the first is compared, so
    that one picture which occurs often does not make many pairs; pictures of one grey level are like no other.
    """
    numbers = number_copies(images)
    different = np.unique(numbers, return_index=True)[1]
    mine = different[np.isin(numbers[different], numbers[first])]
    others = mine if second is None else different[np.isin(numbers[different], numbers[second])]
    plain, mirrored = (standardise(means) for means in both_ways(block_means(images, BLOCKS)))
    found = [
        pair
        for vectors, is_mirrored in ((plain, False), (mirrored, True))
        for pair in alike(plain, vectors, mine, others, is_mirrored)
    ]
    if not found:
        empty = np.empty(0, np.int64)
        return NearCopies(empty, empty, empty.astype(np.float32), empty.astype(np.float32), empty.astype(bool))
    one, other, correlations, ways = (np.concatenate(columns) for columns in zip(*found, strict=True))
    pixels = correlate_pixels(images, one, other, ways)
    return each_once(NearCopies(one, other, correlations, pixels, ways).select(pixels > PIXELS_ALIKE))


def each_once(pairs: NearCopies) -> NearCopies:
    """The pairs in their order, of those that are found twice, in both ways or both orders, the more alike in pixels.

    Symmetric pictures are alike in both ways; pictures of which copies are in both sets are found in both orders.
    """
    low, high = np.sort([pairs.first, pairs.second], axis=0)
    order = np.lexsort((-pairs.pixels, high, low))
    repeated = (np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)
    return pairs.select(np.sort(order[np.r_[True, ~repeated][: len(order)]]))


def both_ways(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures N×H×W as they are, and mirrored."""
    return means, means[:, :, ::-1]


def alike(
    plain: np.ndarray, vectors: np.ndarray, mine: np.ndarray, others: np.ndarray, mirrored: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs (row, row, correlation, mirrored) of standardised vectors above BLOCKS_ALIKE, of two sets or within one."""
    within = np.array_equal(mine, others)
    right, step = vectors[others], max(1, PRODUCTS // max(1, len(others)))
    bar = tqdm(total=len(mine), desc=f"near copies{', mirrored' if mirrored else ''}", unit=" faces", delay=2)
    for start in range(0, len(mine), step):
        from_column = start if within else 0  # pairs are symmetric, mirrored ones too
        products = plain[mine[start : start + step]] @ right[from_column:].T
        rows, columns = np.nonzero(products > BLOCKS_ALIKE)
        correlations = products[rows, columns]
        rows, columns = rows + start, columns + from_column
        kept = mine[rows] < others[columns] if within else mine[rows] != others[columns]
        yield mine[rows[kept]], others[columns[kept]], correlations[kept], np.full(kept.sum(), mirrored)
        bar.update(min(step, len(mine) - start))
    bar.close()


def correlate_pixels(images: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """float32 P: correlation of the pixels of the pairs, the second mirrored where it says so."""
    side, found = min(SIDE, *images.shape[1:3]), np.empty(len(first), np.float32)
    for start in range(0, len(first), PAIRS):
        part = slice(start, start + PAIRS)
        ours, theirs = (block_means(images[rows[part]], side) for rows in (first, second))
        theirs[mirrored[part]] = theirs[mirrored[part], :, ::-1]
        found[part] = (standardise(ours) * standardise(theirs)).sum(1)
    return found
