import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR

from src.bundle.bundle import Bundle, weights_of, write_bundle
from src.core.errors import DataError, NonFiniteError
from src.descent import evaluate as evaluation
from src.descent.data import DescentData
from src.descent.evaluate import OPTIMIZERS, SCHEDULES, Setting, _trained_path, _window, descend, evaluate
from src.descent.model import Descent
from src.descent.predict import write_heights
from src.descent.prepare import Preparation, prepare
from src.descent.preprocessing import Preprocessing
from src.descent.surfaces import SURFACES
from src.training.checkpoint import ResumableCheckpoint

START = Preprocessing([-7.0, 2.0])


@pytest.mark.parametrize(
    ("name", "point", "height", "slope"),
    [
        ("bowl", (-7, 2), 6.45, [-0.7, 4]),
        ("rosenbrock", (-1, 2), 104, [396, 200]),
        ("saddle", (3, 2), 5, [6, -4]),
        ("beale", (1, 0), 4.453125, [-6.75, 1]),
    ],
)
def test_heights_and_slopes(name: str, point: Any, height: float, slope: list[float]) -> None:
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    found = SURFACES[name].height(x)
    found.backward()
    assert found.item() == pytest.approx(height)
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx(slope)


@pytest.mark.parametrize("name", [name for name, surface in SURFACES.items() if surface.minimum is not None])
def test_surfaces_are_higher_around_their_minimum(name: str) -> None:
    surface = SURFACES[name]
    angles = torch.linspace(0, 6, 50, dtype=torch.float64)
    lowest = torch.tensor(surface.minimum, dtype=torch.float64)
    around = lowest + 0.01 * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert surface.height(lowest).item() == pytest.approx(0)
    assert (surface.height(around) > 0).all()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """The prepared sample."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "start.csv").write_text("x1,x2\n-7,2\n")
    prepare(tmp_path / "raw", tmp_path / "prepared", Preparation())
    return tmp_path / "prepared"


def test_the_start_is_prepared(prepared: Path) -> None:
    assert np.load(prepared / "start.npy").tolist() == [[-7, 2]]
    assert Preprocessing.load(prepared) == START
    assert (prepared / "preprocessing.json").read_text() == '{\n "start": [\n  -7.0,\n  2.0\n ]\n}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x1,x2\n1,2\n3,4\n", "2 points, expected 1"),
        ("x1,x2\n", "no rows below"),
        ("x1,y\n1,2\n", "column 'x2' is missing"),
        ("x1,x2\n1,left\n", "row 1, column 'x2': 'left', expected a finite number"),
        ("x1,x2\n1,inf\n", "row 1, column 'x2': 'inf', expected a finite number"),
        ("x1,x2\n1\n", "row 1, column 'x2': None, expected a finite number"),
        ("x1,x2\n1,5,2\n", "row 1 has more cells than the header"),
        ("x1,x2\n1,2é\n", "not a CSV file in UTF-8"),
        (None, "there is no such file"),
    ],
)
def test_an_unusable_start_is_reported_and_nothing_is_written(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "start.csv").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, tmp_path / "prepared", Preparation())
    assert not (tmp_path / "prepared").exists()


def fitted(prepared: Path, steps: int, **settings: Any) -> Descent:
    """A model trained for some steps; its history is written next to the prepared folder."""
    model = Descent(START, **settings)
    trainer = Trainer(
        max_epochs=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accelerator="cpu",
        callbacks=ResumableCheckpoint(prepared.parent, "validation/loss", "min", seconds=60),
    )
    trainer.fit(model, datamodule=DescentData(prepared))
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_equals_the_plain_loop(prepared: Path) -> None:
    model = fitted(prepared, 7, optimizer=OPTIMIZERS["momentum"].optimizer)
    assert [name for name, _ in model.named_parameters()] == ["x"]
    path, rates = descend(SURFACES["bowl"], START.start, OPTIMIZERS["momentum"]._replace(steps=7))
    assert (len(path), rates) == (8, [0.01] * 7)
    assert model.x.tolist() == path[-1].tolist()
    # two steps by hand: g = (-0.7, 4), then (-0.6993, 3.92)
    assert path[1].tolist() == pytest.approx([-7 + 0.007, 2 - 0.04])
    assert path[2].tolist() == pytest.approx([-6.993 + 0.9 * 0.007 + 0.006993, 1.96 - 0.9 * 0.04 - 0.0392])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_history_holds_the_whole_path(prepared: Path) -> None:
    # a step turns x2 into (1 - 2 lr) x2; the third one, at ten times the rate, increases the height
    setting = Setting(partial(SGD, lr=0.8), 3, partial(MultiStepLR, milestones=[2], gamma=10))
    model = fitted(prepared, 3, optimizer=setting.optimizer, lr_scheduler=setting.schedule)
    path, rates = descend(SURFACES["bowl"], START.start, setting)
    assert rates == pytest.approx([0.8, 0.8, 8])
    assert path[:, 1].tolist() == pytest.approx([2, -1.2, 0.72, -10.8])
    way, rate = _trained_path(prepared.parent / "history.csv")
    assert rate == 0.8
    assert way.tolist() == path.tolist()
    assert model.x.tolist() == path[2].tolist()  # the lowest point, not the last


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_diverging_descent_raises(prepared: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"validation/loss became inf in epoch \d+"):
        fitted(prepared, 100, optimizer=partial(SGD, lr=1e9))


def test_metrics_are_height_and_distance() -> None:
    metrics = Descent(START, surface="rosenbrock").metrics_of(torch.tensor([1.0, 2.0]))
    assert {name: value.item() for name, value in metrics.items()} == {"loss": 100, "distance": 1}
    assert list(Descent(START, surface="saddle").metrics_of(torch.tensor([1.0, 2.0]))) == ["loss"]
    assert Descent(START).trivial_metrics(torch.tensor([[-7.0, 2]]), torch.zeros(1, 2))["loss"] == (
        pytest.approx(6.45)
    )


def test_heights_of_raw_points_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.descent.points.POINTS_AT_ONCE", 2)
    raw, output = tmp_path / "points.csv", tmp_path / "new" / "heights.csv"
    raw.write_text("x1,x2\n0,0\n-7,2\n1,0.3333333333333\n")
    assert write_heights(Descent(START), START, raw, output) == 3
    text = "x1,x2,height\n0,0,0\n-7,2,6.45\n1,0.3333333333,0.1611111111\n"
    assert output.read_text() == text
    raw.write_text("x1,x2\n0,0\n-7,2\n1,high\n")
    with pytest.raises(DataError, match=r"row 3, column 'x2': 'high', expected a finite number"):
        write_heights(Descent(START), START, raw, output)
    assert [path.read_text() for path in output.parent.iterdir()] == [text]


@pytest.mark.parametrize(
    ("start", "end", "zoom"),
    [
        ([-7, 2], [0, 0], 1),
        ([-7, 2], [14, 0], 2),
        ([-7, 2], [15, 0], 1),
        ([-7, 2], [np.nan, np.nan], 1),
        ([-7, 3], [0, 6], 3),
        ([-7, 3], [0, 7], 1.5),
    ],
)
def test_plots_show_the_start_and_a_nearby_end(start: list[float], end: list[float], zoom: float) -> None:
    assert _window(SURFACES["bowl"], [np.array([start, [99, 99], end])]) == (7 * zoom, 2 * zoom)


def test_the_one_cycle_schedule_ends_at_the_last_step() -> None:
    _, rates = descend(SURFACES["bowl"], START.start, SCHEDULES["OneCycleLR"])
    assert max(rates) == pytest.approx(0.9)
    assert rates[-1] == min(rates) == pytest.approx(0.9 / 25 / 1e4)


@pytest.mark.parametrize("surface", ["bowl", "rosenbrock", "saddle"])
def test_the_report(prepared: Path, tmp_path: Path, surface: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # a report with all paths takes four seconds
    schedules = {name: SCHEDULES[name]._replace(steps=20) for name in ("StepLR", "MultiStepLR")}
    optimizers = OPTIMIZERS if surface == "bowl" else {"sgd": OPTIMIZERS["sgd"]}
    monkeypatch.setattr(evaluation, "SCHEDULES", schedules)
    monkeypatch.setattr(evaluation, "OPTIMIZERS", optimizers)
    history = "epoch,learning_rate,train/loss,train/x1,train/x2,validation/loss,validation/x1,validation/x2\n"
    history += "1,0.01,6.45,-7,2,6.3,-6.9,1.9\n2,0.01,6.3,-6.9,1.9,6.2,-6.8,1.8\n"
    settings = f"{{class_path: src.descent.model.Descent, init_args: {{surface: {surface}}}}}"
    model = Descent(START, surface=surface)
    bundle, folder = tmp_path / "bundle", tmp_path / "report"
    write_bundle(
        bundle, weights_of(model), "bowl", f"model: {settings}\n", prepared, {"history.csv": history}
    )
    folder.mkdir()
    evaluate(Bundle.open(bundle), prepared, folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test/loss"] == metrics["baseline/trivial/loss"] != 0
    assert ("baseline/sgd/loss" not in metrics) == (surface == "rosenbrock")
    table = (folder / "tables" / "optimizers.md").read_text()
    assert ("diverged" in table) == (surface == "rosenbrock")
    assert len(table.splitlines()) == 2 + 1 + len(optimizers)
    for name in ("path", "optimizers", "schedules", "learning_curve"):
        assert (folder / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if surface == "bowl":
        assert table.splitlines()[2] == "| trained | 0.01 | 0 | (-7, 2) | 6.45 | 7.28 |"
        assert table.splitlines()[3] == "| sgd | 0.01 | 500 | (-4.24, 8.2e-05) | 0.9009 | 4.245 |"
        assert metrics["baseline/momentum/loss"] == pytest.approx(4.31378e-05, rel=1e-5)
