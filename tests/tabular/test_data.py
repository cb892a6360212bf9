import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.shared.batches import Batches
from src.shared.errors import ConfigurationError, DataError
from src.shared.folders import read_preprocessing
from src.tabular.data import TabularData, load_split
from src.tabular.model import TabularModel
from src.tabular.prepare import Preparation, prepare

ROWS = 100
PREPARED, MODELS = Path("data/prepared/houses"), Path("models/houses")


def numbered(rows: int, batch_size: Any, **options: Any) -> Batches:
    """Batches of the numbers 0, 1, ... and, beside them, their squares."""
    numbers = torch.arange(rows)
    return Batches((numbers, numbers**2), batch_size, **options)


def rows_of(batches: Batches, epoch: int = 0) -> list[list[int]]:
    batches.set_epoch(epoch)
    return [numbers.tolist() for numbers, _ in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [
        (2000, 64, [64] * 31 + [16]),
        (128, 64, [64, 64]),
        (66, 64, [64, 2]),
        # batch norm has no variance of one row
        (65, 64, [65]),
        (129, 64, [64, 65]),
        (1, 64, [1]),
        (3, 10, [3]),
        (3, 2, [3]),
        (3, 1, [1, 1, 1]),
        (2000, "full", [2000]),
        (1, "full", [1]),
    ],
)
def test_rows_are_cut_into_batches(rows: int, batch_size: Any, sizes: list[int], seed: int | None) -> None:
    batches = numbered(rows, batch_size, seed=seed)
    found = rows_of(batches)
    assert [len(batch) for batch in found] == sizes
    assert len(batches) == len(sizes)
    assert sorted(flat(found)) == list(range(rows))


def test_the_parts_of_a_row_stay_together() -> None:
    for numbers, squares in numbered(100, 7, seed=1):
        assert torch.equal(numbers**2, squares)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = rows_of(numbered(100, 8, seed=5), epoch=3)
    torch.manual_seed(2)
    batches = numbered(100, 8, seed=5)
    rows_of(batches, epoch=0)
    assert rows_of(batches, epoch=3) == first
    assert rows_of(batches, epoch=4) != first
    assert rows_of(numbered(100, 8, seed=6), epoch=3) != first


def test_the_order_does_not_depend_on_the_batch_size() -> None:
    assert flat(rows_of(numbered(100, 8, seed=5))) == flat(rows_of(numbered(100, 30, seed=5)))


def test_an_order_takes_nothing_from_the_random_numbers_of_training() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    rows_of(numbered(100, 8, seed=5))
    assert torch.equal(torch.rand(3), expected)


def test_without_a_seed_the_order_of_the_rows_is_kept() -> None:
    batches = numbered(10, 4)
    assert rows_of(batches, epoch=0) == rows_of(batches, epoch=1) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("rows", "batch_size"), [(2000, 64), (101, 10), (30, "full")])
def test_two_processes_together_see_what_one_sees(rows: int, batch_size: Any, seed: int | None) -> None:
    alone = rows_of(numbered(rows, batch_size, seed=seed), epoch=2)
    first, second = (
        rows_of(numbered(rows, batch_size, seed=seed, process=process, processes=2), epoch=2)
        for process in (0, 1)
    )
    assert len(first) == len(second) == len(alone)
    for together, own, other in zip(alone, first, second, strict=True):
        assert own + other == together
        assert len(own) - len(other) in (0, 1)


@pytest.mark.parametrize(("rows", "sizes"), [(66, [33]), (67, [34]), (68, [32, 2])])
def test_every_process_gets_at_least_two_rows(rows: int, sizes: list[int]) -> None:
    batches = numbered(rows, 64, seed=3, process=0, processes=2)
    assert [len(batch) for batch in rows_of(batches)] == sizes


