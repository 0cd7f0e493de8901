"""The files that the stages left of every run on a data set, and figures over several runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferlib.data.facts import DATASETS, dataset_facts
from ferlib.data.synthetic.variants import SHORTCUTS
from ferlib.evaluation.scored_checkpoints import is_current, outside_checkpoint, results_digest
from ferlib.evaluation.stage_shapes import CLEVER_HANS, ELSEWHERE, EXPLAINED, HISTORY, RESULTS, RUN, SCORES, SUMMARY
from ferlib.explanations.methods import METHODS
from ferlib.explanations.specs import Method
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import is_temporary, read_json
from ferlib.runtime.runs import Run, checkpoint_name, data_dir_of

HEADLINES = ("accuracy", "macro_f1", "weighted_f1", "mean_auc")
SCORES_TITLE = "scores of explanations"
TEST = "score_explanations.py --clever-hans"


@dataclass(frozen=True)
class ModelReport:
    """What the stages left of one run; empty where a stage has not run."""

    run: Run
    history: dict[str, Any]
    results: dict[str, Any]
    explanations: dict[str, dict[str, Any]]  # method → its summary
    scores: dict[str, Any]  # of its explanations
    clever_hans: dict[str, dict[str, Any]]  # shortcut → what explanations show of its twin that learned it

    @property
    def label(self) -> str:
        """Model, tag and fold, for people."""
        notes = ", ".join(note for note in (self.run.tag, f"fold {self.run.fold}" if self.run.fold else "") if note)
        return f"{self.run.model} ({notes})" if notes else self.run.model

    @property
    def is_ensemble(self) -> bool:
        """Whether ensemble.py wrote it: then it has no checkpoint, no history and no explanations of its own."""
        return "ensemble" in self.results

    @property
    def scoring_command(self) -> str:
        """The command that makes results and predictions anew; an ensemble's names its members."""
        return self.results["command"] if self.is_ensemble else self.command("evaluate.py")

    @property
    def outside_checkpoint(self) -> str:
        """The file that was evaluated in place of a checkpoint of the run; "" where the run has its own training."""
        return "" if self.history else outside_checkpoint(self.run, self.results)

    def command(self, script: str) -> str:
        """The command of a stage of the run, with the checkpoint that was evaluated where it is another's file."""
        return self.run.command(script, "" if script == "train.py" else outside_checkpoint(self.run, self.results))

    @property
    def fingerprint(self) -> str | None:
        """Of the faces that it was scored on or, before that, explained on or trained on."""
        if self.results:
            return self.results["fingerprint"]
        explained = most_common(self.explanations.values(), "fingerprint")
        return explained or self.history.get("data", {}).get("fingerprint")

    @property
    def accuracy(self) -> float:
        """On the test split; -1 where it is not evaluated, so that it comes last."""
        return self.results["accuracy"] if self.results else -1.0

    @property
    def clean_accuracy(self) -> float | None:
        """Accuracy on the test faces without a copy in the training split; None where the copies are not known."""
        without = self.results.get("without_training_copies")
        return without["accuracy"] if without else None

    @property
    def exclude_leaks(self) -> bool:
        """Whether its training left out the faces that stand in val or test, so that no test face has a copy in it.

        As the results say or, of an earlier version, the history.
        """
        return bool(self.results.get("exclude_leaks", self.history.get("exclude_leaks")))

    @property
    def best_epoch(self) -> dict[str, Any] | None:
        """The row of the chosen epoch in the history."""
        return next((row for row in self.history.get("epochs", ()) if row["epoch"] == self.history["best_epoch"]), None)


@dataclass(frozen=True)
class CrossTable:
    """Runs by the data sets on whose test faces they were scored."""

    datasets: list[str]
    rows: list[tuple[Run, dict[str, dict[str, Any]]]]  # a run and its results by data set, its own included


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SavedRuns:
    """The runs on a data set, and what could not be read of others."""

    models: list[ModelReport]
    left_out: list[str]  # a line on each file that is damaged


