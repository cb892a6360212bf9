import json
import os
import shutil
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from lightning import LightningModule
from safetensors.torch import load_file
from torch import Tensor

from src.bundle.bundle import (
    FORMAT,
    Bundle,
    check_bundle_folder,
    tensors_digest,
    weights_of,
    write_bundle,
)
from src.bundle.predict import for_model
from src.core.digests import file_digest, require_digests, write_manifest
from src.core.errors import ConfigurationError, IntegrityError
from src.tabular.model import TabularModel
from src.tabular.number_columns import NumericColumn
from src.tabular.preprocessing import Preprocessing, Target
from src.training.networks import MLP

PREPROCESSING = Preprocessing(
    [NumericColumn(name, 0.0, 1.0, 2.0, 0, 1.0) for name in ("length", "width", "height")],
    [Target("price", None, log=True, center=12.0, scale=0.4, at_least_one=True)],
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
        folder,
        weights_of(model),
        "boxes",
        yaml.safe_dump(configuration),
        PREPARED,
        {"history.csv": "epoch\n1\n"},
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


def changed_manifest(**values: Any) -> None:
    """Write a bundle with other values in its manifest; None leaves one out, also of its files."""
    write(make_model())
    content = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
    content |= values | {"files": content["files"] | values.get("files", {})}
    for section in (content, content["files"]):
        for name in [name for name, value in section.items() if value is None]:
            del section[name]
    (BUNDLE / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("found", "named"), [(FORMAT + 1, FORMAT + 1), (None, 0)])
def test_bundle_of_another_format_is_refused(found: int | None, named: int) -> None:
    changed_manifest(format=found)
    message = (
        rf"models/boxes is a bundle of format {named}, .* reads format {FORMAT}; .*dvc repro -f train@boxes"
    )
    with pytest.raises(ConfigurationError, match=message):
        Bundle.open(BUNDLE)


@pytest.mark.parametrize(
    ("name", "digest", "message"),
    [
        *(
            (name, "0", "is not the name of a file in the bundle's folder")
            for name in ("../secret", "/etc/hostname", "..", "", ".", "in/side", "config.yaml/")
        ),
        ("config.yaml", None, r"manifest\.json is damaged: it does not list config\.yaml"),
    ],
)
def test_manifest_of_other_files_is_refused(name: str, digest: str | None, message: str) -> None:
    changed_manifest(files={name: digest})
    with pytest.raises(IntegrityError, match=message):
        Bundle.open(BUNDLE)


def test_weights_of_another_bundle_are_refused() -> None:
    other = Path("models/other")
    write(make_model(1), other)
    changed_manifest(files={"model.safetensors": file_digest(other / "model.safetensors")})
    shutil.copyfile(other / "model.safetensors", BUNDLE / "model.safetensors")
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
    with pytest.raises(ConfigurationError, match="with other data than data/prepared/boxes") as caught:
        bundle.require_data(PREPARED)
    for digest in (trained_with, file_digest(PREPARED / "manifest.json")):
        assert digest in str(caught.value)


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
    stored = load_file(BUNDLE / "model.safetensors")
    assert "network.4.weight" in stored
    assert "network.8.weight" not in stored
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
    full = mock.Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("src.bundle.bundle.save_file", full)
    with pytest.raises(OSError, match="No space"):
        write(make_model(seed=1))
    assert contents(BUNDLE) == before
    assert [path.name for path in Path("models").iterdir()] == ["boxes"]


def test_manifest_without_a_lock_file_has_no_digest_of_it() -> None:
    Path("requirements.lock").unlink()
    write(make_model())
    assert Bundle.open(BUNDLE).manifest["requirements.lock"] is None


def forge(name: str, content: bytes | str) -> None:
    """Change a file of the bundle and its digest in the manifest."""
    (BUNDLE / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    manifest = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = file_digest(BUNDLE / name)
    (BUNDLE / "manifest.json").write_text(json.dumps(manifest))


def use(bundle: Bundle) -> object:
    return bundle.preprocessing, bundle.model


@pytest.mark.unix
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_before_it_is_read(name: str, kind: str) -> None:
    write(make_model())
    (BUNDLE / name).unlink()
    if kind == "pipe":
        os.mkfifo(BUNDLE / name)
    elif kind == "device":
        (BUNDLE / name).symlink_to("/dev/zero")
    else:
        (BUNDLE / name).mkdir()
    with pytest.raises(IntegrityError, match=rf"models/boxes/{name}: not a regular file"):
        Bundle.open(BUNDLE)


def test_a_link_to_a_regular_file_is_read() -> None:  # as DVC may make them
    write(make_model())
    (BUNDLE / "history.csv").rename("history.csv")
    (BUNDLE / "history.csv").symlink_to(Path("history.csv").absolute())
    use(Bundle.open(BUNDLE))


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "history.csv"])
def test_large_documents_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(make_model())
    monkeypatch.setattr("src.bundle.bundle.LARGEST_OTHER", 5)
    monkeypatch.setattr(
        "src.bundle.bundle.LARGEST", {} if name == "manifest.json" else {"manifest.json": 9999}
    )
    with pytest.raises(IntegrityError, match=r"bytes, expected at most 5"):
        Bundle.open(BUNDLE)