@pytest.fixture
def houses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A prepared task in the current folder, its model's preprocessing, and the raw rows by number."""
    monkeypatch.chdir(tmp_path)
    numbers = np.arange(ROWS)
    table = pd.DataFrame(
        {
            "Id": [f"{number:03}" for number in numbers],
            "Area": numbers * 37 % 101 + 0.5,
            "Code": ["07", "7", "A"] * (ROWS // 3) + ["A"],
            "Kind": ["brick", "wood", None, "stone"] * (ROWS // 4),
            "Price": 100.0 + numbers * 53 % 97,
        }
    )
    Path("raw").mkdir()
    table.to_csv("raw/train.csv", index=False, na_rep="NA")
    types: dict[str, Any] = {"Code": "categorical"}
    settings = Preparation(target="Price", id="Id", column_types=types, target_transform="standardize")
    prepare(Path("raw"), PREPARED, settings)
    MODELS.mkdir(parents=True)
    shutil.copy(PREPARED / "preprocessing.json", MODELS)
    return table


def split_rows(split: str) -> list[int]:
    """The raw rows of a split, counted from 0."""
    frame = pd.read_csv(PREPARED / "split.csv")
    rows: list[int] = (frame.loc[frame["split"] == split, "row"] - 1).tolist()
    return rows


class Seen(Callback):
    """Remembers the targets of the batches, by stage and epoch."""

    def __init__(self) -> None:
        self.train: dict[int, list[float]] = {}
        self.validation: list[float] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.train.setdefault(trainer.current_epoch, []).extend(batch[1][:, 0].tolist())

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.validation.extend(batch[1][:, 0].tolist())


def quiet_trainer(*callbacks: Callback, epochs: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def loss_of(model: TabularModel, split: str) -> float:
    features, target = load_split(PREPARED, split)
    with torch.inference_mode():
        return (model(features) - target).square().mean().item()


@pytest.fixture
def model(houses: pd.DataFrame) -> TabularModel:
    torch.manual_seed(0)
    return TabularModel(read_preprocessing(PREPARED), [4], optimizer=partial(torch.optim.SGD, lr=0.0))


@pytest.mark.usefixtures("houses")
def test_splits_are_loaded_as_they_were_prepared() -> None:
    data = TabularData("houses")
    for split, rows in [("train", 72), ("validation", 8), ("test", 20)]:
        features, target = load_split(PREPARED, split)
        assert (features.shape, features.dtype) == ((rows, 8), torch.float32)
        assert (target.shape, target.dtype) == ((rows, 1), torch.float32)
        assert torch.equal(data.targets(split), target)


def test_training_shuffles_each_epoch_and_validation_keeps_the_order(model: TabularModel) -> None:
    seen = Seen()
    quiet_trainer(seen, epochs=2).fit(model, datamodule=TabularData("houses", batch_size=16, seed=1))
    train = load_split(PREPARED, "train")[1][:, 0].tolist()
    assert seen.train[0] != seen.train[1]
    assert sorted(seen.train[0]) == sorted(seen.train[1]) == sorted(train)
    assert seen.train[0] != train
    assert seen.validation == 2 * load_split(PREPARED, "validation")[1][:, 0].tolist()


def test_what_an_epoch_logs_is_over_all_its_rows(model: TabularModel) -> None:
    # the last of the batches is smaller than the others
    data = TabularData("houses", batch_size=16, seed=1)
    trainer = quiet_trainer()
    trainer.fit(model, datamodule=data)
    logged = dict(trainer.callback_metrics)
    tested = trainer.test(model, datamodule=data, verbose=False)[0]
    model.eval()
    for split, found in [("train", logged), ("validation", logged), ("test", tested)]:
        features, target = load_split(PREPARED, split)
        with torch.inference_mode():
            outputs = model(features)
        assert float(found[f"{split}/loss"]) == pytest.approx(loss_of(model, split))
        if split != "train":
            errors = model.predict(outputs) - model.predict(target)
            assert float(found[f"{split}/mae"]) == pytest.approx(errors.abs().mean().item())
            assert float(found[f"{split}/rmse"]) == pytest.approx(errors.square().mean().sqrt().item())
            ratios = model.predict(outputs).clamp(min=1).log() - model.predict(target).log()
            assert float(found[f"{split}/log_rmse"]) == pytest.approx(ratios.square().mean().sqrt().item())


def test_every_epoch_logs_its_own_rows_only(houses: pd.DataFrame) -> None:
    torch.manual_seed(0)
    model = TabularModel(read_preprocessing(PREPARED), [4], optimizer=partial(torch.optim.SGD, lr=0.1))
    losses = []
    for _ in range(2):
        # one batch an epoch: its loss is that of the weights before the step
        losses.append(loss_of(model, "train"))
        trainer = quiet_trainer()
        trainer.fit(model, datamodule=TabularData("houses", batch_size="full", seed=1))
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert logged["train/loss"] == pytest.approx(losses[-1])
        assert logged["validation/loss"] == pytest.approx(loss_of(model, "validation"))
        rmse = model.target["scale"] * loss_of(model, "validation") ** 0.5
        assert logged["validation/rmse"] == pytest.approx(rmse)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


@pytest.mark.usefixtures("houses")
@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_rows_is_refused(batch_size: int) -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        TabularData("houses", batch_size=batch_size)


def test_data_that_are_not_prepared_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="dvc repro prepare@houses"):
        TabularData("houses")


def test_predicting_without_a_trained_model_says_how_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="dvc repro train@houses"):
        TabularData("houses", input=Path("new.csv"))


def write_rows(table: pd.DataFrame, name: str) -> Path:
    path = Path(name)
    if path.suffix == ".csv":
        table.to_csv(path, index=False, na_rep="NA")
    elif path.suffix == ".json":
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        path.write_text(json.dumps(records))
    else:
        table.to_excel(path, index=False)
    return path


def batch_of(data: TabularData) -> Tensor:
    (batch,) = data.predict_dataloader()
    return batch[0]


@pytest.mark.parametrize("name", ["new.csv", "new.json", "new.xlsx"])
def test_raw_rows_become_the_features_that_preparing_gave_them(houses: pd.DataFrame, name: str) -> None:
    rows = houses.iloc[split_rows("test")]
    # no target, one column more, another order
    rows = rows.assign(Extra="x")[["Kind", "Extra", "Code", "Id", "Area"]]
    data = TabularData("houses", input=write_rows(rows, name))
    assert torch.equal(batch_of(data), load_split(PREPARED, "test")[0])


def test_a_column_of_codes_is_read_as_text_even_where_all_look_like_numbers(houses: pd.DataFrame) -> None:
    rows = houses[houses["Code"] == "07"].head(2)
    data = TabularData("houses", input=write_rows(rows, "new.csv"))
    position = data.preprocessing["features"].index("Code_07")
    assert batch_of(data)[:, position].tolist() == [1, 1]


def test_unseen_categories_are_counted_in_a_warning(
    houses: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    rows = houses.head(4).assign(Kind=["glass", "wood", "straw", None], Code="Z")
    data = TabularData("houses", input=write_rows(rows, "new.csv"))
    features = batch_of(data)
    assert caplog.record_tuples == [
        (
            "src.tabular.data",
            logging.WARNING,
            "new.csv: categories never seen in training, ignored: Code (4), Kind (2)",
        )
    ]
    assert features[:, 1:].sum(dim=1).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"Area": None}, r"new\.csv: the needed column 'Area' is missing"),
        ({"Id": None}, r"new\.csv: the needed column 'Id' is missing"),
        ({"Area": [1, "large", 3]}, r"new\.csv: row 2, column 'Area': 'large' is not a number"),
        ({"Area": [1, 2, "-inf"]}, r"new\.csv: row 3, column 'Area': .*inf.* is not finite"),
    ],
)
def test_raw_rows_that_cannot_be_used_are_refused(
    houses: pd.DataFrame, change: dict[str, Any], complaint: str
) -> None:
    ((name, values),) = change.items()
    rows = houses.head(3).drop(columns=name) if values is None else houses.head(3).assign(**change)
    data = TabularData("houses", input=write_rows(rows, "new.csv"))
    with pytest.raises(DataError, match=complaint):
        data.predict_dataloader()