def read_models(outputs_dir: Path, dataset: str) -> SavedRuns:
    """All runs on `dataset`: the evaluated ones by falling accuracy, then the others.

    Files that are damaged, or of another checkpoint than the run has now, are left out; UserError where no run is left.
    """
    runs, left_out = find_runs(outputs_dir)
    models = [read_model(run, left_out) for run in runs if run.dataset == dataset]
    models = [model for model in models if model.history or model.results]
    left_out += [line for run, line in find_only_explained(outputs_dir).items() if run.dataset == dataset]
    if not models:
        command = Run("mini_resnet", dataset, outputs_dir=outputs_dir).command("train.py")
        raise UserError(*(left_out or [f"{outputs_dir} holds no run on {dataset}; run: {command}"]))
    return SavedRuns(sorted(models, key=lambda model: -model.accuracy), left_out)


def find_runs(outputs_dir: Path) -> tuple[list[Run], list[str]]:
    """The runs that left a history or results file, sorted by name, and a line on each file that cannot be read."""
    runs: dict[Run, Run] = {}  # each as the last file that states its command has it
    damaged: dict[Path, str] = {}
    for path in stage_files(Path(outputs_dir) / "checkpoints"):
        try:
            content = read_json(path, stage_of(path), {"run": RUN})
            place = data_dir_of(str(content.get("command", "")))
            run = Run(**content["run"], outputs_dir=Path(outputs_dir), data_dir=place)
            runs[run] = runs[run] if run in runs and "command" not in content else run  # calibrations state none
        except UserError as error:
            damaged[path] = f"a run is left out: {error}"
        except TypeError:
            damaged[path] = f"a run is left out: {path} names it by other parts than {', '.join(RUN)}"
    told = {path for run in runs for path in (run.history, run.results)}  # read_model says what is wrong with these
    lines = [line for path, line in damaged.items() if path not in told]
    return sorted(runs.values(), key=lambda run: run.name), lines


def find_only_explained(outputs_dir: Path) -> dict[Run, str]:
    """The runs that were explained or scored, but neither trained here nor evaluated → a line that says what helps."""
    folder = Path(outputs_dir) / "explanations"
    found: dict[Run, str] = {}
    for path in (*stage_files(folder / "scores"), *sorted(folder.glob("*/*/*_summary.json"))):
        try:
            content = read_json(path, "the script that explains", EXPLAINED)
            place = data_dir_of(str(content.get("command", "")))
            run = Run(**content["run"], outputs_dir=Path(outputs_dir), data_dir=place)
        except (UserError, TypeError):
            continue  # a damaged file of a run of which nothing else is known
        if run in found or run.history.exists() or run.results.exists():
            continue
        command = run.command("evaluate.py", outside_checkpoint(run, content))
        found[run] = f"the run {run.name} was explained but not evaluated, and is left out; run: {command}"
    return found


def stage_files(folder: Path) -> list[Path]:
    """The JSON files of a folder, without those that are being written or that a killed process left."""
    return sorted(path for path in folder.glob("*.json") if not is_temporary(path) and path.is_file())


def stage_of(path: Path) -> str:
    """The script that writes a JSON file of outputs/checkpoints."""
    return "train.py" if path.stem.endswith("_history") else "evaluate.py or ensemble.py"


def find_datasets(outputs_dir: Path) -> list[str]:
    """The data sets of all runs below `outputs_dir`, those of facts.DATASETS first, in its order."""
    names = {run.dataset for run in find_runs(outputs_dir)[0]}
    order = list(DATASETS)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def read_model(run: Run, left_out: list[str]) -> ModelReport:
    """The files of one run, each empty where it is missing.

    One that is damaged, or was made of another checkpoint than the run has now or its results are of, is left out too,
    with a line in `left_out`.
    """

    def part(path: Path, command: str, shape: dict[str, Any], title: str) -> dict[str, Any]:
        try:
            content = read_if_there(path, command, shape)
        except UserError as error:
            left_out.append(f"{title} of {run.name} are left out: {error}")
            return {}
        if content and not is_current(content, run):
            left_out.append(
                f"{title} of {run.name} are left out, as they are of another checkpoint than it has now; run: {command}"
            )
            return {}
        if content and content["run"] != run.identity():
            left_out.append(f"{title} of {run.name} are left out, as they are of another run; run: {command}")
            return {}
        return content

    def explained(name: str, method: Method) -> dict[str, Any]:
        title, command = f"explanations by {method.title}", run.command(method.script, given)
        summary = part(run.explanation_summary(name), command, SUMMARY, title)
        settings = summary.get("settings", method.constants)
        if any(settings.get(key) != value for key, value in method.constants.items()):
            left_out.append(f"{title} of {run.name} are left out, as an earlier version made them; run: {command}")
            return {}
        return summary

    def tested(kind: str) -> dict[str, Any]:
        command = run.command(f"{TEST} --shortcut {kind}")
        return part(run.clever_hans(kind), command, CLEVER_HANS | {"shortcut": frozenset({kind})}, title_of_test(kind))

    history = part(run.history, run.command("train.py"), HISTORY, "figures of the training")
    results = part(run.results, run.command("evaluate.py"), RESULTS, "results")
    given = outside_checkpoint(run, results)  # the file that was evaluated, where it is none of the run's own
    model = ModelReport(
        run=run,
        history=history,
        results=results,
        explanations={name: explained(name, method) for name, method in METHODS.items()},
        scores=part(run.scores, run.command("score_explanations.py", given), SCORES, SCORES_TITLE),
        clever_hans={kind: content for kind in SHORTCUTS if (content := tested(kind))},
    )
    return leave_out_others(model, left_out)


