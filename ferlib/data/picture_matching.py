"""Pictures of one copy of a data set found in another copy: nearest neighbours on pixels, with a test of the gap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ferlib.data.block_means import block_means
from ferlib.data.copies import number_copies

BLOCKS = 4  # a side, of the means by which candidates are found
LARGEST = 8.0  # grey levels, of a match; JPEG of quality 90 differs by 2, of quality 30 by 5
GAP = 1.25  # how many times as far as the nearest picture the next different one must be; 1 / 0.8 of Lowe (2004)
LEAST = 0.5  # grey levels: nearer pictures are looked at as if they were so far
ALIKE = 2.0  # grey levels, of known pictures that are one picture coded more than once
CHUNK = 4096  # pairs whose pixels are compared at once


class Match(NamedTuple):
    """Which known picture each of N pictures shows."""

    rows: np.ndarray  # int64 N, among the known pictures; -1: refused
    distances: np.ndarray  # float32 N: root mean square difference in grey levels from the nearest known picture

    @property
    def refused(self) -> np.ndarray:
        """bool N: pictures without a match."""
        return self.rows < 0


def match_pictures(
    pictures: np.ndarray,
    known: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
    order: tuple[np.ndarray, np.ndarray] | None = None,
) -> Match:
    """The known picture that each picture shows: uint8 N×H×W×C among uint8 M×H×W×C, -1 where it is doubtful.

    A match is refused where the nearest picture differs by more than LARGEST, or where another one is less than GAP
    times as far (the ratio test of Lowe, "Distinctive image features from scale-invariant keypoints", 2004, section
    7.1). Known pictures that are alike (see `number_alike`) are given to as many pictures one after the other, first
    within the same of `groups` (int64 N and M, such as splits), in the order of `order` (int64 N and M, such as
    labels). ValueError for pictures of different shapes.
    """
    if pictures.shape[1:] != known.shape[1:]:
        raise ValueError(f"pictures of {pictures.shape[1:]} are not matched with pictures of {known.shape[1:]}")
    numbers = number_alike(known)
    nearest, distances = nearest_pictures(pictures, known, numbers)
    return Match(share_out(nearest, numbers, groups, order), distances)


def number_alike(images: np.ndarray) -> np.ndarray:
    """int64 N: a number for each picture uint8 N×H×W×C, the same for those that differ by ALIKE or less, in chains."""
    copies = number_copies(images)
    firsts = np.unique(copies, return_index=True)[1]
    points = block_means(images[firsts], BLOCKS).reshape(len(firsts), -1)
    pairs = cKDTree(points).query_pairs(BLOCKS * ALIKE, output_type="ndarray")  # see nearest_pictures
    one, other = firsts[pairs].reshape(-1, 2).T
    alike = pairs[pixel_distances(images, images, one, other) <= ALIKE]
    graph = coo_array((np.ones(len(alike)), (alike[:, 0], alike[:, 1])), shape=(len(firsts),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)[copies]


def nearest_pictures(pictures: np.ndarray, known: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number int64 N of the nearest known picture, -1 where it is doubtful, and its distance float32 N.

    numbers: int64 M of the known pictures, the same for those that are alike.
    """
    points, places = (block_means(images, BLOCKS).reshape(len(images), -1) for images in (pictures, known))
    tree = cKDTree(places)
    rows = tree.query(points)[1].astype(np.int64)
    distances = pixel_distances(pictures, known, np.arange(len(pictures)), rows)
    near = np.flatnonzero(distances <= LARGEST)
    # the block means of a picture at a distance d differ by BLOCKS·d at most (Jensen's inequality)
    radii = BLOCKS * GAP * np.maximum(distances[near], LEAST)
    others = tree.query_ball_point(points[near], radii, return_sorted=False)
    queries = np.repeat(near, [len(found) for found in others])
    candidates = np.concatenate([np.empty(0, np.int64), *map(np.asarray, others)]).astype(np.int64)
    apart = pixel_distances(pictures, known, queries, candidates)
    best, second = np.full((2, len(pictures)), np.inf, np.float32)
    np.minimum.at(best, queries, apart)
    first = apart == best[queries]
    rows[queries[first]] = candidates[first]
    different = numbers[candidates] != numbers[rows[queries]]
    np.minimum.at(second, queries[different], apart[different])
    distances[near] = best[near]
    doubtful = (distances > LARGEST) | (second < GAP * np.maximum(distances, LEAST))
    return np.where(doubtful, -1, numbers[rows]), distances


def pixel_distances(pictures: np.ndarray, known: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float32 P: root mean square difference in grey levels of the pairs pictures[queries], known[rows]."""
    found = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), CHUNK):
        part = slice(start, start + CHUNK)
        difference = pictures[queries[part]].astype(np.float32) - known[rows[part]]
        found[part] = np.sqrt((difference**2).mean((1, 2, 3)))
    return found


def share_out(
    nearest: np.ndarray,
    numbers: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray] | None,
    order: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Known rows int64 N for pictures whose known picture has the number `nearest` N; `numbers` M of the known rows.

    Where several known rows have the same number, pictures take them in turn, those of their own group first.
    """
    of_picture, of_row = groups or (np.zeros(len(nearest)), np.zeros(len(numbers)))
    by_order = order or (np.zeros(len(nearest)), np.zeros(len(numbers)))
    rows_of = grouped(numbers, np.lexsort((by_order[1], of_row)))
    chosen = np.full(len(nearest), -1)
    for number, pictures in grouped(nearest, np.lexsort((by_order[0], of_picture))).items():
        if number < 0:
            continue
        left, late = list(rows_of[number]), []
        for picture in pictures:
            own = next((row for row in left if of_row[row] == of_picture[picture]), None)
            if own is None:
                late.append(picture)
            else:
                left.remove(own)
                chosen[picture] = own
        rest = left or rows_of[number]
        for turn, picture in enumerate(late):
            chosen[picture] = rest[turn % len(rest)]
    return chosen


def grouped(keys: np.ndarray, order: np.ndarray) -> dict[int, list[int]]:
    """Key → the places that have it, as they come in `order`."""
    found: dict[int, list[int]] = {}
    for place in order.tolist():
        found.setdefault(int(keys[place]), []).append(place)
    return found
