import csv
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.tabular.sample import write_sample

REPOSITORY = Path(__file__).parents[2]
HOUSE_PRICES = REPOSITORY / "data" / "samples" / "house_prices.yaml"
COLUMNS = """
Id MSSubClass MSZoning LotFrontage LotArea Street Alley LotShape LandContour Utilities LotConfig
LandSlope Neighborhood Condition1 Condition2 BldgType HouseStyle OverallQual OverallCond YearBuilt
YearRemodAdd RoofStyle RoofMatl Exterior1st Exterior2nd MasVnrType MasVnrArea ExterQual ExterCond
Foundation BsmtQual BsmtCond BsmtExposure BsmtFinType1 BsmtFinSF1 BsmtFinType2 BsmtFinSF2 BsmtUnfSF
TotalBsmtSF Heating HeatingQC CentralAir Electrical 1stFlrSF 2ndFlrSF LowQualFinSF GrLivArea
BsmtFullBath BsmtHalfBath FullBath HalfBath BedroomAbvGr KitchenAbvGr KitchenQual TotRmsAbvGrd
Functional Fireplaces FireplaceQu GarageType GarageYrBlt GarageFinish GarageCars GarageArea
GarageQual GarageCond PavedDrive WoodDeckSF OpenPorchSF EnclosedPorch 3SsnPorch ScreenPorch PoolArea
PoolQC Fence MiscFeature MiscVal MoSold YrSold SaleType SaleCondition SalePrice
"""
SCHEMA = COLUMNS.split()

Row = dict[str, str]
Plan = dict[str, Any]