def title_of_test(kind: str) -> str:
    """The Clever Hans test with a shortcut, for the lines on what is left out."""
    return f"the test with a {kind}"


def leave_out_others(model: ModelReport, left_out: list[str]) -> ModelReport:
    """The same without what explains or scores another checkpoint, or other data, than the results are of.

    Without results, what counts is what most of these files are of. A file of an earlier version that names no
    checkpoint or no data is kept. Every other one that goes has a line in `left_out`.
    """
    contents = [*model.explanations.values(), model.scores, *model.clever_hans.values()]
    expected = expect(model.results, [content for content in contents if content])
    given = outside_checkpoint(model.run, {"checkpoint": expected.checkpoint, "checkpoint_digest": expected.digest})

    def kept(content: dict[str, Any], title: str, script: str, given: str = given) -> dict[str, Any]:
        reason = contradiction(content, expected)
        if reason:
            command = model.run.command(script, given)
            left_out.append(f"{title} of {model.run.name} are left out, as they are of {reason}; run: {command}")
        return {} if reason else content

    # the test trains and explains the run's own checkpoint: for results of another one, these are to be made anew
    test = "evaluate.py" if given else TEST + " --shortcut {}"
    return replace(
        model,
        explanations={
            name: kept(content, f"explanations by {METHODS[name].title}", METHODS[name].script)
            for name, content in model.explanations.items()
        },
        scores=kept(model.scores, SCORES_TITLE, "score_explanations.py"),
        clever_hans={
            kind: content
            for kind, content in model.clever_hans.items()
            if kept(content, title_of_test(kind), test.format(kind), "")
        },
    )


@dataclass(frozen=True)
class Expected:
    """What all files of a run should be of, where that is known."""

    checkpoint: str  # path
    digest: str | None  # of the checkpoint
    fingerprint: str | None  # of the data


def expect(results: dict[str, Any], contents: list[dict[str, Any]]) -> Expected:
    """Checkpoint and data of the results or, where these are not known, those that most of the other files name."""
    fingerprint = results.get("fingerprint") or most_common(contents, "fingerprint")
    if results and (digest := results_digest(results)):
        return Expected((results["checkpoint"] or {}).get("path", ""), digest, fingerprint)
    digest = most_common(contents, "checkpoint_digest")
    first = next((content for content in contents if content.get("checkpoint_digest") == digest), {})
    return Expected(first.get("checkpoint", ""), digest, fingerprint)


def most_common(contents: Iterable[dict[str, Any]], key: str) -> str | None:
    """The most frequent of the values that files have under a key, the first of equally frequent ones; None of none."""
    counts = Counter(content[key] for content in contents if content.get(key))
    return counts.most_common(1)[0][0] if counts else None


def contradiction(content: dict[str, Any], expected: Expected) -> str:
    """What a summary or scores are of, where that differs from what is expected, in words; "" where it does not."""
    digest, fingerprint = content.get("checkpoint_digest"), content.get("fingerprint")
    if digest and expected.digest and digest != expected.digest:
        own, other = (content.get("checkpoint", ""), digest), (expected.checkpoint, expected.digest)
        return f"the checkpoint {name_state(*own)}, not of {name_state(*other)} as its other files"
    if fingerprint and expected.fingerprint and fingerprint != expected.fingerprint:
        return "another version of the data than its other files"
    return ""


