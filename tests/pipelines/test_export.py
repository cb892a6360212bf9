import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from lightning import LightningModule

from pipelines.export import export as exporter
from pipelines.export.export import export, relative_difference
from pipelines.export.module import module_exportable
from src.bundle.exportable import Exportable
from src.cli import main
from src.core.digests import folder_digest
from src.core.errors import ConfigurationError, IntegrityError
from tests.support import ended

resource = pytest.importorskip("resource", reason="limits of a process are those of Unix")

TASKS = ("house_prices", "digits", "poems", "words", "reviews", "line", "bowl")
SAMPLES = 200
COMMON = ["README.md", "example.py", "inputs.json", "manifest.json", "model.onnx", "model.pt2"]


pytestmark = [pytest.mark.slow, pytest.mark.tasks(*TASKS)]


@pytest.fixture(scope="module")
def project(finished: Callable[..., Path]) -> Path:
    """The project in which the tasks have run."""
    return finished(*TASKS)


@pytest.fixture(scope="module")
def exports(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exports of some tasks, at least one of each kind of network."""
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for task in TASKS:
            export(task, output=folder / task, samples=SAMPLES)
    return folder


@pytest.fixture
def session(exports: Path) -> Callable[..., Any]:
    """Run an exported ONNX program by its task."""

    def run(task: str, **inputs: Any) -> list[Any]:
        path = exports / task / "model.onnx"
        program = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return program.run(None, inputs)

    return run


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", TASKS)
def test_an_export_is_whole_and_knows_no_path(project: Path, exports: Path, task: str) -> None:
    texts = ["vocabulary.json"] if task in ("poems", "words", "reviews") else []
    assert sorted(path.name for path in (exports / task).iterdir()) == sorted(COMMON + texts)
    onnx.checker.check_model(exports / task / "model.onnx", full_check=True)
    for path in (exports / task).iterdir():
        for place in (project, Path(exporter.__file__).parents[1], Path(sys.prefix)):
            assert os.fsencode(place) not in path.read_bytes(), path


@pytest.mark.parametrize("task", TASKS)
def test_the_model_card_tells_scores_and_digests(project: Path, exports: Path, task: str) -> None:
    card = (exports / task / "README.md").read_text(encoding="utf-8")
    manifest = read_json(project / "models" / task / "manifest.json")
    source = read_json(project / "data" / "raw" / task / "SOURCE.json")
    metrics = read_json(project / "reports" / task / "metrics.json")
    for digest in (manifest["tensors"], manifest["prepared"], *manifest["files"].values()):
        assert f"| {digest} |" in card
    assert all(file["sha256"] in card for file in source["files"].values())
    for name, value in metrics.items():
        if name.startswith("test/"):
            assert re.search(rf"^\| {name.removeprefix('test/')} \| {value:.5g} \|", card, re.MULTILINE)
    sections = re.findall("^## (.*)", card, re.MULTILINE)
    assert sections[:3] == ["Model details", "Uses", "Bias, risks and limitations"]
    assert sections[-2:] == ["Evaluation", "Provenance"]


@pytest.mark.parametrize("task", TASKS)
def test_the_example_runs_without_the_project(exports: Path, tmp_path: Path, task: str) -> None:
    copied = shutil.copytree(exports / task, tmp_path / "elsewhere")
    program = (
        "import runpy, sys\n"
        f"runpy.run_path({str(copied / 'example.py')!r}, run_name='__main__')\n"
        "assert not {'torch', 'src', 'pipelines'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if task in ("house_prices", "line"):
        number = float(done.stdout.partition(": ")[2])
        assert math.isfinite(number)
    else:
        assert done.stdout


def test_raw_rows_get_the_prices_of_the_bundle(
    project: Path, exports: Path, session: Callable[..., Any], tmp_path: Path, settings_of_the_process: None
) -> None:
    raw = project / "data" / "raw" / "house_prices" / "test.csv"
    files = [f"--data.input={raw}", f"--data.output={tmp_path / 'expected.csv'}"]
    main(["predict", f"--bundle={project / 'models' / 'house_prices'}", *files])
    expected = pd.read_csv(tmp_path / "expected.csv")["SalePrice"]

    # with inputs.json alone
    known = read_json(exports / "house_prices" / "inputs.json")
    cells = pd.read_csv(raw, dtype=str, keep_default_na=False)
    numbers = cells[known["numbers"]].replace(known["missing_texts"], "nan").to_numpy(np.float64)
    codes = [
        [
            column["missing"]
            if text in known["missing_texts"]
            else column["codes"].get(text, known["unknown"])
            for text in cells[column["name"]]
        ]
        for column in known["categories"]
    ]
    (prices,) = session("house_prices", numbers=numbers, categories=np.array(codes).T)
    assert len(prices) > 1000
    np.testing.assert_allclose(prices, expected, rtol=1e-5)


def test_batches_and_texts_of_any_length(exports: Path, session: Callable[..., Any]) -> None:
    begin = read_json(exports / "poems" / "inputs.json")["begin"]
    for rows, length in ((1, 1), (1, 30), (3, 5)):
        (logits,) = session("poems", tokens=np.full((rows, length), begin))
        assert logits.shape[:2] == (rows, length)
    for rows in (1, 7):
        assert session("digits", images=np.zeros((rows, 1, 8, 8), np.uint8))[0].shape == (rows, 10)
        assert session("line", numbers=np.full((rows, 1), np.nan))[0].shape == (rows,)


TRANSFORMER = {"embedding_size": 8, "heads": 2, "layers": 1}
AVERAGING = {"flip_averaging": True, "shift_averaging": 1}


@pytest.mark.parametrize(
    ("task", "network", "options", "changes"),
    [
        ("poems", "src.text.networks.Transformer", TRANSFORMER, {}),
        ("digits", "src.images.networks.ResidualNet", {"widths": [8, 16], "blocks": 1}, AVERAGING),
    ],
)
def test_other_networks_are_exported(
    task: str,
    network: str,
    options: dict[str, Any],
    changes: dict[str, Any],
    workspace: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings_of_the_process: None,
) -> None:
    monkeypatch.chdir(workspace(tmp_path, task))
    path = Path("configs", f"{task}.yaml")
    configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    configuration["trainer"]["max_epochs"] = 1
    configuration["model"]["init_args"] |= {
        "network": {"class_path": network, "init_args": options},
        **changes,
    }
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    main(["fit", f"--config={path}"])
    export(task, samples=SAMPLES)
    assert (tmp_path / f"exports/{task}/model.onnx").is_file()


def test_the_same_bundle_gives_the_same_bytes(
    project: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    export("line", output=tmp_path / "again", samples=SAMPLES)
    assert folder_digest(tmp_path / "again") == folder_digest(exports / "line")


def test_a_program_that_differs_is_not_kept(
    project: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = shutil.copytree(exports / "line", tmp_path / "line")
    right = exporter._onnx_runner

    def wrong(*arguments: Any) -> Any:
        run = right(*arguments)
        return lambda inputs: {name: array + np.float32(1) for name, array in run(inputs).items()}

    monkeypatch.setattr(exporter, "_onnx_runner", wrong)
    monkeypatch.chdir(project)
    with pytest.raises(
        IntegrityError, match=f"ONNX Runtime differs from the bundle in {SAMPLES} of {SAMPLES}"
    ):
        export("line", output=older, samples=SAMPLES)
    assert folder_digest(older) == folder_digest(exports / "line")
    assert [path.name for path in tmp_path.iterdir()] == ["line"]


def exportable_of(module: torch.nn.Module, **changes: Any) -> Exportable:
    known: dict[str, Any] = {
        "kind": "tabular",
        "network": type(module).__name__,
        "module": module,
        "inputs": {"numbers": torch.ones(2, 1)},
        "axes": {"numbers": {0: "batch"}},
        "outputs": ("answer",),
        "sample": lambda generator, rows: ({}, {"answer": np.ones(rows)}),
        "description": {},
    }
    return Exportable(**known | changes)


def test_a_network_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return numbers if numbers.sum() > 0 else -numbers

    class Packing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(1, 2, batch_first=True)

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            lengths = torch.ones(len(numbers), dtype=torch.int64)
            packed = torch.nn.utils.rnn.pack_padded_sequence(numbers[:, None], lengths, batch_first=True)
            return self.gru(packed)[1][0]

    with pytest.raises(ConfigurationError, match=r"Branching cannot be exported: .*data-dependent"):
        exporter._write_programs(exportable_of(Branching()), tmp_path)
    with pytest.raises(ConfigurationError, match="Packing cannot be exported: "):
        exporter._write_programs(exportable_of(Packing()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_network_is_not_called_one_of_the_export(tmp_path: Path) -> None:
    class Mistaken(torch.nn.Module):
        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            raise KeyError("layer")

    class TooLarge(torch.nn.Module):
        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("no memory")

    for network in (Mistaken(), TooLarge()):
        with pytest.raises((KeyError, torch.OutOfMemoryError)):
            exporter._write_programs(exportable_of(network), tmp_path)


class Decoder(LightningModule):
    """Its `forward` does not take what its steps take."""

    def __init__(self, example: torch.Tensor | None) -> None:
        super().__init__()
        self.example_input_array = example
        self.layer = torch.nn.Linear(2, 5)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return self.layer(code)

    def test_dataloader(self) -> Any:
        return [torch.zeros(4, 5)]


@pytest.mark.parametrize(
    ("example", "whose"),
    [(None, "the first batch of its loader"), (torch.zeros(4, 3), r"self\.example_input_array")],
    ids=["loader", "module"],
)
def test_an_example_that_forward_does_not_take_is_told(example: Any, whose: str) -> None:
    bundle: Any = SimpleNamespace(model=Decoder(example), configuration={"seed_everything": 1}, name="mine")
    with pytest.raises(
        ConfigurationError,
        match=rf"^Decoder cannot be exported: forward does not take {whose} \(RuntimeError: mat1 and mat2",
    ):
        module_exportable(bundle)
    bundle.model = Decoder(torch.zeros(1, 2))
    assert module_exportable(bundle).outputs == ("output",)


def test_one_answer_in_a_thousand_may_lie_at_a_jump(capsys: pytest.CaptureFixture[str]) -> None:
    def one_flipped(inputs: Any) -> dict[str, Any]:
        return {"answer": np.array([0.0] + [1.0] * 99) if next(batches) == 7 else np.ones(100)}

    batches = iter(range(100))
    exporter._compare(exportable_of(torch.nn.Identity(), jumps=True), {"it": one_flipped}, 1000)
    assert capsys.readouterr().out == (
        "it: 1000 random inputs differ from the bundle by 0.0e+00, 1 at a jump left out\n"
    )
    batches = iter(range(100))
    with pytest.raises(IntegrityError, match="it differs from the bundle in 1 of 1000 random inputs, by 1"):
        exporter._compare(exportable_of(torch.nn.Identity()), {"it": one_flipped}, 1000)
    batches = iter([7, 7, *range(8)])
    with pytest.raises(IntegrityError, match="it differs from the bundle in 3 of 1000"):
        exporter._compare(exportable_of(torch.nn.Identity(), jumps=True), {"it": one_flipped}, 1000)


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([[200002.0, 1.0]], [[200000.0, 1.0]], 1e-5),  # relative
        ([[1e-3, 300.0]], [[0.0, 300.0]], 1e-3),  # next to 0
        ([[1e-6, 3e-6]], [[1e-6, 2e-6]], 0.5),  # small answers
        ([[0.0]], [[0.0]], 0.0),
        ([[np.nan]], [[0.5]], np.nan),
    ],
)
def test_relative_difference(found: Any, expected: Any, difference: float) -> None:
    (row,) = relative_difference(np.array(found), np.array(expected))
    assert row == pytest.approx(difference, nan_ok=True)


def test_bad_input_is_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(export, "line") == 2
    assert "models/line/manifest.json is not here" in capsys.readouterr().err
    bundle = shutil.copytree(project / "models" / "line", tmp_path / "copied")
    assert ended(export, "polynomial", bundle=bundle) == 2
    assert "is a bundle of line, not of polynomial" in capsys.readouterr().err

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert ended(export, "line", bundle=bundle, output=tmp_path / "mine") == 2
    assert "letter.txt was not written by this project" in capsys.readouterr().err
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"

    (tmp_path / "file").write_text("")
    assert ended(export, "line", bundle=bundle, output=tmp_path / "file") == 6
    assert ended(export, "line", bundle=bundle, output=tmp_path / "file" / "line") == 6

    weights = bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert ended(export, "line", bundle=bundle) == 4
    manifest = read_json(bundle / "manifest.json")
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"files": {}, "task": "other"}))
    assert ended(export, "line", bundle=bundle) == 4
    assert not (tmp_path / "exports").exists()


def test_an_edited_export_and_a_folder_of_the_user_stay(
    project: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    copied = shutil.copytree(exports / "line", tmp_path / "line")
    export("line", output=copied, samples=SAMPLES)
    (copied / "README.md").write_text("what I know of the model")
    with pytest.raises(ConfigurationError, match=r"line/README\.md was changed since it was written"):
        export("line", output=copied, samples=SAMPLES)
    assert (copied / "README.md").read_text() == "what I know of the model"
    (copied / "manifest.json").unlink()
    with pytest.raises(ConfigurationError, match=r"README\.md was not written by this project"):
        export("line", output=copied, samples=SAMPLES)


def test_a_full_disk_is_told_and_the_older_export_stays(
    project: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    copied = shutil.copytree(exports / "line", tmp_path / "line")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))  # no file can become larger
    try:
        assert ended(export, "line", output=copied, samples=SAMPLES) == 6
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder_digest(copied) == folder_digest(exports / "line")
    assert [path.name for path in tmp_path.iterdir()] == ["line"]


def test_the_runtime_of_an_export_writes_no_files_into_the_home(exports: Path, tmp_path: Path) -> None:
    # its telemetry keeps a device identifier there; a process without the variable would, too
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment["HOME"] = str(tmp_path)
    session = f"import src, onnxruntime; onnxruntime.InferenceSession({str(exports / 'line/model.onnx')!r})"
    for command in (["-c", session], [str(exports / "line/example.py")]):
        subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
    assert list(tmp_path.rglob("*")) == []
