"""explanations/methods.py: every row of the table is whole, and scripts, figures, report and page derive from it."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from config import EMOTIONS, Explain
from ferlib.explanations import cam, gradients, lime, shap, superpixels
from ferlib.explanations.choice import CLASS_OF
from ferlib.explanations.face_regions import PARTITIONS
from ferlib.explanations.flags import chosen_method, prepare_flags, values_of
from ferlib.explanations.methods import METHODS, ROWS, SEGMENTATIONS, find_method, methods_of
from ferlib.explanations.records import Attribution, ExplainedFace, Target
from ferlib.explanations.specs import ERRORS
from ferlib.figures.explanations import figure_of
from ferlib.report.tables import mean_facts
from ferlib.runtime.errors import UserError
from ferlib.runtime.flags import parse_flags
from ferlib.webpage.settings import SETTINGS as PAGE_SETTINGS
from ferlib.webpage.settings import list_choices

WITH_ENGINE = {"explain_lime.py", "explain_occlusion.py", "explain_regions.py", "explain_gradcam.py"}
SCRIPTS = sorted(path.name for path in Path(__file__).parents[1].glob("explain_*.py"))


def flags_of(row):
    """The dataclass of flags of a row's script."""
    script = importlib.import_module(row.command.removesuffix(".py"))
    return getattr(script, "".join(part.capitalize() for part in script.__name__.split("_")))


def select(row, **changes):
    """Flags that choose a row."""
    kind = flags_of(row)
    chosen = {"method": row.choice} if "method" in {item.name for item in dataclasses.fields(kind)} else {}
    return kind(**chosen, **changes)


def outside(setting):
    """A value just outside the range of a setting; None where it has none."""
    if setting.choices or setting.name == "baseline":
        return "nothing of the kind"
    if setting.minimum is not None:
        return setting.minimum - 1
    return None if setting.maximum is None else setting.maximum + 1


every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_names_are_unique_and_found():
    assert len(METHODS) == len(ROWS) == len({row.title for row in ROWS}) == len({row.script for row in ROWS})
    for name, row in METHODS.items():
        assert find_method(name) is find_method(row.choice) is row
    assert find_method("gradcam++") is METHODS["gradcam_plus_plus"]
    with pytest.raises(UserError, match="unknown method 'gradcamm'; did you mean gradcam"):
        find_method("gradcamm")


def test_every_script_has_its_rows():
    assert sorted({row.command for row in ROWS}) == SCRIPTS
    assert [row for script in SCRIPTS for row in methods_of(script).values()] == sorted(
        ROWS, key=lambda row: SCRIPTS.index(row.command)
    )


@every_row
def test_the_function_takes_the_settings(row):
    taken = inspect.signature(row.load()).parameters
    assert {"model", "images", "targets", "seeds", "batch_size"} <= set(taken)
    assert row.load().__module__ == f"ferlib.explanations.{row.function.split(':')[0]}"
    if row.network == "forward":
        passes = row.load("count_passes")
        assert passes(48, **row.defaults) > 0
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()) and not row.needs:
        assert set(row.defaults) | set(row.fixed) <= set(taken)


@every_row
def test_defaults_are_in_range_and_values_outside_are_not(row):
    row.check_values(row.defaults)
    assert row.complete({}) == row.defaults
    for setting in row.settings:
        assert row.complete({setting.field: setting.default}) == row.defaults, "settings are named by their flag too"
        if setting.slider:
            low, high, step = setting.slider
            assert low <= setting.default <= high
            assert step > 0
            for value in (low, high):
                setting.check(value)
        if (value := outside(setting)) is not None:
            with pytest.raises(UserError, match=f"--{setting.field.replace('_', '-')}"):
                prepare_flags(select(row, **{setting.field: value}), row.command)
    with pytest.raises(UserError, match="unknown setting"):
        row.complete({"nonsense": 1})


@every_row
def test_the_script_has_a_flag_for_every_setting(row):
    kind = flags_of(row)
    assert issubclass(kind, Explain)
    flags = select(row)
    assert chosen_method(flags, row.command) is row
    assert values_of(flags, row) == row.defaults
    assert hasattr(flags, "engine") == (row.command in WITH_ENGINE)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_every_setting(script, capsys, monkeypatch):
    rows = list(methods_of(script).values())
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse_flags(flags_of(rows[0]), ["--help"])
    text = re.sub(r"[\s│╭╮╰╯─]+", " ", capsys.readouterr().out)
    for row in rows:
        for setting in row.settings:
            assert setting.help
            flag, words = setting.field.replace("_", "-"), re.escape(setting.help)
            pattern = rf" --{flag} [^ ]+(?: [^ ]+)? ?(?:of {row.choice}: )?{words} \(default"
            assert re.search(pattern, text), f"{row.name}: --{setting.field}"
        if len(rows) > 1:
            assert row.choice in text
        assert row.title in text