def name_state(path: str, digest: str) -> str:
    """A checkpoint as --checkpoint takes it, with the first digits of its digest, as files are written over."""
    return f"{checkpoint_name(Path(path))} ({digest[:8]})" if path else digest[:8]


def read_cross(outputs_dir: Path) -> tuple[CrossTable | None, list[str]]:
    """The runs of any data set that were scored on others (None where there is none), and lines on what is left out.

    Left out are damaged files, and figures of another checkpoint than the run has now.
    """
    found: dict[Run, dict[str, dict[str, Any]]] = {}
    left_out = []
    for path in stage_files(Path(outputs_dir) / "elsewhere"):
        try:
            results = read_json(path, "evaluate.py --on", ELSEWHERE)
            place = data_dir_of(str(results.get("command", "")))
            run = Run(**results["run"], outputs_dir=Path(outputs_dir), data_dir=place)
            own = read_if_there(run.results, run.command("evaluate.py"), RESULTS)
            dataset_facts(run.dataset), dataset_facts(results["on"])
        except UserError as error:
            left_out.append(f"figures on another data set are left out: {error}")
            continue
        if not is_current({"checkpoint": str(run.best_checkpoint), **results}, run):  # earlier versions named no file
            command = run.command(f"evaluate.py --on {results['on']}")
            left_out.append(
                f"{path} is left out, as it is of another checkpoint than {run.name} has now; run: {command}"
            )
            continue
        if own and not is_current(own, run):
            own = {}  # read_model says so
        if own and results_digest(own) not in (None, results["checkpoint_digest"]):
            command = run.command(f"evaluate.py --on {results['on']}", outside_checkpoint(run, own))
            left_out.append(
                f"{path} is left out, as it is of another checkpoint than the results of {run.name}; run: {command}"
            )
            continue
        cells = found.setdefault(run, {run.dataset: own} if own else {})
        cells[results["on"]] = results
    if not found:
        return None, left_out
    columns = sorted({dataset for cells in found.values() for dataset in cells})
    return CrossTable(columns, sorted(found.items(), key=lambda row: (row[0].dataset, row[0].name))), left_out


def shown_methods(models: Iterable[ModelReport]) -> dict[str, Method]:
    """The methods that the page names: those expected of every run, and those that some run was explained with."""
    done = {name for model in models for name, summary in model.explanations.items() if summary}
    return {name: method for name, method in METHODS.items() if method.expected or name in done}


def read_if_there(path: Path, command: str, shape: dict[str, Any]) -> dict[str, Any]:
    """The content of a stage's JSON file; empty where there is no such file."""
    return read_json(path, command, shape) if path.exists() else {}


# ── figures for the tables ───────────────────────────────────────────────────────────────────────────────────────────


def majority(results: dict[str, Any]) -> dict[str, Any]:
    """The most frequent class and its share, which is the accuracy of always predicting it."""
    row = max(results["per_class"], key=lambda row: row["support"])
    return {"emotion": row["emotion"], "share": row["support"] / results["samples"]}


def is_useful(results: dict[str, Any]) -> bool:
    """Whether the whole interval of the accuracy is above the share of the most frequent class."""
    return results["intervals"]["accuracy"][0] > majority(results)["share"]


def find_highest(evaluated: Iterable[ModelReport]) -> dict[str, float | None]:
    """The highest of each headline figure; None for one on which all models agree."""
    columns = {name: [model.results[name] for model in evaluated] for name in HEADLINES}
    columns["clean_accuracy"] = [model.clean_accuracy for model in evaluated if not model.exclude_leaks]
    known = {name: {value for value in values if value is not None} for name, values in columns.items()}
    return {name: max(values) if len(values) > 1 else None for name, values in known.items()}


def interval_axis(models: Iterable[ModelReport]) -> tuple[float, float]:
    """Ends of the axis on which the accuracies are drawn: multiples of 5 % around the intervals.

    Models that do no better than always predicting the most frequent class are left out, where there are better ones.
    """
    evaluated = [model for model in models if model.results]
    useful = [model for model in evaluated if is_useful(model.results)]
    ends = [end for model in useful or evaluated for end in model.results["intervals"]["accuracy"]]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    return max(0.0, int(low * 20) / 20), min(1.0, -int(-high * 20 // 1) / 20)
