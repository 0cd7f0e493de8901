"""Exact values of regions in a sentence: what speaks for a class and against it, and what it would be without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config import EMOTIONS
from ferlib.data.synthetic.action_units import ACTION_UNIT_NAMES, ACTION_UNITS
from ferlib.explanations.baselines import describe_baseline
from ferlib.explanations.face_regions import (
    BRIDGE,
    BROWS,
    CHEEKS,
    CHIN,
    FOREHEAD,
    LEFT_BROW,
    LEFT_EYE,
    MOUTH,
    NOSE,
    RIGHT_BROW,
    RIGHT_EYE,
    SURROUND,
)
from ferlib.runtime.words import enumerate_words

NAMED = 0.03  # a region whose value is smaller is not named; nor is one below NAMED_SHARE of the largest
NAMED_SHARE = 0.2
MOST_FOR, MOST_AGAINST = 3, 2
PAIR_NAMED = 0.1  # size of the smallest interaction that is named
PAIRS = (("both eyes", LEFT_EYE, RIGHT_EYE), ("both brows", LEFT_BROW, RIGHT_BROW))
PLURAL = (BROWS, CHEEKS)
SURROUND_ALARM = 0.25  # share of the values' sizes from which the sentence warns of what is not the face
DEPENDS, DEPENDS_MUCH = 0.9, 0.7  # correlations with other fills below which the values depend on the fill

# Where the action units change a face (FACS, Ekman & Friesen 1978).
PLACES = {
    1: (FOREHEAD, BROWS), 2: (FOREHEAD, BROWS), 4: (BROWS, BRIDGE), 5: (LEFT_EYE, RIGHT_EYE),
    6: (CHEEKS, LEFT_EYE, RIGHT_EYE), 7: (LEFT_EYE, RIGHT_EYE), 9: (NOSE, BRIDGE), 10: (MOUTH, NOSE),
    12: (MOUTH, CHEEKS), 15: (MOUTH,), 16: (MOUTH, CHIN), 17: (CHIN,), 20: (MOUTH,), 23: (MOUTH,), 25: (MOUTH,),
    26: (MOUTH, CHIN),
}  # fmt: skip


def expected_units(label: str, region: str) -> dict[int, str]:
    """The action units, with their names, that EMFACS expects of an emotion in a region."""
    of_both = {LEFT_BROW: BROWS, RIGHT_BROW: BROWS}.get(region, region)
    units = {unit for variant in ACTION_UNITS[label] for unit in variant}
    return {unit: ACTION_UNIT_NAMES[unit] for unit in sorted(units) if of_both in PLACES[unit]}


def name_regions(label: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The regions' values of a face, and what EMFACS expects there of the emotion that is explained, for JSON.

    values: region → its value. expected_units: region → number of an action unit, as text → its name; regions in which
    EMFACS expects none are left out.
    """
    units = {region: expected_units(label, region) for region in facts["values"]}
    named = {region: {str(unit): name for unit, name in found.items()} for region, found in units.items() if found}
    return {"values": facts["values"], "expected_units": named}


def list_regions(
    values: Mapping[str, float], expected: Mapping[str, Mapping[str, str]]
) -> tuple[tuple[str, str, str], ...]:
    """Regions with their values and their expected action units in words, the largest value first.

    "mouth", "+0.22", "AU 20 lip stretcher, AU 25 lips part"; "" where EMFACS expects none.
    """
    ordered = sorted(values.items(), key=lambda item: -item[1])
    units = {
        region: ", ".join(f"AU {unit} {name}" for unit, name in found.items()) for region, found in expected.items()
    }
    return tuple((region, signed(value), units.get(region, "")) for region, value in ordered)


def describe_expected(target: str, expected: Mapping[str, Any]) -> str:
    """What the action units beside the regions are; target: as in describe_values."""
    emotion = target if target in EMOTIONS else "the emotion that is explained"
    if not expected:
        return f"EMFACS expects no action units of {emotion}."
    return (
        f"AU: action units that EMFACS expects of {emotion} in the region; they are measured neither in the face nor "
        "in the network."
    )


def describe_face(target: str, facts: Mapping[str, Any]) -> str:
    """All that there is to say of a face: its values, the strongest interaction, the surround, the fill, the place."""
    values, pair = describe_values(target, facts), describe_pair(facts["pair"])
    fills, placed = describe_fills(facts), describe_placement(target, facts)
    return " ".join(filter(None, [values, pair, describe_surround(facts["values"]), fills, placed]))


def describe_placement(_target: str, facts: Mapping[str, Any]) -> str:
    """That the regions are not this face's; "" where its landmarks were found."""
    found = facts.get("landmarks_found", True)  # missing: regions that landmarks do not place
    return "" if found else "The regions are placed as on an average face, as no landmarks were found."


def describe_pair(pair: Mapping[str, Any]) -> str | None:
    """How the two regions with the strongest interaction work together; None where it is weak."""
    first, second = (the(name) for name in pair["regions"])
    if abs(pair["value"]) < PAIR_NAMED:
        return None
    if pair["value"] > 0:
        return f"{first.capitalize()} and {second} count together ({signed(pair['value'])})."
    return f"{first.capitalize()} and {second} stand in for each other ({signed(pair['value'])})."


