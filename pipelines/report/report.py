"""report.html: one page of all results, the last stage of the pipeline."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipelines.parameters import read_parameters
from pipelines.report.page import (
    Document,
    Picture,
    Table,
    read_documents,
    read_pictures,
    render,
    settings_table,
)
from pipelines.report.scores import (
    Expectation,
    Metrics,
    Score,
    metric_names,
    read_expectations,
    score_of,
    shown_metric,
    shown_number,
    value_of,
)
from src.core.atomic import file_written_whole
from src.core.documents import read_json
from src.core.errors import ConfigurationError
from src.core.paths import CONFIGS, MANIFEST, MODELS, RAW, REPORTS, SOURCE
from src.reporting.history import best_row, read_history
from src.reporting.noise import LOSSES, mean_difference

REPORT = Path("report.html")


@dataclass(frozen=True)
class Model:
    """The part of the page about a model.

    `beside` has the other models of its task.
    """

    name: str
    task: str
    kind: str
    about: str
    source: str
    score: Score
    parameters: str
    scores: Table
    others: Table
    beside: Table
    pictures: list[Picture]
    documents: list[Document]
    preparation: Table
    training: Table
    configuration: str
    network: str
    files: Table
    digests: Table


@dataclass(frozen=True)
class Study:
    """The part of the page about a study."""

    name: str
    title: str
    task: str
    metric: str
    pictures: list[Picture]
    documents: list[Document]
    settings: str


def report() -> None:
    """Write report.html from the results of the models and studies in params.yaml that have been run.

    A model that is not evaluated yet has a row with the command that does it.

    Raises:
        ConfigurationError: no model is trained, or a part of the results is missing.
    """
    parameters = read_parameters()
    known, studied = parameters.get("models") or {}, parameters.get("studies") or {}
    trained = [name for name in known if (MODELS / name).is_dir()]
    evaluated = [name for name in trained if _is_evaluated(name)]
    absent = [name for name in known if name not in evaluated]
    absent_studies = [name for name in studied if not (REPORTS / "studies" / name / "tables").is_dir()]
    if known and not trained:  # a project without a task yet has an empty page
        raise ConfigurationError(f"{MODELS} has no trained model; run: dvc repro evaluate")
    expected = read_expectations()
    tasks = {name: _task_of(name) for name in evaluated}
    models = [
        _model(name, [other for other in tasks if tasks[other] == task], parameters, expected)
        for name, task in tasks.items()
    ]
    studies = [
        _study(name, section, parameters["tasks"])
        for name, section in studied.items()
        if name not in absent_studies
    ]
    page = render(models=models, studies=studies, absent=absent)
    with file_written_whole(REPORT) as file:
        file.write(page)
    if absent or absent_studies:
        print(f"not run, so without results on the page: {', '.join([*absent, *absent_studies])}")
    print(f"the results of {len(models)} models and {len(studies)} studies: {REPORT}")


def _is_evaluated(model: str) -> bool:
    """Whether the stage has run here; metrics.json alone comes from git."""
    return any((REPORTS / model / part).is_dir() for part in ("plots", "tables"))


def _task_of(model: str) -> str:
    return str(read_json(MODELS / model / MANIFEST, f"evaluate@{model}")["task"])


def _model(
    name: str, models: list[str], parameters: dict[str, Any], expected: dict[tuple[str, str], Expectation]
) -> Model:
    stage, bundle, reports = f"evaluate@{name}", MODELS / name, REPORTS / name
    task = _task_of(name)
    kind = parameters["tasks"].get(task, "")
    metrics: Metrics = read_json(reports / "metrics.json", stage)
    origin = (
        read_json(RAW / task / SOURCE, stage) if kind else {"source": parameters["models"][name], "files": {}}
    )
    manifest = read_json(bundle / MANIFEST, stage)
    given = _there(CONFIGS / f"{name}.yaml", stage).read_text(encoding="utf-8")
    network = _there(bundle / "summary.txt", stage).read_text(encoding="utf-8")
    weights = re.search(r"^(\S.*?) +Total params", network, flags=re.MULTILINE)
    plots, tables = _there(reports / "plots", stage), _there(reports / "tables", stage)
    digests = [
        ["the prepared data", manifest["prepared"] or ""],
        ["the trained weights", manifest["tensors"]],
        ["requirements.lock", manifest["requirements.lock"] or ""],
    ]
    score = score_of(metrics, expected.get((name, origin["source"])))
    return Model(
        name=name,
        task=task,
        kind=kind,
        about=_first_sentence(given),
        source=origin["source"],
        score=score,
        parameters=weights[1].replace(" ", "\u202f") if weights else "",
        scores=_scores_table(metrics),
        others=_others_table(metrics),
        beside=_beside_table(name, models, score.metric),
        pictures=read_pictures(plots, kind, _facts(name, plots / "learning_curve.csv")),
        documents=read_documents(tables, kind),
        preparation=settings_table((parameters.get(task) or {}).get("prepare") or {}),
        training=settings_table(yaml.safe_load(given)),
        configuration=_there(bundle / "config.yaml", stage).read_text(encoding="utf-8"),
        network=network,
        files=_files_table(origin["files"]),
        digests=Table(["what", "sha256"], digests),
    )


def _beside_table(name: str, models: list[str], metric: str) -> Table:
    """A row for each model of the task: its metric, and the difference of its mean loss to that of `name`."""
    losses = _losses(name)
    rows = []
    for model in models:
        value = value_of(read_json(REPORTS / model / "metrics.json", f"evaluate@{model}"), metric)
        found, difference = _losses(model), ""
        same = _prepared(model) == _prepared(name)
        # models of words and of documents have other rows
        same = same and losses is not None and found is not None and found.shape == losses.shape
        if model != name and losses is not None and found is not None and same:
            mean, half = mean_difference(found, losses)
            difference = f"{mean:+.4g} \u00b1 {half:.2g}"
        loss = "" if found is None else shown_number(float(found.mean()))
        rows.append([model, "" if math.isnan(value) else shown_number(value), loss, difference])
    headings = [shown_metric(metric), "mean loss of a test row", f"difference to {name}, 95 % interval"]
    return Table(["model", *headings], rows if len(models) > 1 else [])


def _losses(model: str) -> NDArray[Any] | None:
    path = REPORTS / model / "tables" / LOSSES
    return np.load(path, allow_pickle=False) if path.is_file() else None


def _prepared(model: str) -> Any:
    """The digest of the data of a model; models of other data are not compared row by row."""
    return read_json(MODELS / model / MANIFEST, f"evaluate@{model}")["prepared"]


def _study(name: str, section: dict[str, Any], tasks: dict[str, str]) -> Study:
    stage, folder = f"study@{name}", REPORTS / "studies" / name
    title, kind = section.get("title") or name, tasks.get(section["task"], "")
    return Study(
        name=name,
        title=title,
        task=section["task"],
        metric=shown_metric(section["metric"].removeprefix("test/")),
        pictures=read_pictures(_there(folder / "plots", stage), kind, {"name": title}),
        documents=read_documents(_there(folder / "tables", stage), kind),
        settings=yaml.safe_dump(section, sort_keys=False, allow_unicode=True),
    )


def _there(path: Path, stage: str) -> Path:
    if not path.exists():
        raise ConfigurationError(f"{path} is not here; run: dvc repro {stage}")
    return path


def _first_sentence(configuration: str) -> str:
    """The first sentence of the comment that a configuration begins with."""
    comment = re.match(r"(# .*\n)*", configuration)
    assert comment
    words = " ".join(line.removeprefix("# ") for line in comment[0].splitlines())
    return re.split(r"(?<=\.)\s", words, maxsplit=1)[0]


def _facts(name: str, history: Path) -> dict[str, Any]:
    """The values in the captions: the model, its epochs, the best one and its validation loss.

    Of an ordinary module that logs no such loss, the last epoch.
    """
    rows = read_history(history)
    loss = next((key for key in rows[0] if "val" in key and key.endswith("loss")), None)
    best = best_row(rows, loss) if loss else rows[-1]
    lowest = shown_number(best[loss]) if loss else "not logged"
    return {"name": name, "epochs": len(rows), "best": int(best["epoch"]), "lowest": lowest}


def _scores_table(metrics: Metrics) -> Table:
    """A row for the test rows, the validation rows and each baseline, a column for each test metric.

    Those of each of several targets, such as `test/height/rmse`, have a table of their own.
    """
    names = [name for name in metric_names(metrics) if "/" not in name]
    prefixes = {"/".join(key.split("/")[:2]) for key in metrics if key.startswith("baseline/")}
    titles = {"test": "model, test rows", "validation": "model, validation rows"}
    titles |= {prefix: prefix.removeprefix("baseline/").replace("_", " ") for prefix in sorted(prefixes)}
    rows = []
    for prefix, title in titles.items():
        found = [metrics.get(f"{prefix}/{name}") for name in names]
        rows.append([title, *("" if value is None else shown_number(value) for value in found)])
    return Table(["", *map(shown_metric, names)], rows)


def _others_table(metrics: Metrics) -> Table:
    kinds = ("test/", "validation/", "baseline/")
    others = {name: value for name, value in metrics.items() if not name.startswith(kinds)}
    rows = [[name.replace("_", " "), shown_number(others[name])] for name in sorted(others)]
    return Table(["metric", "value"], rows)


def _files_table(files: dict[str, dict[str, Any]]) -> Table:
    rows = [
        [name, str(entry.get("rows", "")), str(entry["bytes"]), entry["sha256"]]
        for name, entry in files.items()
    ]
    return Table(["file", "rows", "bytes", "sha256"], rows)