@pytest.mark.usefixtures("houses")
def test_predicting_needs_raw_rows() -> None:
    with pytest.raises(ConfigurationError, match=r"--data\.input"):
        TabularData("houses").predict_dataloader()


def predicted(rows: pd.DataFrame, predictions: list[Tensor], output: str = "out/predictions.csv") -> str:
    """The file of predictions for raw rows."""
    data = TabularData("houses", input=write_rows(rows, "new.csv"), output=Path(output))
    data.predict_dataloader()
    assert data.write_predictions(predictions) == Path(output)
    return Path(output).read_text(encoding="utf-8")


def test_predictions_are_written_beside_their_id(houses: pd.DataFrame) -> None:
    rows = houses.head(3).assign(Id=[31, 7, 12])
    text = predicted(rows, [torch.tensor([1.5, 2.0]), torch.tensor([-3.25])])
    assert text == "Id,Price\n31,1.5\n7,2.0\n12,-3.25\n"
    assert [path.name for path in Path("out").iterdir()] == ["predictions.csv"]


def test_ids_are_written_as_they_were_read(houses: pd.DataFrame) -> None:
    text = predicted(houses.head(2), [torch.tensor([1.5, 2.0])])
    assert text == "Id,Price\n000,1.5\n001,2.0\n"


@pytest.mark.usefixtures("houses")
def test_an_older_file_of_predictions_is_replaced() -> None:
    Path("out").mkdir()
    Path("out/predictions.csv").write_text("older, and longer than what comes after it\n" * 9)
    rows = pd.DataFrame({"Id": [5], "Area": [1], "Code": ["A"], "Kind": ["wood"]})
    assert predicted(rows, [torch.tensor([1.5])]) == "Id,Price\n5,1.5\n"


