"""What an ordinary LightningModule lacks, stores and predicts."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from src.bundle.bundle import Bundle, trusted_packages
from src.bundle.module import data_of, write_module_predictions
from src.core.errors import ConfigurationError
from src.training.stored import DurableCheckpointIO, require_storable, unstorable
from tests.support import cli


@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--monitor=val_acc"], "monitor: there is no metric 'val_acc'; there are: val_loss"),
        (["--model=tests.training.ordinary.Absent"], "tests.training.ordinary.Absent"),
        (["--model=os.system"], "os.system"),
    ],
)
def test_what_is_missing_is_said_before_training(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("tasks: {mine: mine}\ntrusted: [tests]\nmine: {source: none}\n")
    ordinary = "tests.training.ordinary"
    Path("mine.yaml").write_text(
        f"task: mine\nportable: true\nmodel: {ordinary}.Classifier\ndata: {ordinary}.PointsData\n"
    )
    assert cli("fit", "--config=mine.yaml", *options) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert message in line
    assert not Path("models/mine").exists()


class WithNetwork(lightning.LightningModule):
    def __init__(self, net: nn.Module, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_hyperparameters_that_need_a_pickle_are_named() -> None:
    assert unstorable(WithNetwork(nn.Linear(1, 1)), None) == ["net (Linear)"]
    module = WithNetwork.__new__(WithNetwork)
    lightning.LightningModule.__init__(module)
    plain = {"width": 3, "rates": [0.1], "name": "x", "options": {"a": None}}
    module.save_hyperparameters({**plain, "root": Path("data"), "means": np.ones(3)})
    assert unstorable(module, None) == []


class Odd:
    """What only a pickle could store."""


def test_the_first_checkpoint_that_a_restart_could_not_load_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, files = tmp_path / "last.ckpt", DurableCheckpointIO()
    hyperparameters = {"hyper_parameters": {"width": 3, "net": nn.Linear(1, 1), "root": Path("data")}}
    files.save_checkpoint(hyperparameters, path)
    loaded = torch.load(path, weights_only=True)
    assert loaded == {"hyper_parameters": {"width": 3, "root": Path("data")}}
    assert not caplog.records

    files = DurableCheckpointIO()
    for _ in range(2):
        files.save_checkpoint({"callbacks": {"mine": Odd()}}, path)
    (record,) = caplog.records
    assert "it begins anew: its checkpoint has a " in record.getMessage()
    assert ".Odd, which only a pickle could store" in record.getMessage()


@pytest.mark.parametrize(
    ("text", "packages"),
    [
        ("tasks: {}\n", []),
        ("tasks: {}\ntrusted: [torchvision, my_package.models]\n", ["torchvision", "my_package.models"]),
        ("tasks: {}\ntrusted:\n", []),
    ],
)
def test_params_yaml_names_trusted_packages(
    text: str, packages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert trusted_packages() == []
    Path("params.yaml").write_text(text)
    assert trusted_packages() == packages


@pytest.mark.parametrize("content", [b"trusted: [os]\na: b: c\n", "# 注释\ntrusted: [os]\n".encode("gbk")])
def test_params_yaml_that_cannot_be_read_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"params\.yaml is not YAML in UTF-8"):
        trusted_packages()


@pytest.mark.parametrize("value", ["'*'", "[os; rm]", "torch", "{a: b}"])
def test_trusted_must_be_a_list_of_names(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"trusted: {value}\n")
    with pytest.raises(ConfigurationError, match="trusted must be a list of packages"):
        trusted_packages()


class Captions(lightning.LightningModule):
    """Reads texts and returns texts, with a number for each."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def predict_step(self, batch: list[str], batch_idx: int) -> Any:
        return self.answer(batch)

    def predict_dataloader(self) -> DataLoader[str]:
        return DataLoader(["a dog", "two, cats", "三只鸟"], batch_size=2)  # type: ignore[arg-type]


ROWS = 'text,length\na dog,5\n"two, cats",9\n三只鸟,3\n'
RENAMED = "text,length", "prediction_0,prediction_1"