def read(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def plan() -> Plan:
    loaded: Plan = yaml.safe_load(HOUSE_PRICES.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house_prices")
    write_sample(HOUSE_PRICES, folder)
    return folder


@pytest.fixture(scope="module")
def train(folder: Path) -> list[Row]:
    return read(folder / "train.csv")


@pytest.fixture(scope="module")
def rows(folder: Path, train: list[Row]) -> list[Row]:
    return train + read(folder / "test.csv")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_other_process_hash_seed_locale_and_folder_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from src.tabular.sample import write_sample; "
        "write_sample(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(HOUSE_PRICES), str(tmp_path)],
        env=os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        check=True,
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["test.csv", "train.csv", "truth.json"]
    for name in ("train.csv", "test.csv"):
        assert digest(tmp_path / name) == digest(folder / name)


def test_schema_rows_and_ids(folder: Path) -> None:
    train, test = read(folder / "train.csv"), read(folder / "test.csv")
    assert len(SCHEMA) == 81
    assert list(train[0]) == SCHEMA
    assert list(test[0]) == SCHEMA[:-1]
    assert [row["Id"] for row in train] == [str(number) for number in range(1, 1461)]
    assert [row["Id"] for row in test] == [str(number) for number in range(1461, 2920)]


def test_every_written_column_has_a_label_in_both_languages(plan: Plan) -> None:
    labels = {name: rule["label"] for name, rule in plan["columns"].items() if "label" in rule}
    assert list(labels) == SCHEMA
    for language in ("en", "zh"):
        texts = [label[language].strip() for label in labels.values()]
        assert all(texts)
        assert len(set(texts)) == 81


def test_files_have_plain_newlines_and_no_decimals_or_truth_values(folder: Path) -> None:
    for name in ("train.csv", "test.csv"):
        content = (folder / name).read_bytes()
        assert b"\r" not in content
        assert content.endswith(b"\n")
        values = {value for row in read(folder / name) for value in row.values()}
        assert not [value for value in values if value.replace(".", "", 1).isdigit() and "." in value]
        assert not values & {"", "nan", "True", "False"}
        assert {"NA", "None", "No", "Y", "N"} <= values


def known_values(plan: Plan, name: str) -> set[Any]:
    """All values that the rule of a column lists, however deep."""

    def listed(rule: Any) -> set[Any]:
        if not isinstance(rule, dict):
            return {rule}
        if "by" in rule:
            return set().union(*(listed(case) for case in rule["cases"].values()))
        return set(rule["values"])

    return listed(plan["columns"][name])


def test_cases_and_lookups_name_values_that_occur(plan: Plan) -> None:
    numeric = {"Fireplaces", "PoolArea", "house_age", "MSSubClass"}
    checked = 0

    def check(rule: Any) -> None:
        nonlocal checked
        if not isinstance(rule, dict):
            return
        pairs = [(rule["by"], set(rule["cases"]) - {"else"})] if "by" in rule else []
        pairs += [(term["lookup"], set(term["table"])) for term in rule.get("sum", []) if "lookup" in term]
        for column, keys in pairs:
            if column in numeric:
                assert all(isinstance(key, int) for key in keys)
            else:
                assert keys <= known_values(plan, column), column
            checked += len(keys)
        for case in rule.get("cases", {}).values():
            check(case)

    for rule in plan["columns"].values():
        check(rule)
    assert checked > 150


def missing(rows: list[Row], name: str) -> list[bool]:
    return [row[name] == "NA" for row in rows]


@pytest.mark.parametrize(
    ("reason", "value", "affected"),
    [
        ("GarageType", "NA", ["GarageYrBlt", "GarageFinish", "GarageQual", "GarageCond"]),
        ("BsmtQual", "NA", ["BsmtCond", "BsmtExposure", "BsmtFinType1", "BsmtFinType2"]),
        ("Fireplaces", "0", ["FireplaceQu"]),
        ("PoolArea", "0", ["PoolQC"]),
        ("MasVnrType", "NA", ["MasVnrArea"]),
    ],
)
def test_what_is_missing_together(rows: list[Row], reason: str, value: str, affected: list[str]) -> None:
    expected = [row[reason] == value for row in rows]
    assert any(expected)
    assert not all(expected)
    for name in affected:
        assert missing(rows, name) == expected


def test_what_is_absent_has_size_0(rows: list[Row]) -> None:
    for row in rows:
        assert (row["GarageType"] == "NA") == (row["GarageArea"] == "0") == (row["GarageCars"] == "0")
        assert (row["BsmtQual"] == "NA") == (row["TotalBsmtSF"] == "0")
        assert (row["MasVnrType"] == "None") == (row["MasVnrArea"] == "0")
        assert (row["MiscFeature"] == "NA") == (row["MiscVal"] == "0")


def test_related_numbers_agree(rows: list[Row]) -> None:
    for row in rows:
        basement = [int(row[name]) for name in ("BsmtFinSF1", "BsmtFinSF2", "BsmtUnfSF")]
        assert min(basement) >= 0
        assert sum(basement) == int(row["TotalBsmtSF"])
        floors = [int(row[name]) for name in ("1stFlrSF", "2ndFlrSF", "LowQualFinSF")]
        assert sum(floors) == int(row["GrLivArea"])
        built, sold = int(row["YearBuilt"]), int(row["YrSold"])
        assert built <= int(row["YearRemodAdd"]) <= sold
        assert row["GarageYrBlt"] == "NA" or built <= int(row["GarageYrBlt"]) <= sold
        assert row["HouseStyle"] != "1Story" or row["2ndFlrSF"] == "0"
        assert (row["BldgType"] == "Duplex") == (row["MSSubClass"] == "90")


def test_shares_come_out_as_declared(plan: Plan, rows: list[Row]) -> None:
    checked = 0
    for name, rule in plan["columns"].items():
        if rule.get("hidden") or "values" not in rule:
            continue
        counts = Counter(row[name] for row in rows)
        assert set(counts) <= {str(value) for value in rule["values"]}
        for value, share in rule["values"].items():
            # Five standard deviations of a binomial count, and one row more for the rarest values.
            margin = 5 * math.sqrt(len(rows) * share * (1 - share)) + 1
            assert counts[str(value)] == pytest.approx(len(rows) * share, abs=margin), (name, value)
            checked += 1
    assert checked > 100


def test_zeros_and_missing_come_out_as_declared(rows: list[Row]) -> None:
    for name, value, share in [
        ("LotFrontage", "NA", 0.167),
        ("WoodDeckSF", "0", 0.522),
        ("OpenPorchSF", "0", 0.445),
        ("ScreenPorch", "0", 0.912),
    ]:
        found = statistics.fmean(row[name] == value for row in rows)
        assert found == pytest.approx(share, abs=0.04), name


def test_prices_are_plausible(train: list[Row]) -> None:
    prices = [int(row["SalePrice"]) for row in train]
    assert 150_000 < statistics.median(prices) < 176_000
    assert 34_900 <= min(prices) < 60_000
    assert 500_000 < max(prices) <= 755_000
    assert 0.37 < statistics.stdev(map(math.log, prices)) < 0.43
    for name, least in [("OverallQual", 0.6), ("GrLivArea", 0.5), ("YearBuilt", 0.3)]:
        assert statistics.correlation([int(row[name]) for row in train], prices) > least, name


ROWS = 4000


def describe(columns: str, factors: str = "[]", rows: int = ROWS) -> str:
    return f"seed: 5\nfactors: {factors}\nfiles: {{all.csv: {{rows: {rows}}}}}\ncolumns:\n{columns}"


def sample(tmp_path: Path, text: str) -> dict[str, list[str]]:
    description = tmp_path / "description.yaml"
    description.write_text(text, encoding="utf-8")
    write_sample(description, tmp_path)
    rows = read(tmp_path / "all.csv")
    return {name: [row[name] for row in rows] for name in rows[0]}


def floats(values: list[str]) -> list[float]:
    return [float(value) for value in values]


def test_serial_counts_through_the_files(tmp_path: Path) -> None:
    text = """
seed: 1
files: {a.csv: {rows: 2}, b.csv: {rows: 3, without: [kind]}}
columns:
  number: {serial: 8}
  kind: {values: {only: 1.0}}
"""
    description = tmp_path / "description.yaml"
    description.write_text(text, encoding="utf-8")
    write_sample(description, tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == b"number,kind\n8,only\n9,only\n"
    assert (tmp_path / "b.csv").read_bytes() == b"number\n10\n11\n12\n"


def test_even_and_cycle_go_by_the_row(tmp_path: Path) -> None:
    columns = "  t: {even: [0, 1]}\n  kind: {cycle: [a, b]}"
    table = sample(tmp_path, describe(columns, rows=5))
    assert table == {"t": ["0", "0.25", "0.5", "0.75", "1"], "kind": ["a", "b", "a", "b", "a"]}


def test_the_truth_of_straight_lines_of_written_columns_is_kept(tmp_path: Path) -> None:
    columns = """
  x: {sum: [], noise: 1}
  secret: {hidden: true, sum: [], noise: 1}
  y: {sum: [{of: x, weight: 2.5}], base: 5.2, noise: 0.1}
  curved: {sum: [{product: [x, x]}]}
  bent: {sum: [{of: x}], exponential: true}
  unknown: {sum: [{of: secret}]}
"""
    sample(tmp_path, describe(columns, rows=3))
    assert json.loads((tmp_path / "truth.json").read_text()) == {"y": {"x": 2.5, "bias": 5.2}}


def test_values_have_their_shares_and_follow_factors(tmp_path: Path) -> None:
    columns = """
  first: {values: {low: 0.2, high: 0.8}, follow: {size: 1.0}}
  second: {values: {1: 0.2, 2: 0.8}, follow: {size: 1.0}}
  third: {values: {low: 0.2, high: 0.8}, follow: {size: -1.0}}
"""
    table = sample(tmp_path, describe(columns, factors="[size]"))
    assert table["first"].count("low") / ROWS == pytest.approx(0.2, abs=0.03)
    assert table["second"] == [{"low": "1", "high": "2"}[value] for value in table["first"]]
    assert ("low", "low") not in set(zip(table["first"], table["third"], strict=True))
    assert table["third"].count("low") / ROWS == pytest.approx(0.2, abs=0.03)


def test_quantiles_have_their_range_median_zeros_and_rounding(tmp_path: Path) -> None:
    columns = "  area: {zeros: 0.4, quantiles: {0: 10, 0.5: 20, 1: 100}, round: 5}"
    area = floats(sample(tmp_path, describe(columns))["area"])
    positive = [number for number in area if number]
    assert area.count(0) / ROWS == pytest.approx(0.4, abs=0.04)
    assert (min(positive), max(positive)) == (10, 100)
    assert statistics.median(positive) == pytest.approx(20, abs=5)
    assert {number % 5 for number in area} == {0}


def test_sum_adds_weighted_terms(tmp_path: Path) -> None:
    columns = """
  a: {sum: [], base: 3}
  b: {sum: [], base: 4}
  kind: {values: {x: 1.0}}
  of: {sum: [{of: a, weight: 2}, {of: b, weight: -1}], base: 0.5}
  log: {sum: [{log: a}]}
  product: {sum: [{product: [a, b, b], weight: 0.5}]}
  saturating: {sum: [{saturating: a, half: 9}]}
  sin: {sum: [{sin: a}]}
  cos: {sum: [{cos: a, weight: 2}]}
  sign: {sum: [{sign: of}, {of: a, weight: -1}, {log: a, weight: 0}]}
  lookup: {sum: [{lookup: kind, table: {x: 7, y: 1}}, {lookup: a, table: {4: 1}}]}
  exponential: {sum: [{of: a}], exponential: true, range: [0, 20]}
  rounded: {sum: [{of: a}], base: 0.6, round: 1}
  limited: {sum: [{of: a}], range: [5, 6]}
"""
    table = sample(tmp_path, describe(columns, rows=1))
    found = {name: values[0] for name, values in table.items()}
    assert found["of"] == "2.5"
    assert float(found["log"]) == pytest.approx(math.log(3), abs=1e-8)
    assert found["product"] == "24"
    assert found["saturating"] == "0.25"
    assert [float(found["sin"]), float(found["cos"])] == pytest.approx([math.sin(3), 2 * math.cos(3)])
    assert found["sign"] == "-2"
    assert found["lookup"] == "7"
    assert found["exponential"] == "20"
    assert found["rounded"] == "4"
    assert found["limited"] == "5"


def test_sum_has_noise_of_its_own(tmp_path: Path) -> None:
    columns = """
  a: {sum: [], base: 10, noise: 2}
  b: {sum: [{of: a}], noise: 1}
"""
    table = sample(tmp_path, describe(columns))
    a, b = floats(table["a"]), floats(table["b"])
    own = [later - earlier for earlier, later in zip(a, b, strict=True)]
    assert statistics.fmean(a) == pytest.approx(10, abs=0.15)
    assert statistics.stdev(a) == pytest.approx(2, abs=0.1)
    assert statistics.stdev(own) == pytest.approx(1, abs=0.05)
    assert statistics.correlation(a, own) == pytest.approx(0, abs=0.07)


def test_by_picks_the_case_of_an_earlier_column(tmp_path: Path) -> None:
    columns = """
  garage: {values: {NA: 0.3, in: 0.3, out: 0.4}}
  cars:
    by: garage
    cases: {NA: 0, in: {values: {1: 0.5, 2: 0.5}}, else: {sum: [], base: 3}}
  quality: {by: cars, cases: {0: NA, 3: good, else: poor}}
  year: {by: garage, cases: {NA: NA, else: 1990}}
  doubled: {sum: [{of: year, weight: 2}]}
"""
    table = sample(tmp_path, describe(columns))
    assert set(zip(*table.values(), strict=True)) == {
        ("NA", "0", "NA", "NA", "NA"),
        ("in", "1", "poor", "1990", "3980"),
        ("in", "2", "poor", "1990", "3980"),
        ("out", "3", "good", "1990", "3980"),
    }


def test_hidden_columns_are_used_but_not_written(tmp_path: Path) -> None:
    columns = "  unseen: {hidden: true, serial: 5}\n  seen: {sum: [{of: unseen}]}"
    assert sample(tmp_path, describe(columns, rows=2)) == {"seen": ["5", "6"]}


def test_missing_blanks_a_share_at_random_and_keeps_the_other_values(tmp_path: Path) -> None:
    full = sample(tmp_path, describe("  a: {quantiles: {0: 1, 1: 9}}"))["a"]
    holed = sample(tmp_path, describe("  a: {quantiles: {0: 1, 1: 9}, missing: 0.25}"))["a"]
    assert holed.count("NA") / ROWS == pytest.approx(0.25, abs=0.04)
    assert all(hole in ("NA", value) for hole, value in zip(holed, full, strict=True))
    kept = [float(value) for value in holed if value != "NA"]
    assert statistics.fmean(kept) == pytest.approx(statistics.fmean(floats(full)), abs=0.15)


def test_a_change_to_one_column_leaves_the_others_alone(tmp_path: Path) -> None:
    before = sample(tmp_path, describe("  a: {values: {x: 0.5, y: 0.5}}\n  b: {sum: [], noise: 1}"))
    after = sample(tmp_path, describe("  new: {serial: 1}\n  b: {sum: [], noise: 1}"))
    assert after["b"] == before["b"]


def test_another_seed_gives_another_table(tmp_path: Path) -> None:
    text = describe("  a: {sum: [], noise: 1}")
    assert sample(tmp_path, text) != sample(tmp_path, text.replace("seed: 5", "seed: 6"))


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("{uniform: [0, 1]}", "expected one of"),
        ("{serial: 1, values: {x: 1.0}}", "expected one of"),
        ("{quantiles: {0: 1, 1: 2}, roound: 1}", "roound"),
        ("{by: first}", "cases"),
        ("{values: {x: 0.5, y: 0.49}}", "0.99"),
        ("{values: {x: 1.5, y: -0.5}}", "negative"),
        ("{values: {x: 0.5, y: 0.500002}}", "1.000002"),
        ("{values: [x, y]}", "list"),
        ("{values: {x: 1.0}, follow: {luck: 0.5}}", "luck"),
        ("{values: {x: 1.0}, follow: {size: 0.9, age: 0.5}}", "more than 1"),
        ("{quantiles: {0: 1, 0.9: 2}}", "rise from 0 to 1"),
        ("{sum: [{of: unknown}]}", "unknown"),
        ("{sum: [{of: later}]}", "later"),
        ("{sum: [{of: wrong}]}", "wrong"),
        ("{sum: [{product: [first, later]}]}", "later"),
        ("{sum: [{squared: first}]}", "expected one of"),
        ("{sum: [{saturating: first}]}", "half"),
        ("{by: later, cases: {else: 1}}", "later"),
        ("{by: first, cases: {1: one}}", "no case for first = 2"),
        ("{by: first, cases: {else: {uniform: [0, 1]}}}", "expected one of"),
        ("text", "indices|mapping"),
    ],
)
def test_mistakes_name_the_file_and_the_column(tmp_path: Path, rule: str, part: str) -> None:
    columns = f"  first: {{serial: 1}}\n  wrong: {rule}\n  later: {{serial: 1}}"
    with pytest.raises(ValueError, match=rf"description\.yaml: column wrong: .*({part})"):
        sample(tmp_path, describe(columns, factors="[size, age]", rows=3))
    assert not (tmp_path / "all.csv").exists()


def test_shares_may_differ_from_1_by_rounding(tmp_path: Path) -> None:
    columns = "  a: {values: {x: 0.5, y: 0.5000005}}"
    assert set(sample(tmp_path, describe(columns))["a"]) == {"x", "y"}


def test_leaving_out_an_unknown_column_is_a_mistake(tmp_path: Path) -> None:
    text = describe("  a: {serial: 1}").replace("rows: 4000", "rows: 2, without: [b]")
    with pytest.raises(ValueError, match=r"description\.yaml: all\.csv .* column b"):
        sample(tmp_path, text)
