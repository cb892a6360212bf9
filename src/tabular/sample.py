"""Synthetic tables drawn from a description in YAML, with the linear rules among them as their truth.

The language of the descriptions is explained at the top of `data/samples/house_prices.yaml`.
"""

import csv
import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

Values = npt.NDArray[np.object_]
Numbers = npt.NDArray[np.float64]
Rule = dict[str, Any]

MISSING = "NA"
SHARE_TOLERANCE = 1e-6


class _Form(NamedTuple):
    """One form of rule or term: what evaluates it and which keys may stand beside its own."""

    evaluate: Callable[..., npt.NDArray[Any]]
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


class _Table:
    """The columns drawn so far, and the streams that the next ones are drawn from."""

    def __init__(self, seed: int, rows: int, factors: list[str]) -> None:
        self.seed = seed
        self.rows = rows
        self.columns: dict[str, Values] = {}
        self._factors = {name: self.normals(f"factor {name}") for name in factors}

    def normals(self, purpose: str) -> Numbers:
        """Standard normal draws that depend on nothing but the seed and the purpose."""
        # zlib.crc32 instead of hash(): hash() of a text differs from one process to the next.
        stream = np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])
        return stream.standard_normal(self.rows)

    def factor(self, name: str) -> Numbers:
        if name not in self._factors:
            raise ValueError(f"{name!r} is not one of the factors")
        return self._factors[name]

    def column(self, name: str) -> Values:
        if name not in self.columns:
            raise ValueError(f"{name!r} is not an earlier column")
        return self.columns[name]

    def numbers(self, name: str) -> Numbers:
        values = self.column(name)
        return np.array([np.nan if value == MISSING else value for value in values], dtype=float)


def _ranks(rule: Rule, table: _Table, normals: Numbers) -> Numbers:
    """Where each row stands between 0 and 1: always uniform, however much it follows factors."""
    weights = rule.get("follow", {})
    own_share = 1.0 - sum(weight**2 for weight in weights.values())
    if own_share < -SHARE_TOLERANCE:
        raise ValueError("the squares of the weights under 'follow' add up to more than 1")
    scores = np.sqrt(max(own_share, 0.0)) * normals
    for name, weight in weights.items():
        scores = scores + weight * table.factor(name)
    return np.array([math.erfc(-score / math.sqrt(2)) / 2 for score in scores])


def _as_values(numbers: Numbers, rule: Rule) -> Values:
    numbers = np.clip(numbers, *rule.get("range", (-np.inf, np.inf)))
    if "round" in rule:
        numbers = np.rint(numbers / rule["round"]) * rule["round"]
    return np.where(np.isnan(numbers), MISSING, numbers.astype(object))


def _count_up(rule: Rule, table: _Table, normals: Numbers) -> Values:
    return np.arange(rule["serial"], rule["serial"] + table.rows).astype(object)


def _spread(rule: Rule, table: _Table, normals: Numbers) -> Values:
    return np.linspace(rule["even"][0], rule["even"][1], table.rows).astype(object)


def _take_turns(rule: Rule, table: _Table, normals: Numbers) -> Values:
    return np.resize(np.array(rule["cycle"], dtype=object), table.rows)


def _pick_value(rule: Rule, table: _Table, normals: Numbers) -> Values:
    shares = list(rule["values"].values())
    if min(shares) < 0 or abs(sum(shares) - 1.0) > SHARE_TOLERANCE:
        raise ValueError(f"the shares add up to {sum(shares):.8g} instead of 1, or one is negative")
    edges = np.cumsum(shares)[:-1]
    picks = np.searchsorted(edges, _ranks(rule, table, normals), side="right")
    return np.array(list(rule["values"]), dtype=object)[picks]


def _pick_number(rule: Rule, table: _Table, normals: Numbers) -> Values:
    shares = list(rule["quantiles"])
    if shares[0] != 0 or shares[-1] != 1 or min(np.diff(shares)) <= 0:
        raise ValueError("the shares under 'quantiles' must rise from 0 to 1")
    position = _ranks(rule, table, normals)
    zeros = rule.get("zeros", 0.0)
    numbers = np.interp((position - zeros) / (1 - zeros), shares, list(rule["quantiles"].values()))
    return _as_values(np.where(position < zeros, 0.0, numbers), rule)


def _add_up(rule: Rule, table: _Table, normals: Numbers) -> Values:
    total = rule.get("base", 0.0) + rule.get("noise", 0.0) * normals
    for term in rule["sum"]:
        form = _form_of(term, _TERMS)
        total = total + term.get("weight", 1.0) * form.evaluate(term, table)
    return _as_values(np.exp(total) if rule.get("exponential") else total, rule)


def _choose_case(rule: Rule, table: _Table, normals: Numbers) -> Values:
    deciding = table.column(rule["by"])
    result = np.empty(table.rows, dtype=object)
    undecided = np.ones(table.rows, dtype=bool)
    for key, case in rule["cases"].items():
        matching = undecided & ((deciding == key) | (key == "else"))
        result[matching] = _evaluate(case, table, normals)[matching]
        undecided &= ~matching
    if undecided.any():
        raise ValueError(f"no case for {rule['by']} = {deciding[undecided][0]!r}")
    return result


def _product(term: Rule, table: _Table) -> Numbers:
    result = np.ones(table.rows)
    for name in term["product"]:
        result *= table.numbers(name)
    return result