def predictions_of(model: lightning.LightningModule, output: Path) -> str:
    configuration = {"trainer": {"accelerator": "cpu"}, "seed_everything": 1}
    write_module_predictions(SimpleNamespace(model=model, configuration=configuration), None, output)  # type: ignore[arg-type]
    return output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda texts: texts, 'prediction\na dog\n"two, cats"\n三只鸟\n'),
        (
            lambda texts: {"text": texts, "length": torch.tensor([len(text) for text in texts])},
            ROWS,
        ),
        (lambda texts: texts[0], "prediction\na dog\n三只鸟\n"),
        (lambda texts: [len(text) for text in texts], "prediction\n5\n9\n3\n"),
        (
            lambda texts: np.array([[len(text), 1] for text in texts]),
            "prediction_0,prediction_1\n5,1\n9,1\n3,1\n",
        ),
        (lambda texts: [{"text": text, "length": len(text)} for text in texts], ROWS),
        (lambda texts: (texts, torch.tensor([len(text) for text in texts])), ROWS.replace(*RENAMED)),
        (  # of a module trained with bf16-mixed
            lambda texts: torch.tensor([len(text) for text in texts], dtype=torch.bfloat16),
            "prediction\n5.0\n9.0\n3.0\n",
        ),
        (  # two words, none, and one: as the boxes of pictures
            lambda texts: [{"word": re.findall("[a-z]{3,}", text)} for text in texts],
            "input,word\n1,dog\n2,two\n2,cats\n",
        ),
    ],
    ids=[
        "texts",
        "texts and numbers",
        "one text a batch",
        "numbers",
        "array",
        "rows",
        "tuple",
        "bfloat16",
        "several rows",
    ],
)
def test_predictions_may_be_texts(answer: Any, text: str, tmp_path: Path) -> None:
    assert predictions_of(Captions(answer), tmp_path / "out.csv") == text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda texts: None, "predict_step returns NoneType; tensors"),
        (lambda texts: {"text": texts, "one": torch.zeros(1)}, "different lengths: 'text' 3, 'one' 2 rows"),
        (lambda texts: {1, 2}, "predict_step returns set; tensors, arrays, numbers or texts are needed"),
        (lambda texts: {texts[0]: 1}, "predict_step returns a dog at first, and then 三只鸟"),
        (lambda texts: torch.zeros(1, len(texts)), "predict_step returns parts of different shapes"),
        (lambda texts: torch.zeros(1, 2, 2), "--output predictions/NAME.npz takes arrays of any shape"),
    ],
    ids=["nothing", "lengths", "a set", "names", "shapes", "masks"],
)
def test_predictions_that_are_no_table_are_refused(answer: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        predictions_of(Captions(answer), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_arrays_of_any_shape_are_written_as_npz(tmp_path: Path) -> None:
    model = Captions(lambda texts: {"mask": torch.ones(len(texts), 2, 2), "text": texts})
    configuration = {"trainer": {"accelerator": "cpu"}, "seed_everything": 1}
    bundle: Any = SimpleNamespace(model=model, configuration=configuration)
    assert write_module_predictions(bundle, None, tmp_path / "out.npz") == 3
    with np.load(tmp_path / "out.npz") as found:  # without pickle
        assert found["mask"].shape == (3, 2, 2)
        assert found["text"].tolist() == ["a dog", "two, cats", "三只鸟"]


class TwoLoaders(Captions):
    def predict_dataloader(self) -> Any:
        return [DataLoader(["a dog"], 1), DataLoader(["two, cats"], 1)]  # type: ignore[arg-type]


def test_several_loaders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="predict_dataloader returns several loaders; predict takes one"
    ):
        predictions_of(TwoLoaders(lambda texts: texts), tmp_path / "out.csv")


@pytest.mark.parametrize("name", ["file", "allow_pickle"])
def test_names_that_numpy_takes_for_options_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=f"predict_step returns '{name}', an argument of numpy.savez"
    ):
        predictions_of(Captions(lambda texts: {name: torch.ones(len(texts), 2)}), tmp_path / "out.npz")


def slopes(texts: list[str]) -> torch.Tensor:
    lengths = torch.tensor([float(len(text)) for text in texts], requires_grad=True)
    with torch.enable_grad():
        return torch.autograd.grad((lengths**2).sum(), lengths)[0]


def test_predictions_may_be_gradients(tmp_path: Path) -> None:
    configuration = {"trainer": {"accelerator": "cpu", "inference_mode": False}, "seed_everything": 1}
    bundle: Any = SimpleNamespace(model=Captions(slopes), configuration=configuration)
    write_module_predictions(bundle, None, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "prediction\n10.0\n18.0\n6.0\n"


class Drawn(lightning.LightningDataModule):
    """Orders its rows in the constructor, whose arguments have no types."""

    def __init__(self, rows=8, **more: int) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.order = np.random.permutation(rows + more["further"]).tolist()  # noqa: NPY002


def test_data_are_built_as_in_the_training() -> None:
    data = {"class_path": f"{__name__}.Drawn", "init_args": {"rows": 6}, "dict_kwargs": {"further": 4}}
    bundle = Bundle(Path("models/mine"), {}, {"name": "mine", "seed_everything": 3, "data": data})
    lightning.seed_everything(3)
    expected = Drawn(6, further=4).order
    for _ in range(2):
        found: Any = data_of(bundle)
        assert found.order == expected


class WithState(lightning.LightningModule):
    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 1}

    def set_extra_state(self, state: Any) -> None: ...


def test_a_state_that_no_bundle_can_have_is_refused_before_the_training() -> None:
    require_storable(WithNetwork(nn.LazyLinear(2)))
    sparse, complex_ = lightning.LightningModule(), lightning.LightningModule()
    sparse.register_buffer("edges", torch.eye(3).to_sparse())
    complex_.register_buffer("phases", torch.ones(2, dtype=torch.complex128))
    for module, message in (
        (sparse, r"the state has edges, a tensor of torch\.sparse_coo, .*; make it in __init__"),
        (complex_, r"the state has phases, a tensor of torch\.complex128"),
        (WithState(), "WithState: the state has _extra_state, a dict"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            require_storable(module)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_bundle_of_a_gpu_predicts_without_one(tmp_path: Path) -> None:
    model, configuration = (
        Captions(lambda texts: texts),
        {"trainer": {"accelerator": "gpu"}, "seed_everything": 1},
    )
    bundle: Any = SimpleNamespace(model=model, configuration=configuration)
    assert write_module_predictions(bundle, None, tmp_path / "out.csv") == 3