def describe_values(target: str, facts: Mapping[str, Any], unit: str = "") -> str:
    """A sentence of the facts of a face (regions.describe); target: the class, or "A rather than B".

    "Fear (41 %): both eyes +0.31 and the mouth +0.22 speak for it, the brows −0.08 against; without both eyes it would
    be Sad." `unit` follows the first value. The percents are those of the fact "probability", which stands beside the
    face: the outcome in a batch of sets differs from it by the rounding of bfloat16, and of photos by the calibration.
    Without that fact they are the outcome.
    """
    parts = [name_target(target, facts.get("probability", facts["outcome"])), name_speakers(facts["values"], unit)]
    sentence = ": ".join(parts)
    if (changed := describe_change(target, facts)) is not None:
        sentence += f"; {changed}"
    return sentence + "."


def name_target(target: str, outcome: float) -> str:
    """Fear (41 %); a contrast without its difference."""
    return f"{target} ({100 * outcome:.0f} %)" if target in EMOTIONS else target


def name_speakers(values: Mapping[str, float], unit: str) -> str:
    """The strongest regions for the class, and those against it."""
    joined = join_sides(values)
    least = max(NAMED, NAMED_SHARE * max(map(abs, joined.values())))
    ordered = sorted(joined.items(), key=lambda item: -abs(item[1]))
    supporting = [item for item in ordered if item[1] >= least][:MOST_FOR]
    opposing = [item for item in ordered if item[1] <= -least][:MOST_AGAINST]
    if not supporting and not opposing:
        return f"no region changes it by {NAMED:g} or more"
    numbers = [f"{the(name)} {signed(value)}" for name, value in (*supporting, *opposing)]
    numbers[0] += unit and f" {unit}"
    first, last = numbers[: len(supporting)], numbers[len(supporting) :]
    words = []
    if first:
        words.append(f"{enumerate_words(first)} {speak(supporting)} for it")
    if last:
        words.append(f"{enumerate_words(last)} {'' if first else speak(opposing) + ' '}against{'' if first else ' it'}")
    return ", ".join(words)


def join_sides(values: Mapping[str, float]) -> dict[str, float]:
    """The values with the two eyes, or brows, as one where they have one sign and neither is negligible."""
    joined = dict(values)
    for both, left, right in PAIRS:
        if left in joined and min(joined[left] * joined[right], 1) > 0:
            sizes = sorted((abs(joined[left]), abs(joined[right])))
            if sizes[0] >= sizes[1] / 4:
                joined[both] = joined.pop(left) + joined.pop(right)
    return joined


def describe_change(target: str, facts: Mapping[str, Any]) -> str | None:
    """The smallest set of regions without which the class is another one; None where no set changes it.

    Where another class than the predicted one is explained, the predicted one is named, as the change is of that.
    """
    if facts["without"] is None:
        return None
    names = list(facts["without"])
    for both, left, right in PAIRS:
        if left in names and right in names:
            names = [both if name == left else name for name in names if name != right]
    change = f"without {enumerate_words([the(name) for name in names])} it would be {EMOTIONS[facts['becomes']]}"
    said = EMOTIONS[facts["label"]] if "label" in facts else target  # faces of earlier versions do not say
    return change if said == target else f"the network says {said}, and {change}"


def describe_fills(facts: Mapping[str, Any]) -> str:
    """How much the values depend on what hides the regions."""
    name, lowest = min(facts["fills"].items(), key=lambda item: item[1])
    if lowest >= DEPENDS:
        return f"The values hardly depend on what hides the regions (correlation ≥ {lowest:.2f})."
    words = "depend much" if lowest < DEPENDS_MUCH else "depend somewhat"
    correlation = f"{lowest:.2f}".replace("-", "−")
    return (
        f"The values {words} on what hides the regions (correlation {correlation} where {name_fill(name)} hides them)."
    )


def name_fill(name: str) -> str:
    """A fill after "where", with its article where it takes one."""
    words = describe_baseline(name)
    return the(words) if name in ("mean", "blur", "background") else words


def describe_surround(values: Mapping[str, float]) -> str | None:
    """A warning where much of the evidence for the class lies beside the face; None elsewhere."""
    share = surround_share(values)
    if share < SURROUND_ALARM:
        return None
    return f"{100 * share:.0f} % of the evidence lies outside of the face, in {the(SURROUND)}: it may be a shortcut."


def surround_share(values: Mapping[str, float]) -> float:
    """What speaks for the class beside the face, as a share 0..1 of the values' sizes."""
    return max(values[SURROUND], 0.0) / (sum(map(abs, values.values())) or 1)


def the(region: str) -> str:
    """With its article."""
    return region if region.startswith("both ") else f"the {region}"


def speak(items: Sequence[tuple[str, float]]) -> str:
    """The verb for so many regions."""
    many = len(items) > 1 or items[0][0].startswith("both ") or items[0][0] in (*PLURAL, SURROUND, CHIN)
    return "speak" if many else "speaks"


def signed(value: float) -> str:
    """+0.31, −0.08, 0.00."""
    if abs(value) < 0.005:
        return "0.00"
    return f"{'+' if value >= 0 else '−'}{abs(value):.2f}"
