import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import LightningModule
from torch import Tensor

from src.bundle.bundle import FORMAT, Bundle, tensors_digest, write_bundle
from src.core.digests import file_digest, write_manifest
from src.core.errors import ConfigurationError, IntegrityError
from src.tabular.model import TabularModel
from src.tabular.preprocessing import NumericColumn, Preprocessing, Target
from src.training.networks import MLP

PREPROCESSING = Preprocessing(
    [NumericColumn(name, 0.0, 1.0, 2.0, 0, 1.0) for name in ("length", "width", "height")],
    Target("price", None, log=True, center=12.0, scale=0.4, at_least_one=True),
)
NETWORK: dict[str, Any] = {"hidden_sizes": [4], "norm": "batch", "dropout": 0.1}
FILES = ["config.yaml", "history.csv", "manifest.json", "model.safetensors", "preprocessing.json"]
BUNDLE = Path("models/boxes")
PREPARED = Path("data/prepared/boxes")


def make_model(seed: int = 0, **changes: Any) -> TabularModel:
    torch.manual_seed(seed)
    return TabularModel(PREPROCESSING, partial(MLP, **NETWORK | changes))


def write(model: TabularModel, folder: Path = BUNDLE, **changes: Any) -> None:
    PREPARED.mkdir(parents=True, exist_ok=True)
    (PREPARED / "manifest.json").unlink(missing_ok=True)
    PREPROCESSING.save(PREPARED)
    write_manifest(PREPARED)
    network = {"class_path": "src.training.networks.MLP", "init_args": NETWORK | changes}
    model_section = {"class_path": "src.tabular.model.TabularModel", "init_args": {"network": network}}
    configuration = {"model": model_section}
    write_bundle(
        folder, model, "boxes", yaml.safe_dump(configuration), PREPARED, {"history.csv": "epoch\n1\n"}
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requirements.lock").write_text("torch==2.0\n")


def test_weights_come_back_as_they_were() -> None:
    model = make_model()
    model(torch.randn(8, 3))  # moves the running statistics of batch norm
    write(model)
    other = make_model(seed=1)
    assert not same(model.state_dict(), other.state_dict())
    Bundle.open(BUNDLE).load_weights(other)
    assert same(model.state_dict(), other.state_dict())
    assert other.state_dict()["network.1.num_batches_tracked"] == 1


def test_manifest_describes_the_bundle() -> None:
    model = make_model()
    write(model)
    assert sorted(contents(BUNDLE)) == FILES
    bundle = Bundle.open(BUNDLE)
    manifest = bundle.manifest
    assert manifest == {
        "format": FORMAT,
        "task": "boxes",
        "tensors": tensors_digest(model.state_dict()),
        "prepared": file_digest(PREPARED / "manifest.json"),
        "requirements.lock": file_digest(Path("requirements.lock")),
        "files": {name: file_digest(BUNDLE / name) for name in FILES if name != "manifest.json"},
    }
    assert manifest == json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
    assert bundle.kind == "tabular"
    assert bundle.configuration["model"]["init_args"]["network"]["init_args"] == NETWORK


def test_same_model_gives_the_same_bytes_without_any_path(tmp_path: Path) -> None:
    write(make_model())
    write(make_model(), Path("elsewhere/bundle"))
    assert contents(BUNDLE) == contents(Path("elsewhere/bundle"))
    for name, content in contents(BUNDLE).items():
        assert str(tmp_path).encode() not in content, name
        assert str(Path.home()).encode() not in content, name


def test_other_weights_are_another_manifest() -> None:
    digests = []
    for seed in (0, 1):
        write(make_model(seed))
        digests.append(Bundle.open(BUNDLE).manifest["tensors"])
    assert digests[0] != digests[1]


def test_digest_of_tensors_sees_names_types_shapes_and_values() -> None:
    tensor = torch.arange(6, dtype=torch.int32)
    variants = [
        {"a": tensor},
        {"b": tensor},
        {"a": tensor.view(torch.float32)},
        {"a": tensor.reshape(2, 3)},
        {"a": tensor + 1},
        {"a": tensor, "b": tensor},
    ]
    assert len({tensors_digest(variant) for variant in variants}) == len(variants)
    turned = {"b": tensor.reshape(2, 3).T, "a": tensor}
    straight = {"a": tensor, "b": tensor.reshape(2, 3).T.contiguous()}
    assert tensors_digest(turned) == tensors_digest(straight)


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_flipped_bit_is_reported_with_the_file_and_both_digests(name: str) -> None:
    write(make_model())
    expected = file_digest(BUNDLE / name)
    content = bytearray((BUNDLE / name).read_bytes())
    content[-1] ^= 1
    (BUNDLE / name).write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        Bundle.open(BUNDLE)
    for part in (str(BUNDLE / name), expected, file_digest(BUNDLE / name), "dvc repro -f train@boxes"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_missing_file_is_reported(name: str) -> None:
    write(make_model())
    (BUNDLE / name).unlink()
    with pytest.raises(IntegrityError, match=rf"models/boxes/{name}: .*no such file"):
        Bundle.open(BUNDLE)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', '"files"', '{"files": null}'])
def test_damaged_manifest_is_reported(text: str) -> None:
    write(make_model())
    (BUNDLE / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"models/boxes/manifest\.json is damaged"):
        Bundle.open(BUNDLE)


def change_manifest(**values: Any) -> None:
    content = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8")) | values
    (BUNDLE / "manifest.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(("found", "named"), [(FORMAT + 1, FORMAT + 1), (None, 0)])
def test_bundle_of_another_format_is_refused(found: int | None, named: int) -> None:
    write(make_model())
    change_manifest(format=found)
    message = (
        rf"models/boxes is a bundle of format {named}, .* reads format {FORMAT}; .*dvc repro -f train@boxes"
    )
    with pytest.raises(ConfigurationError, match=message):
        Bundle.open(BUNDLE)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "..", "", ".", "in/side", "config.yaml/"])
def test_names_of_other_folders_in_a_manifest_are_refused(name: str) -> None:
    write(make_model())
    files = Bundle.open(BUNDLE).manifest["files"]
    change_manifest(files=files | {name: "0"})
    with pytest.raises(IntegrityError, match="is not the name of a file in the bundle's folder"):
        Bundle.open(BUNDLE)


def test_manifest_that_leaves_a_file_unchecked_is_refused() -> None:
    write(make_model())
    files = Bundle.open(BUNDLE).manifest["files"]
    del files["config.yaml"]
    change_manifest(files=files)
    with pytest.raises(IntegrityError, match=r"manifest\.json is damaged: it does not list config\.yaml"):
        Bundle.open(BUNDLE)


def test_weights_of_another_bundle_are_refused() -> None:
    write(make_model(0))
    write(make_model(1), Path("models/other"))
    shutil.copyfile("models/other/model.safetensors", BUNDLE / "model.safetensors")
    manifest = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["model.safetensors"] = file_digest(BUNDLE / "model.safetensors")
    (BUNDLE / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"model\.safetensors.*not those of the manifest"):
        Bundle.open(BUNDLE).load_weights(make_model())


@pytest.mark.parametrize("missing", ["folder", "manifest"])
def test_missing_bundle_is_reported_with_the_command_that_makes_it(missing: str) -> None:
    if missing == "manifest":
        write(make_model())
        (BUNDLE / "manifest.json").unlink()
    with pytest.raises(ConfigurationError, match=r"dvc repro train@boxes"):
        Bundle.open(BUNDLE)


def test_bundle_is_not_evaluated_on_other_data() -> None:
    write(make_model())
    bundle = Bundle.open(BUNDLE)
    bundle.require_data(PREPARED)
    trained_with = file_digest(PREPARED / "manifest.json")
    (PREPARED / "preprocessing.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"data/prepared/boxes/preprocessing\.json: sha256 44136fa3"):
        bundle.require_data(PREPARED)
    (PREPARED / "manifest.json").unlink()
    with pytest.raises(ConfigurationError, match=r"manifest\.json is not here; run: dvc repro prepare@boxes"):
        bundle.require_data(PREPARED)
    write_manifest(PREPARED)
    with pytest.raises(
        ConfigurationError, match="trained with other data than data/prepared/boxes"
    ) as caught:
        bundle.require_data(PREPARED)
    assert trained_with in str(caught.value)
    assert file_digest(PREPARED / "manifest.json") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_sizes": [5]}, r"network\.0\."),
        ({"hidden_sizes": [4, 4]}, r"network\."),
        ({"hidden_sizes": []}, r"network\."),
        ({"norm": "none"}, r"network\.1\."),
    ],
)
def test_weights_of_another_network_are_refused(changes: dict[str, Any], named: str) -> None:
    write(make_model())
    model = make_model(seed=1, **changes)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigurationError, match=rf"models/boxes holds another network: {named}"):
        Bundle.open(BUNDLE).load_weights(model)
    assert same(model.state_dict(), before)