@every_row
def test_figures_of_default_settings(row):
    """The footnote's braces are filled; the figure is drawn for a face with the method's own arrays and facts."""
    draw = figure_of(row, {**row.defaults, "seed": 3, "precision": "float32"}, "run")
    footer = draw.keywords["footer"]
    assert footer.startswith(f"{row.title}: ")
    assert "{" not in footer
    assert "8 bits" not in footer
    assert ("grey 0.5" in footer) == ("baseline" in row.defaults)
    probabilities = np.full(7, 1 / 7)
    face = ExplainedFace(0, "0.png", 1, probabilities, Target(2), seed=0)
    values = np.linspace(-1 if row.signed else 0, 1, 36, dtype=np.float32).reshape(6, 6)
    arrays = {"segments": np.arange(36).reshape(6, 6), "standard_errors": np.abs(values)} if row.name == "lime" else {}
    arrays |= {"class_maps": np.stack([values] * 7)} if row.name == "shap" else {}
    facts = {"r2": 0.5, "segments": 36, "logits_above_background": [0.0] * 7, "completeness_gaps": [0.0] * 7}
    facts |= dict.fromkeys(row.facts, 0.5) | {"peak": 1.0, "sampling_error": 0.2, "completeness_gap": 0.0}
    if row.name == "regions":
        arrays = {"regions": np.arange(36).reshape(6, 6) % 10}
        facts = facts_of_regions()
    figure = draw(face, np.zeros((6, 6, 1), np.float32), Attribution(values, arrays, facts))
    texts = " ".join(" ".join(text.get_text() for text in figure.findobj(match=is_text)).split())
    assert row.title in texts
    assert EMOTIONS[2] in texts or row.name == "eigencam"


def facts_of_regions():
    names = PARTITIONS["ten"]
    return {
        "values": {name: 0.1 * number - 0.4 for number, name in enumerate(names)},
        "outcome": 0.4,
        "keeping": [],
        "without": names[:2],
        "becomes": 3,
        "label": 2,
        "pair": {"regions": names[:2], "value": -0.2},
        "fills": {"mean": 0.5},
        "landmarks_found": False,
        "counterfactual": None,
    }


def is_text(artist):
    return hasattr(artist, "get_text")


def test_eight_bits_are_named_in_the_footnote():
    for name in ("lime", "shap", "occlusion"):
        values = {**METHODS[name].defaults, "seed": 0, "precision": "int8"}
        footer = figure_of(METHODS[name], values, "run").keywords["footer"]
        assert footer.endswith("network in 8 bits")


def test_constants_are_those_of_the_modules():
    modules = {"lime": lime, "shap": shap}
    for row in ROWS:
        for name, value in row.constants.items():
            if isinstance(value, str):
                continue  # a word for what the function does
            assert getattr(modules[row.name], name.upper()) == value
    assert METHODS["lime"].constants.keys() == {"kernel_width", "ridge", "r2"}


def test_kinds_and_segmentations_are_those_of_the_modules():
    kinds = {module: [row.fixed["kind"] for row in ROWS if row.function == f"{module}:explain"] for module in KINDS}
    assert kinds == {module: list(table) for module, table in KINDS.items()}
    assert all(row.fixed["kind"] == row.name for row in ROWS if row.fixed)
    assert list(SEGMENTATIONS) == ["auto", superpixels.FACIAL, *superpixels.SEGMENTATIONS]


KINDS = {"cam": cam.KINDS, "gradients": gradients.KINDS}


@every_row
def test_report_and_page_read_the_row(row):
    assert row.how_to_read.endswith(".")
    assert row.caution.endswith(".")
    labelled = [setting for setting in row.settings if setting.label]
    assert list(PAGE_SETTINGS.get(row.name, ())) == labelled
    for setting in labelled:
        values = [value for _, value in list_choices(setting)]
        assert values or setting.slider, f"{setting.name} has neither choices nor a slider"
        assert not values or setting.default in values
        for value in values:
            row.complete({setting.name: value})
    face = dict.fromkeys(row.facts, 0.25)
    columns = [f"mean_{'abs_' * (key in ERRORS)}{key}" for key in row.facts]
    assert mean_facts(row.name, {"faces": [face, face]}) == dict.fromkeys(columns, 0.25)


def test_every_word_of_target_is_offered():
    assert list(CLASS_OF) == ["predicted", "true", "runner-up", *EMOTIONS]
