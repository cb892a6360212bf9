"""A task has several models: one of the built-in kind, and an own module on the same prepared data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TASK = "perceptron"
pytestmark = [pytest.mark.slow, pytest.mark.tasks(TASK)]

MODULE = '''"""A module that knows nothing of this project."""

import lightning as L
from torch import nn, optim
from torch.nn.functional import cross_entropy


class Net(L.LightningModule):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    def training_step(self, batch, batch_idx):
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", cross_entropy(self.net(batch[0]), batch[1]))

    def test_step(self, batch, batch_idx):
        self.log("test/accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return optim.Adam(self.parameters(), lr=0.1)
'''
OTHER = f"""\
name: mine
task: {TASK}
trainer: {{max_epochs: 3}}
model: {{class_path: src.mine.model.Net}}
data: {{class_path: src.tabular.data.TabularData}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one task and two models of it."""
    folder = tmp_path_factory.mktemp("models")
    for part in ("src", "pipelines", "data/samples"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "requirements.lock", "data/expected_scores.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    kept = {
        "tasks": {TASK: parameters["tasks"][TASK]},
        "models": dict.fromkeys([TASK, "mine"], f"data/prepared/{TASK}"),
        "studies": {},
        TASK: parameters[TASK],
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    (folder / "configs").mkdir()
    shutil.copyfile(ROOT / "configs" / f"{TASK}.yaml", folder / "configs" / f"{TASK}.yaml")
    (folder / "configs" / "mine.yaml").write_text(OTHER)
    (folder / "src" / "mine").mkdir()
    (folder / "src" / "mine" / "__init__.py").write_text('"""Mine."""\n')
    (folder / "src" / "mine" / "model.py").write_text(MODULE)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n no_scm = true\n analytics = false\n")
    return folder


def test_models_of_a_task_are_stages_that_run_again_when_their_code_changes(
    project: Path, python: Callable[..., Any]
) -> None:
    def repro() -> list[str]:
        done = python("-m", "dvc", "repro", cwd=project, DVC_SITE_CACHE_DIR=str(project / ".dvc/site"))
        assert done.returncode == 0, done.stdout
        return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]

    first = repro()
    assert first.count(f"prepare@{TASK}") == 1
    assert {f"train@{TASK}", "train@mine", f"evaluate@{TASK}", "evaluate@mine"} <= {*first}
    manifest = json.loads((project / "models/mine/manifest.json").read_text())
    assert manifest["task"] == TASK
    assert json.loads((project / "reports/mine/metrics.json").read_text())["test/accuracy"] > 0.5
    page = (project / "report.html").read_text(encoding="utf-8")
    assert f"The models of {TASK}, on the same test rows" in page

    module = project / "src/mine/model.py"
    module.write_text(MODULE.replace('"""A module that', '"""The module that'))
    assert repro() == ["code"]
    module.write_text(MODULE.replace("Tanh", "ReLU"))
    assert repro() == ["code", "train@mine", "evaluate@mine", "report"]
    assert json.loads((project / "models/mine/manifest.json").read_text()) != manifest


@pytest.mark.parametrize(
    ("stage", "data", "message"),
    [
        (TASK, f"data/prepared/{TASK}", "name: found mine, but the stage"),
        (
            "mine",
            "data/mine",
            f"models.mine: found data/mine, but its configuration reads data/prepared/{TASK}",
        ),
    ],
)
def test_a_stage_refuses_another_model_and_other_data(
    project: Path, python: Callable[..., Any], tmp_path: Path, stage: str, data: str, message: str
) -> None:
    parameters = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    parameters["models"]["mine"] = data
    for name in ("src", "configs"):
        (tmp_path / name).symlink_to(project / name)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    arguments = ("-m", "src.cli", "fit", "--config", "configs/mine.yaml")
    done = python(*arguments, cwd=tmp_path, DVC_STAGE=f"train@{stage}")
    assert done.returncode == 2
    assert message in done.stdout
