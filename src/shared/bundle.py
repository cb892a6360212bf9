"""The model bundle, models/<task>/: weights, resolved configuration, preprocessing, history, manifest.

Everything in it is text or safetensors, nothing holds a time or a path of this machine, and loading
checks every digest.
"""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from lightning import LightningModule
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.shared.errors import ConfigurationError, IntegrityError
from src.shared.folders import LOCK, file_digest, folder_digest, written_whole

Model = TypeVar("Model", bound=LightningModule)

WEIGHTS = "model.safetensors"


def restrict_imports() -> None:
    """Let configurations name only classes of torch.nn, torch.optim, lightning and src, and no address.

    A configuration, a bundle's too, says by name what is built; importing a module runs it.
    """
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=["torch.nn", "torch.optim", "lightning", "src"],
        config_read_mode_fsspec_enabled=False,
        instantiate_subclass_spec_in_any=False,
    )


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """The sha256 over names, types, shapes and values of tensors, in the order of the names."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def weights_of(model: LightningModule) -> dict[str, Tensor]:
    """The model's parameters and buffers, each tensor once: a shared layer goes by its first name."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach().cpu().contiguous()
    return weights


def write_bundle(
    folder: Path,
    model: LightningModule,
    task: str,
    configuration: str,
    prepared: Path,
    documents: dict[str, str],
) -> None:
    """Write the bundle of a trained model, whole or not at all.

    Args:
        folder: models/<task>.
        model: with the weights to keep.
        task: its name.
        configuration: the resolved configuration, YAML.
        prepared: the folder of the prepared data, whose preprocessing.json goes along.
        documents: further text files by name, such as the history of the training.
    """
    weights = weights_of(model)
    with written_whole(folder) as partial:
        save_file(weights, partial / WEIGHTS)
        (partial / "config.yaml").write_text(configuration, encoding="utf-8")
        shutil.copyfile(prepared / "preprocessing.json", partial / "preprocessing.json")
        for name, text in documents.items():
            (partial / name).write_text(text, encoding="utf-8")
        manifest = {
            "task": task,
            "room": type(model).__module__.split(".")[1],
            "tensors": tensors_digest(weights),
            "prepared": folder_digest(prepared),
            "requirements.lock": file_digest(LOCK) if LOCK.is_file() else None,
            "files": {path.name: file_digest(path) for path in sorted(partial.iterdir())},
        }
        text = json.dumps(manifest, indent=1, sort_keys=True)
        (partial / "manifest.json").write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, after a check of every file's digest.

    Raises:
        ConfigurationError: there is no bundle.
        IntegrityError: a file is missing or differs from the manifest.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ConfigurationError(f"{path} is not here; train first: dvc repro train@{folder.name}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged: {error}") from None
    for name, expected in files.items():
        file = folder / name
        found = file_digest(file) if file.is_file() else "no such file"
        if found != expected:
            raise IntegrityError(
                f"{file}: sha256 {found}, expected {expected}; train again: dvc repro -f train@{folder.name}"
            )
    return manifest


def load_weights(folder: Path, model: LightningModule) -> None:
    """Put the bundle's weights into a model.

    Raises:
        ConfigurationError: the model has other layers than the bundle.
        IntegrityError: the bundle is damaged.
    """
    manifest = read_manifest(folder)
    weights = load_file(folder / WEIGHTS)
    if tensors_digest(weights) != manifest["tensors"]:
        raise IntegrityError(f"{folder / WEIGHTS}: the tensors are not those of the manifest")
    expected = weights_of(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    needed = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    if shapes != needed:
        different = sorted(set(shapes.items()) ^ set(needed.items()))
        raise ConfigurationError(f"{folder} holds another network: {different[0][0]} differs")
    # strict would ask for the further names of shared layers
    model.load_state_dict(weights, strict=False)


def read_configuration(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a bundle."""
    configuration: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return configuration


def load_model(folder: Path, kind: type[Model]) -> Model:
    """The trained model of a bundle, in evaluation mode.

    Args:
        folder: the bundle.
        kind: what the model must be.

    Raises:
        ConfigurationError: it is something else.
    """
    read_manifest(folder)
    preprocessing = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    values = read_configuration(folder)["model"]
    values["init_args"]["preprocessing"] = preprocessing
    restrict_imports()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    model: LightningModule = parser.instantiate(parser.parse_object({"model": values})).model
    if not isinstance(model, kind):
        raise ConfigurationError(f"{folder} holds a {type(model).__name__}, not a {kind.__name__}")
    load_weights(folder, model)
    return model.eval()
