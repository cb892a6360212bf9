"""Of a proposal for a table: the targets, and what they are."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from src.core.errors import ConfigurationError, DataError
from src.preparation.names import COUNT_NAME, LABEL_NAME
from src.preparation.proposals import Noted, count, listed
from src.preparation.splits import repeated
from src.reporting.noise import UNBALANCED
from src.tabular.proposed_columns import Features
from src.tabular.proposed_files import LEAST_ROWS_EACH, MOST_NUMBER_CLASSES, is_whole
from src.tabular.values import is_numeric, text_values

TARGET_NAMES = ("target", "label", "class", "y", "price", "saleprice", "outcome", "response", "species")
PLAIN_NAMES = ("target", "label", "outcome")  # of no feature that a test table has
MOST_CLASSES = 200
SKEWED = 1.0
LINEAR = 1e-9

Task = Literal["regression", "classification"]


def chosen_targets(
    columns: list[str], target: str | None, lacking: list[str], submission: list[str]
) -> tuple[list[str], str]:
    """The columns to predict, and the reason.

    Args:
        columns: of the table.
        target: those that the user names; None for none.
        lacking: the columns that the test table lacks.
        submission: the columns of a sample submission.

    Raises:
        ConfigurationError: there is no such column, or a name appears twice.
    """
    if target is None:
        name, reason = _likely_target(columns, lacking, submission)
        return [name], reason
    # the name of a column may have a comma
    names = [target] if target in columns else [name.strip() for name in target.split(",")]
    for name in names:
        if name not in columns:
            known = ", ".join(columns)
            raise ConfigurationError(f"--target: there is no column '{name}'; expected one of: {known}")
    if len(set(names)) < len(names):
        raise ConfigurationError(f"--target: expected different columns, found {target}")
    return names, "by --target"


def _likely_target(columns: list[str], lacking: list[str], submission: list[str]) -> tuple[str, str]:
    if len(lacking) == 1:
        return lacking[0], "the only column that the test table lacks; another one: --target"
    if len(predicted := [name for name in lacking if name in submission]) == 1:
        return predicted[0], "the test table lacks it, the submission has it; another one: --target"
    for candidates, names in ((lacking, TARGET_NAMES), (columns, PLAIN_NAMES if lacking else TARGET_NAMES)):
        for name in names:
            for column in candidates:
                if column.lower() == name:
                    return column, "by its name; another one: --target"
    place = "the last column" + " that the test table lacks" * bool(lacking)
    return (lacking or columns)[-1], f"a guess: {place}; another one: --target"


def kind_of_targets(table: pd.DataFrame, reason: str, task: Task | None, file: Path) -> tuple[int, list[str]]:
    """The number of classes, 0 for quantities, and the findings about the targets.

    Args:
        table: the targets.
        reason: why they are the targets.
        task: what they are; None decides by their values and names.
        file: for messages.

    Raises:
        ConfigurationError: a column cannot be such a target, or not beside the others.
        DataError: no row has a value.
    """
    kinds = {str(name): _kind_of_target(table[name], reason, task, file) for name in table.columns}
    classes = {name: found for name, (found, _) in kinds.items()}
    unlike = [name for name, found in classes.items() if len(classes) > 1 and found not in (0, 2)]
    if unlike:
        raise ConfigurationError(
            f"--target: '{unlike[0]}' has {classes[unlike[0]]} classes, and each of several targets needs "
            "two; give it a task of its own"
        )
    quantities = [name for name, found in classes.items() if not found]
    others = [name for name, found in classes.items() if found]
    if quantities and others:
        raise ConfigurationError(
            f"--target: '{quantities[0]}' is a quantity and '{others[0]}' has classes; give each a task of "
            "its own, or set --task"
        )
    return max(classes.values()), [finding for _, findings in kinds.values() for finding in findings]


def _kind_of_target(
    column: "pd.Series[Any]", reason: str, task: Task | None, file: Path
) -> tuple[int, list[str]]:
    values = column.dropna()
    distinct, start = values.nunique(), f"target: '{column.name}' ({reason})"
    if values.empty:
        formulas = "; of formulas a spreadsheet program stores the values when it saves the file"
        raise DataError(
            f"{file}: the target '{column.name}' ({reason}): expected values, found only empty cells"
            + (formulas if file.suffix.lower() == ".xlsx" else "")
        )
    numeric = is_numeric(column)
    if task == "regression" and not numeric:
        raise ConfigurationError(f"--task: regression needs numbers, '{column.name}' has {values.iloc[0]!r}")
    if not numeric and distinct > min(MOST_CLASSES, len(values) / 2):
        raise ConfigurationError(
            f"{start}: {distinct} texts in {len(values)} rows are too many for classes; choose another column"
        )
    found, doubt = _kind_of(values, numeric)
    said = ""
    if task:
        found, said = task, ", by --task"
    elif doubt:
        other = "classification" if found == "regression" else "regression"
        said = f"; a guess, as it has {doubt}; the other way: --task {other}"
    if found == "regression":
        span = f"{values.min():g} to {values.max():g}, median {values.median():g}"
        return 0, [f"{start}: a quantity, {span}: regression{said}"]
    counts = pd.Series(text_values(values)).value_counts()
    common, share = counts.index[0], counts.iloc[0] / len(values)
    names = listed(sorted(counts.index))
    findings = [f"{start}: {count(distinct, 'class')} ({names}): classification{said}"]
    if share > UNBALANCED:
        findings.append(
            f"unbalanced: {share:.0%} of the rows are '{common}', so compare test/recall, the balanced "
            f"accuracy: always predicting '{common}' has an accuracy of {share:.2f}"
        )
    return distinct, findings


def _kind_of(values: "pd.Series[Any]", numeric: bool) -> tuple[Task, str]:
    """Regression or classification, and what speaks for the other one; nothing if that is clear."""
    counts = values.value_counts()
    distinct, name = len(counts), str(values.name)
    if not numeric or distinct <= 2:
        return "classification", ""
    if not is_whole(values):
        return "regression", ""
    often = counts.min() >= 2 and distinct <= len(values) / LEAST_ROWS_EACH
    whole_numbers = f"{distinct} different whole numbers in {count(len(values), 'row')}"
    if often and distinct <= MOST_CLASSES and LABEL_NAME.fullmatch(name):
        return "classification", f"{whole_numbers} and the name of a label"
    if often and distinct <= MOST_NUMBER_CLASSES and not COUNT_NAME.fullmatch(name):
        return "classification", whole_numbers
    return "regression", whole_numbers if distinct <= len(values) / 2 else ""


def target_keys(
    table: pd.DataFrame, targets: list[str], classes: int, parts: int
) -> tuple[dict[str, Any], list[str]]:
    """The keys of `prepare` about the targets and the rows without them, and the findings about these rows.

    Args:
        table: all rows.
        targets: the columns to predict.
        classes: their number, 0 for quantities.
        parts: of the split, each of which needs a row of each class.
    """
    keys, findings = dict[str, Any](), list[str]()
    if not classes:
        steps = [_target_transform(table[name]) for name in targets]
        logarithmic = all(isinstance(one, Noted) for one in steps)
        keys["target_transform"] = steps[0] if logarithmic else "standardize"
    elif len(targets) == 1 and (rare := _rare_classes(table, targets[0], parts)):
        keys["drop_rare_classes"] = Noted(parts, f"leaves out {listed(rare)}")
        findings.append(
            f"left out: {listed(rare)}: classes with fewer than {parts} different rows, one for each part of "
            "the split; see `drop_rare_classes`"
        )
    if unanswered := int(table[targets].isna().any(axis=1).sum()):
        rows = f"{unanswered:,} of {count(len(table), 'row')}"
        keys["missing_target"] = Noted("drop", f"leaves out {rows}")
        findings.append(f"left out: {rows} without a target; see `missing_target`")
    return keys, findings


def _rare_classes(table: pd.DataFrame, target: str, parts: int) -> list[str]:
    """The classes with fewer rows than the split has parts, where at least two other classes remain."""
    counts = pd.Series(text_values(table.drop_duplicates()[target].dropna())).value_counts()
    rare = sorted(counts.index[counts < parts])
    return rare if len(counts) - len(rare) >= 2 else []


def suspicious(table: pd.DataFrame, targets: list[str], features: Features, classes: int) -> list[str]:
    """Questions about rows and columns that make a score too good."""
    left_out = {*targets, *features.drop, *features.others}
    findings = [
        f"'{name}' tells the target exactly; if it is not known before the target, add it to `drop`"
        for name in table.columns
        if name not in left_out and any(_tells(table, name, target, classes) for target in targets)
    ]
    if features.group:
        return findings
    used = table.drop(columns=[name for name in left_out if name not in targets])
    numbers, bound_to_occur = repeated(used, list(used.columns))
    if copies := len(numbers) - numbers.max() - 1:
        fate = "are split as other rows" if bound_to_occur else "stay in one part of the split"
        repeat = "repeats" if copies == 1 else "repeat"
        findings.append(f"{count(copies, 'row')} {repeat} another one: equal rows {fate}; see `duplicates`")
    return findings


def _tells(table: pd.DataFrame, name: str, target: str, classes: int) -> bool:
    """Whether a column tells the target exactly."""
    column, answer = table[name], table[target]
    if classes:
        pairs = table[[name, target]].drop_duplicates()
        return bool(column.nunique() == answer.nunique() == len(pairs))
    return bool(is_numeric(column) and column.nunique() > 2 and abs(column.corr(answer)) > 1 - LINEAR)


def _target_transform(column: "pd.Series[Any]") -> Any:
    values = column.dropna().to_numpy(dtype=float)
    if values.min() > 0:
        skewness, of_logarithm = _skewness(values), _skewness(np.log(values))
        if skewness > SKEWED and abs(of_logarithm) < skewness:
            note = f"skewed: skewness {skewness:.1f}, of the logarithm {of_logarithm:.1f}"
            return Noted(["log", "standardize"], note)
    return "standardize"


def _skewness(values: Any) -> float:
    deviation: float = values.std()
    return float((((values - values.mean()) / deviation) ** 3).mean()) if deviation else 0.0