def test_shared_layers_are_kept_once_and_come_back_shared() -> None:
    changes = {"hidden_sizes": [4, 4, 4], "share_hidden": True}
    model = make_model(**changes)
    write(model, **changes)
    bundle = Bundle.open(BUNDLE)
    for other in (make_model(seed=1, **changes), bundle.model_of(TabularModel)):
        bundle.load_weights(other)
        assert same(model.state_dict(), other.state_dict())
        linears = [module for module in other.network if isinstance(module, torch.nn.Linear)]
        assert linears[0] is not linears[1]
        assert linears[1] is linears[2]
    with pytest.raises(ConfigurationError, match="another network"):
        bundle.load_weights(make_model(hidden_sizes=[4, 4, 4]))


def test_bundle_alone_makes_the_model() -> None:
    model = make_model()
    write(model)
    shutil.rmtree("data")
    loaded = Bundle.open(BUNDLE).model_of(TabularModel)
    assert type(loaded) is TabularModel
    assert not loaded.training
    assert same(model.state_dict(), loaded.state_dict())
    features = torch.randn(5, 3)
    assert torch.equal(loaded(features), model.eval()(features))


def test_bundle_of_another_model_is_refused() -> None:
    class Other(LightningModule):
        pass

    write(make_model())
    with pytest.raises(ConfigurationError, match=r"models/boxes holds a TabularModel, not a Other"):
        Bundle.open(BUNDLE).model_of(Other)


def test_bundle_cannot_import_other_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "intruder.py").write_text("class Intruder: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    write(make_model(), optimizer={"class_path": "intruder.Intruder"})
    with pytest.raises(ConfigurationError, match="optimizer"):
        Bundle.open(BUNDLE).model  # noqa: B018
    assert "intruder" not in sys.modules


def test_older_bundle_stays_when_writing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    write(make_model())
    before = contents(BUNDLE)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("src.bundle.bundle.save_file", full)
    with pytest.raises(OSError, match="No space"):
        write(make_model(seed=1))
    assert contents(BUNDLE) == before
    assert [path.name for path in Path("models").iterdir()] == ["boxes"]


def test_manifest_without_a_lock_file_has_no_digest_of_it() -> None:
    Path("requirements.lock").unlink()
    write(make_model())
    assert Bundle.open(BUNDLE).manifest["requirements.lock"] is None