def _saturating(term: Rule, table: _Table) -> Numbers:
    numbers = table.numbers(term["saturating"])
    half: float = term["half"]
    return numbers / (numbers + half)


def _lookup(term: Rule, table: _Table) -> Numbers:
    worth = term["table"]
    return np.array([worth.get(value, 0.0) for value in table.column(term["lookup"])], dtype=float)


_FORMS = {
    "serial": _Form(_count_up),
    "even": _Form(_spread),
    "cycle": _Form(_take_turns),
    "values": _Form(_pick_value, optional=frozenset({"follow"})),
    "quantiles": _Form(_pick_number, optional=frozenset({"follow", "zeros", "range", "round"})),
    "sum": _Form(_add_up, optional=frozenset({"base", "noise", "exponential", "range", "round"})),
    "by": _Form(_choose_case, required=frozenset({"cases"})),
}

_WEIGHT = frozenset({"weight"})
_TERMS = {
    "of": _Form(lambda term, table: table.numbers(term["of"]), optional=_WEIGHT),
    "log": _Form(lambda term, table: np.log(table.numbers(term["log"])), optional=_WEIGHT),
    "sin": _Form(lambda term, table: np.sin(table.numbers(term["sin"])), optional=_WEIGHT),
    "cos": _Form(lambda term, table: np.cos(table.numbers(term["cos"])), optional=_WEIGHT),
    "sign": _Form(lambda term, table: np.sign(table.numbers(term["sign"])), optional=_WEIGHT),
    "product": _Form(_product, optional=_WEIGHT),
    "saturating": _Form(_saturating, required=frozenset({"half"}), optional=_WEIGHT),
    "lookup": _Form(_lookup, required=frozenset({"table"}), optional=_WEIGHT),
}


def _form_of(rule: Rule, forms: Mapping[str, _Form]) -> _Form:
    """Find the one form that a rule or a term has, and check the keys beside it."""
    named = [name for name in forms if name in rule]
    if len(named) != 1:
        raise ValueError(f"expected one of {', '.join(forms)} among the keys {list(rule)}")
    form = forms[named[0]]
    if lacking := form.required - set(rule):
        raise ValueError(f"{named[0]!r} needs {sorted(lacking)} beside it")
    if stray := set(rule) - {named[0]} - form.required - form.optional:
        raise ValueError(f"{named[0]!r} does not take {sorted(stray)}")
    return form


def _evaluate(rule: Any, table: _Table, normals: Numbers) -> Values:
    """Evaluate a rule; anything but a mapping stands for itself in every row."""
    if not isinstance(rule, dict):
        return np.full(table.rows, rule, dtype=object)
    return _form_of(rule, _FORMS).evaluate(rule, table, normals)


def _draw_column(name: str, settings: Rule, table: _Table) -> Values:
    rule = {key: settings[key] for key in settings if key not in ("label", "hidden", "missing")}
    values = _evaluate(rule, table, table.normals(name))
    if "missing" in settings:
        # A stream of its own, so that another share of missing leaves the values that stay alone.
        values[_ranks({}, table, table.normals(f"missing {name}")) < settings["missing"]] = MISSING
    return values


def _as_text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.10g}"
    return str(value)


def _draw_table(description: Path, plan: dict[str, Any]) -> _Table:
    rows = sum(file["rows"] for file in plan["files"].values())
    table = _Table(plan["seed"], rows, plan.get("factors", []))
    for name, settings in plan["columns"].items():
        try:
            table.columns[name] = _draw_column(name, settings, table)
        # The last two come of a list or a text in the place of a mapping or a number.
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{description}: column {name}: {error}") from error
    return table


def _straight(rule: Any, visible: list[str]) -> dict[str, float] | None:
    """The weights of a rule that only adds up other columns that are written."""
    if not isinstance(rule, dict) or set(rule) & {"exponential", "range", "round"} or not rule.get("sum"):
        return None
    if any(set(term) - {"of", "weight"} or term["of"] not in visible for term in rule["sum"]):
        return None
    weights = {term["of"]: float(term.get("weight", 1.0)) for term in rule["sum"]}
    return {**weights, "bias": float(rule.get("base", 0.0))}


def write_sample(description: Path, folder: Path) -> None:
    """Write the CSV files that a YAML description declares into an existing folder.

    Columns that are straight lines or planes of others go into truth.json: {column: {other: weight,
    "bias": ...}}.

    The bytes depend on the description alone. Each column has a stream of its own, so a change
    to one column changes that column and those that depend on it.

    Raises:
        ValueError: the description has a mistake; the message names the file and the column.
    """
    plan = yaml.safe_load(description.read_text(encoding="utf-8"))
    if lacking := {"seed", "files", "columns"} - set(plan or {}):
        raise ValueError(f"{description} describes no sample: it lacks {', '.join(sorted(lacking))}")
    table = _draw_table(description, plan)
    visible = [name for name, settings in plan["columns"].items() if not settings.get("hidden")]
    if truth := {name: line for name in visible if (line := _straight(plan["columns"][name], visible))}:
        (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    start = 0
    for file_name, file in plan["files"].items():
        left_out = file.get("without", [])
        for name in left_out:
            if name not in visible:
                raise ValueError(f"{description}: {file_name} is without the unknown column {name}")
        names = [name for name in visible if name not in left_out]
        columns = [table.columns[name][start : start + file["rows"]] for name in names]
        with (folder / file_name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(map(_as_text, row) for row in zip(*columns, strict=True))
        start += file["rows"]
