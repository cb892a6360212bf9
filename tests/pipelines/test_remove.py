"""A task, model, study or kind goes with all that belongs to it, and nothing else changes."""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.remove import main, removal, remove
from src.core.errors import ConfigurationError
from tests.conftest import git
from tests.support import contents, ended

PARAMETERS = """tasks:
  moon: tabular
  sun: tabular
  sky: images
models:
  moon: data/prepared/moon
  moon_deep: data/prepared/moon
  sun: data/prepared/sun
  sky: data/prepared/sky

moon: {source: my_moon/, files: {}, prepare: {}}

# sun.csv: 9 rows
sun:
  source: my_sun/
  files: {}

sky: {source: sample, files: {}, prepare: {}}

studies:
  phases: {task: moon}
  eclipses: {task: sun}
more_studies:
  tides: {task: moon}
"""
CONFIGS = {"moon": "moon", "moon_deep": "moon", "moon_idle": "moon", "sun": "sun", "sky": "sky"}
STAGES = (
    "fetch@moon",
    "prepare@moon",
    "train@moon",
    "train@moon_deep",
    "study@phases",
    "fetch@sun",
    "report",
)
PLOTS = (("moon", "&both {x: 1, y: 2}"), ("moon_deep", "*both"), ("sun", "*both"), ("sky", "*both"))
FOLDERS = (
    *("my_moon", "data/raw/moon", "data/prepared/moon", "models/moon", "models/moon_deep", "runs/moon/1"),
    *("reports/moon", "reports/studies/phases", "data/raw/sun", "models/sun", "runs/moonlight/1"),
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tasks, with outputs of the stages."""
    monkeypatch.chdir(tmp_path)
    write("params.yaml", PARAMETERS)
    for name, task in CONFIGS.items():
        write(f"configs/{name}.yaml", f"task: {task}\n")
    write("data/expected_scores.yaml", "# scores\nmoon_deep: {a: 1}\nsun: {a: 1}\n")
    stages = "".join(f"  {stage}:\n    cmd: {stage}\n    deps:\n    - path: x\n" for stage in STAGES)
    write("dvc.lock", f"schema: '2.0'\nstages:\n{stages}")
    plots = "".join(f"  - reports/{model}/a.csv: {axes}\n" for model, axes in PLOTS)
    write("dvc.yaml", f"stages: {{}}\nplots:\n{plots}")
    for folder in FOLDERS:
        name = {"data/raw": "SOURCE.json", "reports": "metrics.json"}.get(
            str(Path(folder).parent), "manifest.json"
        )
        write(f"{folder}/{name}", '{"files": {}}')
    Path("reports/studies/phases/manifest.json").rename("reports/studies/phases/metrics.json")
    write("runs/studies/phases.txt", "")
    return tmp_path


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def test_a_task_goes_with_its_models_and_studies(capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(Path())
    remove("task", "moon")
    assert contents(Path()) == before
    listed = capsys.readouterr().out.splitlines()
    assert listed[-1] == "nothing was removed; to remove: python -m pipelines.remove task moon --yes"
    remove("task", "moon", yes=True)
    assert capsys.readouterr().out.splitlines()[1 : len(listed) - 1] == listed[1:-1]
    gone = {
        *(f"configs/{name}.yaml" for name in ("moon", "moon_deep", "moon_idle")),
        *("data/raw/moon/SOURCE.json", "data/prepared/moon/manifest.json", "models/moon/manifest.json"),
        *("models/moon_deep/manifest.json", "reports/moon/metrics.json", "runs/moon/1/manifest.json"),
        *("reports/studies/phases/metrics.json", "runs/studies/phases.txt"),
    }
    after = contents(Path())
    assert {*before} - {*after} == gone
    changed = {path for path in after if after[path] != before[path]}
    assert changed == {"params.yaml", "dvc.lock", "dvc.yaml", "data/expected_scores.yaml"}
    lock = yaml.safe_load(after["dvc.lock"])
    assert list(lock["stages"]) == ["fetch@sun", "report"]
    assert after["dvc.yaml"].decode() == (
        "stages: {}\nplots:\n  - reports/sun/a.csv: &both {x: 1, y: 2}\n  - reports/sky/a.csv: *both\n"
    )
    assert after["data/expected_scores.yaml"].decode() == "# scores\nsun: {a: 1}\n"
    assert after["params.yaml"].decode() == (
        "tasks:\n  sun: tabular\n  sky: images\n"
        "models:\n  sun: data/prepared/sun\n  sky: data/prepared/sky\n\n"
        "# sun.csv: 9 rows\nsun:\n  source: my_sun/\n  files: {}\n\n"
        "sky: {source: sample, files: {}, prepare: {}}\n\n"
        "studies:\n  eclipses: {task: sun}\nmore_studies: {}\n"
    )


def test_a_model_and_a_study_go_alone() -> None:
    for thing, name in (("model", "moon_deep"), ("model", "moon_idle"), ("study", "tides")):
        remove(thing, name, yes=True)
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    assert list(parameters["models"]) == ["moon", "sun", "sky"]
    assert parameters["more_studies"] == {}
    assert "phases" in parameters["studies"]
    assert not Path("models/moon_deep").exists()
    assert Path("models/moon").exists()
    assert Path("data/prepared/moon").exists()
    stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert list(stages) == [stage for stage in STAGES if stage != "train@moon_deep"]


def test_the_last_plot_leaves_an_empty_list() -> None:
    for task in ("moon", "sun", "sky"):
        remove("task", task, yes=True)
    assert Path("dvc.yaml").read_text() == "stages: {}\nplots: []\n"
    assert yaml.safe_load(Path("params.yaml").read_text()) == {
        name: {} for name in ("tasks", "models", "studies", "more_studies")
    }


@pytest.mark.kinds("images")
def test_a_kind_goes_with_all_that_imports_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("src/images/model.py", "")
    write("tests/images/test_model.py", "")
    write("tests/test_all.py", "from src.images.model import Model\n")
    write("tests/test_other.py", "from src.tabular.model import Model\n")
    write("data/samples/sky.yaml", "")
    write("data/samples/sun/sun.csv", "")
    write("benchmarks/pictures.py", "from src.images.model import Model\n")
    write("benchmarks/scale.py", "from benchmarks.pictures import measured\n")
    write("benchmarks/tables.py", "from benchmarks.pictures_of_tables import measured\n")
    write("Makefile", "bench:\n\tpython -m benchmarks.pictures\n\tpython -m benchmarks.tables\n")
    remove("kind", "images", yes=True)
    assert "Makefile: benchmarks.pictures\n" in capsys.readouterr().out
    left = contents(Path())
    assert left["Makefile"] == b"bench:\n\tpython -m benchmarks.tables\n"
    assert [path for path in left if path.startswith("benchmarks/")] == ["benchmarks/tables.py"]
    assert not [path for path in left if "sky" in path or "images" in path or "test_all" in path]
    assert {"tests/test_other.py", "data/samples/sun/sun.csv", "configs/sun.yaml"} <= {*left}
    assert b"sky" not in left["params.yaml"]


@pytest.mark.parametrize(
    ("thing", "name", "told"),
    [
        ("task", "mars", "there is no task 'mars'; there are: moon, sun, sky"),
        ("model", "mars", "there is no model 'mars'"),
        ("study", "mars", "there is no study 'mars'; there are: phases, eclipses, tides"),
        ("kind", "core", "there is no kind of data 'core'"),
        ("model", "moon", "it has the name of its task"),
    ],
)
def test_what_cannot_be_removed_is_told(thing: str, name: str, told: str) -> None:
    before = contents(Path())
    with pytest.raises(ConfigurationError, match=told):
        remove(thing, name, yes=True)
    assert contents(Path()) == before


@pytest.mark.parametrize("folder", ["data/raw/moon", "data/prepared/moon", "models/moon", "reports/moon"])
def test_a_folder_with_a_file_of_the_user_stays_with_everything_else(folder: str) -> None:
    write(f"{folder}/mine.csv", "1")
    before = contents(Path())
    with pytest.raises(ConfigurationError, match=rf"{folder}/mine\.csv was not written by this project"):
        remove("task", "moon", yes=True)
    assert contents(Path()) == before


def test_what_a_link_leads_to_stays() -> None:
    shutil.rmtree("data/raw/moon")
    Path("data/raw/moon").symlink_to(Path("my_moon").absolute())
    remove("task", "moon", yes=True)
    assert not Path("data/raw/moon").is_symlink()
    assert Path("my_moon/manifest.json").is_file()


@pytest.mark.parametrize(
    "parameters",
    [
        "tasks: {moon: tabular, sun: tabular}\nmoon: {}\nsun: {}\n",
        "tasks:\n  moon: tabular\n  sun: tabular\nmoon: &one {}\nsun: *one\n",
    ],
)
def test_parameters_that_cannot_be_edited_are_told(parameters: str) -> None:
    write("params.yaml", parameters)
    before = contents(Path())
    with pytest.raises(ConfigurationError, match="remove them by hand"):
        remove("task", "moon", yes=True)
    assert contents(Path()) == before


def test_an_interrupted_removal_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.remove._without_stages", stop)
        with pytest.raises(KeyboardInterrupt):
            remove("task", "moon", yes=True)
    assert not Path("configs/moon.yaml").exists()
    remove("task", "moon", yes=True)
    assert "moon" not in yaml.safe_load(Path("params.yaml").read_text())["models"]
    assert "moon_deep" not in yaml.safe_load(Path("params.yaml").read_text())["models"]
    assert b"moon" not in Path("dvc.lock").read_bytes()


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["remove", "study", "eclipses", "--yes"])
    assert ended(main) == 0
    assert "  params.yaml: studies.eclipses\n" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["remove", "study", "eclipses"])
    assert ended(main) == 2


@pytest.mark.slow
@pytest.mark.tasks("bowl", "perceptron")
def test_nothing_of_the_others_runs_after_a_removal(
    clone: Path, tmp_path: Path, python: Callable[..., Any]
) -> None:
    project = tmp_path / "small"
    git(tmp_path, "clone", "--quiet", str(clone), str(project))  # without what other tests have run in it
    with contextlib.chdir(project):
        parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        others = {*parameters["tasks"]} - {"bowl", "perceptron"}
        removal(tasks=others, studies=parameters["studies"]).apply()

    def repro() -> list[str]:
        done = python("-m", "dvc", "repro", cwd=project)
        assert done.returncode == 0, done.stdout
        return [line for line in done.stdout.splitlines() if line.startswith("Running stage")]

    assert len(repro()) == 10
    with contextlib.chdir(project):
        remove("task", "perceptron", yes=True)
    assert repro() == ["Running stage 'code':", "Running stage 'report':"]
    assert "perceptron" not in json.dumps(contents(project / "configs", project / "reports"), default=str)
    assert [path.name for path in (project / "models").iterdir()] == ["bowl"]