def change_preprocessing(**values: Any) -> None:
    content = json.loads((MODELS / "preprocessing.json").read_text(encoding="utf-8"))
    (MODELS / "preprocessing.json").write_text(json.dumps(content | values))


def test_predictions_are_numbered_where_rows_have_no_id(houses: pd.DataFrame) -> None:
    change_preprocessing(id=None)
    rows = houses.head(2).drop(columns="Id")
    assert predicted(rows, [torch.tensor([1.5, 2.0])]) == "row,Price\n1,1.5\n2,2.0\n"


def test_predicted_classes_are_written_with_their_probability(houses: pd.DataFrame) -> None:
    change_preprocessing(target={"name": "Style", "classes": ["2", "10", "old, or very old"]})
    probabilities = [torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]]), torch.tensor([[1.0, 0, 0]])]
    text = predicted(houses.head(3).assign(Id=[1, 2, 3]), probabilities)
    assert text == 'Id,Style,probability\n1,10,0.5\n2,"old, or very old",0.75\n3,2,1.0\n'


def test_a_trainer_predicts_raw_rows_in_their_order(houses: pd.DataFrame, model: TabularModel) -> None:
    rows = houses.iloc[split_rows("test")]
    data = TabularData("houses", input=write_rows(rows, "new.csv"), output=Path("out.csv"))
    predictions = quiet_trainer().predict(model, datamodule=data)
    with torch.inference_mode():
        expected = model.predict(model(load_split(PREPARED, "test")[0]))
    assert predictions is not None
    torch.testing.assert_close(torch.cat(predictions), expected)
    written = pd.read_csv(data.write_predictions(predictions), dtype={"Id": str})
    assert written["Price"].tolist() == pytest.approx(expected.tolist())
