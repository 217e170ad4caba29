"""An evaluation as tables for a terminal: a row a file, then what stands out among classes, labels or values."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mbn_deploy.answers import Meaning
from mbn_deploy.cli.bundle_table import figure_text
from mbn_deploy.cli.output import plain, stdout, table
from mbn_deploy.text import plural
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.measures.measure import METRICS, PART_METRICS, Accuracy, Comparison, Metric, shown_metrics
from mbn_deploy.verify.record import accuracy_record, comparison_record, worst
from mbn_deploy.verify.statistics import Estimate

COLUMNS = 4  # that fit beside the files' names
SHOWN = 8  # classes of which all are shown; of more the worst
# Of these meanings every part is shown, in the order of the outputs.
PARTS: dict[Meaning, str] = {"labels": "label", "values": "value"}


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a row for each file, with 95 % confidence intervals, and the classes that are worst or most confused."""
    console, main = stdout(), evaluation.measure.main
    records = {
        name: accuracy_record(evaluation.accuracy.get(name))
        | ({} if name not in evaluation.comparison else comparison_record(evaluation.comparison[name], main))
        for name in evaluation.answers
    }
    columns: dict[str, list[str]] = {
        METRICS[key].short: [_cell(METRICS[key], record.get(key), interval=key == main) for record in records.values()]
        for key in shown_metrics(records.values())
    }
    if evaluation.comparison and evaluation.accuracy:
        columns["change"] = [_change(METRICS[main], evaluation.comparison.get(name)) for name in records]
    for headings in _side_by_side(list(columns)):
        rows = table("file", *headings)
        for at, name in enumerate(records):
            rows.add_row(plain(name), *(columns[heading][at] for heading in headings))
        console.print(rows)
        console.print()
    _print_notes(console, evaluation)
    shown = worst_file(evaluation)
    if shown is not None:
        _print_parts(console, evaluation, *shown)


def _side_by_side(headings: list[str]) -> list[list[str]]:
    """Divide columns among two tables if one would leave no room for the files' names."""
    half = -(-len(headings) // 2)
    return [headings] if len(headings) <= COLUMNS else [headings[:half], headings[half:]]


def worst_file(evaluation: Evaluation) -> tuple[str, Accuracy] | None:
    """Return the file whose main figure is worst, with its accuracy; None without labels."""
    sign = -1.0 if METRICS[evaluation.measure.main].lower_is_better else 1.0
    return min(evaluation.accuracy.items(), key=lambda item: sign * item[1].main.value, default=None)


def _print_notes(console: Console, evaluation: Evaluation) -> None:
    console.print(
        f"{evaluation.images} images of {plain(evaluation.dataset)!r}; 95 % confidence intervals in brackets."
    )
    if evaluation.resized is not None:
        console.print(f"Resized with {evaluation.resized.resize}: {evaluation.resized.resize_about}.")
    if evaluation.comparison:
        reference = next(iter(evaluation.comparison.values())).reference
        console.print(f"Agreement and change are relative to {plain(reference)}, image by image.")
    meaning, threshold = evaluation.measure.answers.meaning, evaluation.measure.threshold
    if meaning == "binary":
        console.print(f"Positive is a probability above {threshold:g}.")
    elif meaning == "labels":
        console.print(f"A label is given from a probability of {threshold:g} on.")


def _print_parts(console: Console, evaluation: Evaluation, name: str, accuracy: Accuracy) -> None:
    """Print the classes that are worst and most confused, or all labels or values."""
    noun = PARTS.get(evaluation.measure.answers.meaning)
    if noun is not None:
        console.print(f"\nBy {noun}, {plain(name)}:")
        console.print(_part_table(noun, accuracy))
    elif accuracy.main.value < 1:
        many = len(accuracy.parts) > SHOWN
        console.print(f"\n{'Worst classes' if many else 'By class'}, {plain(name)}:")
        console.print(_class_table(accuracy, many=many))
        frequent = [each for each in accuracy.confusions if each.images > 1][:3]
        if frequent and many:
            said = (f"{plain(c.truth)} for {plain(c.answer)} ({plural(c.images, 'image')})" for c in frequent)
            console.print(f"Most frequently taken: {'; '.join(said)}.")


def _class_table(accuracy: Accuracy, *, many: bool) -> Table:
    confused = bool(accuracy.confusions)
    rows = table("class", "images", "right %", *(["taken for"] if confused else []))
    for part in worst(accuracy.parts)[:SHOWN] if many else accuracy.parts:
        mistaken = [each for each in accuracy.confusions if each.truth == part.name][:2]
        taken = ", ".join(f"{plain(each.answer)} ({each.images})" for each in mistaken)
        share = next(iter(part.figures.values())) or 0.0
        rows.add_row(plain(part.name), str(part.images), f"{100 * share:.1f}", *([taken or "-"] if confused else []))
    if confused:
        last = rows.columns[-1]
        last.justify, last.no_wrap, last.overflow = "left", False, "fold"
    return rows


def _part_table(noun: str, accuracy: Accuracy) -> Table:
    known = {**METRICS, **PART_METRICS}
    keys = list(dict.fromkeys(key for part in accuracy.parts for key in part.figures))
    rows = table(noun, "images", *(known[key].short for key in keys))
    for part in accuracy.parts:
        rows.add_row(plain(part.name), str(part.images), *(figure_text(known[k], part.figures.get(k)) for k in keys))
    return rows


def _cell(metric: Metric, value: dict[str, float] | float | None, *, interval: bool) -> str:
    if interval and isinstance(value, dict) and metric.unit == "share":
        return with_interval(Estimate(**value))
    return figure_text(metric, value)


def _change(metric: Metric, compared: Comparison | None) -> str:
    difference = None if compared is None else compared.difference
    if difference is None:
        return ""
    if metric.unit == "share":
        return with_interval(difference, sign="+")
    return f"{difference.value:+.2g} [{difference.low:+.2g}, {difference.high:+.2g}]"


def with_interval(estimate: Estimate, sign: str = "") -> str:
    """Format an estimate and its interval in percent: `71.2 [69.0, 73.3]`."""
    value, low, high = (100 * part for part in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