LYING = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", "a: &a [1, 2]\nb: [*b]", "undefined alias"),
        ("config.yaml", "a: &a [*a]\n", "more than 100,000 values"),
        ("config.yaml", "[" * 2000, "nested too deeply"),
        ("config.yaml", "[1]", r"config\.yaml is damaged"),
        ("config.yaml", "model: {class_path: 3}", "not a text"),
        ("config.yaml", "model: {class_path: src.tabular.model.TabularModel}\nthreads: -1", "threads is -1"),
        ("preprocessing.json", "{}", r"preprocessing\.json: expected the preprocessing of a table"),
        (
            "preprocessing.json",
            '{"target": {"name": "x"}}',
            r"preprocessing\.json: expected the preprocessing",
        ),
        ("preprocessing.json", "[" * 200_000, "nested too deeply"),
        ("preprocessing.json", "[" + "1" * 5000 + "]", "4300 digits"),
        ("preprocessing.json", '{"columns": "\\ud800"}', "half of a surrogate pair"),
        ("model.safetensors", b"", "not those of the manifest"),
        ("model.safetensors", b"\xff" * 8, "not those of the manifest"),
        (
            "model.safetensors",
            len(LYING).to_bytes(8, "little") + LYING + b"\0" * 8,
            "not those of the manifest",
        ),
    ],
)
def test_forged_files_are_refused_in_a_short_line(name: str, content: bytes | str, message: str) -> None:
    write(make_model())
    forge(name, content)
    with pytest.raises(IntegrityError, match=message) as caught:
        use(Bundle.open(BUNDLE))
    assert len(str(caught.value)) < 600


def test_aliases_in_a_text_of_the_configuration_are_bounded() -> None:
    lists = ", ".join(f"&{name} [{', '.join([f'*{last}'] * 10)}]" for last, name in pairwise("abcdefghi"))
    write(make_model(), activation=f"[&a [x, x], {lists}]")
    with pytest.raises(ConfigurationError, match=r"is not one of identity"):
        use(Bundle.open(BUNDLE))


def test_a_long_error_of_the_parser_is_cut() -> None:
    write(make_model(), dropout="x" * 5000)
    with pytest.raises(ConfigurationError, match=r"models/boxes/config\.yaml: ") as caught:
        use(Bundle.open(BUNDLE))
    assert len(str(caught.value)) < 600


def test_weights_of_every_type_have_a_digest() -> None:
    tensors = {"a": torch.ones(2, 3), "b": torch.tensor(3), "c": torch.ones(0)}
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    assert len({tensors_digest(each) for each in (tensors, halves)}) == 2


def test_a_bundle_that_is_replaced_while_it_is_opened_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write(make_model(0))
    check, calls = require_digests, []

    def replaced_before_the_check(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            write(make_model(1))
        check(*arguments)

    monkeypatch.setattr("src.bundle.bundle.require_digests", replaced_before_the_check)
    opened = Bundle.open(BUNDLE)
    assert len(calls) == 2
    assert opened.manifest["tensors"] == tensors_digest(make_model(1).state_dict())
    write(make_model(2))
    with pytest.raises(
        IntegrityError, match="models/boxes was replaced while it was read; run the command again"
    ):
        opened.model  # noqa: B018


def test_a_model_without_a_function_of_its_kind_is_named() -> None:
    write(make_model())
    bundle = Bundle.open(BUNDLE)
    assert for_model(bundle, {TabularModel: 1}) == 1
    with pytest.raises(ConfigurationError, match="models/boxes holds a TabularModel, which is no MLP"):
        for_model(bundle, {MLP: 1})


def test_a_folder_with_files_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    check_bundle_folder(folder)
    folder.mkdir()
    (folder / "manifest.json").write_text('{"files": {"config.yaml": "0"}}')
    (folder / "config.yaml").touch()
    check_bundle_folder(folder)
    (folder / "precious.txt").touch()
    with pytest.raises(ConfigurationError, match=r"precious\.txt was not written by this project"):
        check_bundle_folder(folder)


class Lazy(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.LazyLinear(2)


def test_a_lazy_layer_takes_the_shape_of_its_weights(tmp_path: Path) -> None:
    trained = Lazy()
    trained.layer(torch.zeros(1, 3))
    configuration = {"task": "lazy", "model": {"class_path": f"{__name__}.Lazy"}}
    write_bundle(
        tmp_path / "lazy",
        weights_of(trained),
        "lazy",
        yaml.safe_dump(configuration),
        tmp_path,
        {"history.csv": ""},
    )
    model = Lazy()
    Bundle.open(tmp_path / "lazy").load_weights(model)
    assert torch.equal(model.layer.weight, trained.layer.weight)
