"""The flags of the explain_* scripts: those that all share, and one for each setting in the table of methods."""

from __future__ import annotations

import sys
from dataclasses import field, fields, make_dataclass, replace
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from config import EngineFlags, Explain
from ferlib.data.facts import dataset_facts
from ferlib.explanations.choice import check_words
from ferlib.explanations.methods import methods_of
from ferlib.explanations.specs import Method
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import require
from ferlib.runtime.flags import field_comments
from models import model_spec, training_command

RENAMED = {"hide_value": "baseline"}  # flags of the last release → their new names; they go in the next one
ENGINE = fields(EngineFlags)


def explain_flags(script: str) -> type[Explain]:
    """The dataclass of flags of a script: config.Explain's and the settings of its methods.

    Scripts of several methods have --method; scripts with methods of forward passes have config.EngineFlags.
    """
    rows = methods_of(script)
    first = next(iter(rows.values()))
    types, comments = get_type_hints(Explain, include_extras=True), field_comments(Explain)
    columns: dict[str, tuple[Any, Any]] = {  # again, as tyro finds no comments of the fields of a class made here
        item.name: (documented(types[item.name], comments[item.name]), item.default) for item in fields(Explain)
    }
    if len(rows) > 1:
        columns["method"] = (documented(Literal[tuple(rows)], "the method"), next(iter(rows)))
    for row in rows.values():
        of_one = f"of {row.choice}: " if len(rows) > 1 and row.settings != first.settings else ""
        columns |= {item.field: (documented(item.type, of_one + item.help), item.default) for item in row.settings}
    if any(row.forward_only for row in rows.values()):
        kinds, words = get_type_hints(EngineFlags, include_extras=True), field_comments(EngineFlags)
        columns |= {item.name: (documented(kinds[item.name], words[item.name]), item.default) for item in ENGINE}
    if "baseline" in columns and first.network == "forward":
        columns["hide_value"] = (documented(str, "the old name of --baseline"), "")
    name = "".join(part.capitalize() for part in script.removesuffix(".py").split("_"))
    made = [(key, kind, field(default=default)) for key, (kind, default) in columns.items()]
    kind = make_dataclass(name, made, bases=(Explain,), frozen=True, kw_only=True)
    kind.__doc__ = (
        f"{', '.join(row.title for row in rows.values())}: python {script} --model resnet50 --dataset fer2013"
    )
    return kind


def engine_flags(flags: Explain) -> EngineFlags:
    """The flags of the engine; their defaults where a script has none."""
    values: dict[str, Any] = {item.name: getattr(flags, item.name, item.default) for item in ENGINE}
    return EngineFlags(**values)


def documented(kind: Any, text: str) -> Any:
    """The type of a flag with its help."""
    return Annotated[kind, tyro.conf.arg(help=text)]


def chosen_method(flags: Explain, script: str) -> Method:
    """The method that the flags of a script name, or its only one."""
    rows = methods_of(script)
    return rows[getattr(flags, "method", next(iter(rows)))]


def with_new_names(flags: Explain) -> Explain:
    """The flags with those of the last release under their new names, which are printed."""
    for old, new in RENAMED.items():
        if value := getattr(flags, old, ""):
            if getattr(flags, new) != default_of(flags, new):
                raise UserError(f"--{old.replace('_', '-')} is the old name of --{new}; give --{new} alone")
            print(f"note: --{old.replace('_', '-')} is called --{new} now", file=sys.stderr)
            changes: dict[str, Any] = {old: "", new: "region" if value == "None" else value}
            flags = replace(flags, **changes)
    return flags


def default_of(flags: Explain, name: str) -> Any:
    """The default of a flag."""
    return next(item.default for item in fields(flags) if item.name == name)


def values_of(flags: Explain, method: Method) -> dict[str, Any]:
    """Setting → value of one method; UserError for values that make no sense."""
    values = {setting.name: getattr(flags, setting.field) for setting in method.settings}
    method.check_values(values)
    return values


def check_engine(flags: EngineFlags, method: Method) -> None:
    """UserError for an engine that does not compute the method."""
    if not method.forward_only and (flags.engine == "openvino" or flags.precision == "int8"):
        raise UserError(
            f"{method.title} takes gradients, which torch computes; leave --engine openvino and --precision int8 out"
        )


def prepare_flags(flags: Explain, script: str) -> tuple[Explain, Method, dict[str, Any]]:
    """The flags under their new names, the method, and its settings; UserError for invalid words and numbers.

    Nothing is loaded for it but tables of names.
    """
    flags = with_new_names(flags)
    model_spec(flags.model)
    dataset_facts(flags.dataset)
    check_words(flags)
    if flags.batch_size < 1:
        raise UserError("--batch-size must be 1 or more")
    values = {name: values_of(flags, row) for name, row in methods_of(script).items()}  # those not chosen, too
    method = chosen_method(flags, script)
    check_engine(engine_flags(flags), method)
    require(flags.run.checkpoint_or(flags.checkpoint), training_command(flags.run))
    return flags, method, values[method.choice]
