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
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from lightning import LightningModule
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.shared.errors import ConfigurationError, IntegrityError
from src.shared.folders import (
    LOCK,
    MANIFEST,
    file_digest,
    prepared_manifest,
    read_preprocessing,
    require_digests,
    write_manifest,
    written_whole,
)

Model = TypeVar("Model", bound=LightningModule)

FORMAT = 1  # of a bundle; raised when an older bundle can no longer be read
WEIGHTS = "model.safetensors"
CONFIGURATION = "config.yaml"
PREPROCESSING = "preprocessing.json"


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
        (partial / CONFIGURATION).write_text(configuration, encoding="utf-8")
        shutil.copyfile(prepared / PREPROCESSING, partial / PREPROCESSING)
        for name, text in documents.items():
            (partial / name).write_text(text, encoding="utf-8")
        entries = {
            "format": FORMAT,
            "task": task,
            "room": type(model).__module__.split(".")[1],
            "tensors": tensors_digest(weights),
            "prepared": file_digest(prepared / MANIFEST),
            "requirements.lock": file_digest(LOCK) if LOCK.is_file() else None,
        }
        write_manifest(partial, **entries)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, after a check of every file's digest.

    Raises:
        ConfigurationError: there is no bundle, or one of another format.
        IntegrityError: a file is missing, differs from the manifest, or lies outside the folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigurationError(f"{path} is not here; train first: dvc repro train@{folder.name}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        found = manifest.get("format", 0)  # the first bundles had no number
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged: {error}") from None
    again = f"train again: dvc repro -f train@{manifest.get('task', folder.name)}"
    if found != FORMAT:
        raise ConfigurationError(
            f"{folder} is a bundle of format {found}, this version of Lockstep reads format {FORMAT}; "
            f"use the version that wrote it, or {again}"
        )
    missing = {WEIGHTS, CONFIGURATION, PREPROCESSING} - set(files)
    if missing:
        raise IntegrityError(f"{path} is damaged: it does not list {min(missing)}")
    for name in files:
        if name in ("", ".", "..") or Path(name).name != name:
            raise IntegrityError(f"{path}: '{name}' is not the name of a file in the bundle's folder")
    require_digests(folder, files, f"copy it again, or {again}")
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


def require_same_data(folder: Path, prepared: Path) -> None:
    """Refuse to judge a bundle on other data than it was trained with: their test rows may have taught it.

    Args:
        folder: models/<task>.
        prepared: data/prepared/<task>.

    Raises:
        ConfigurationError: the data are others, or one of the folders is not there.
        IntegrityError: a file of one of them is damaged.
    """
    trained_with = read_manifest(folder)["prepared"]
    prepared_manifest(prepared)
    found = file_digest(prepared / MANIFEST)
    if found != trained_with:
        raise ConfigurationError(
            f"{folder} was trained with other data than {prepared}: sha256 of {MANIFEST} {trained_with}, "
            f"here {found}; run: dvc repro train@{folder.name}"
        )


def read_configuration(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a bundle."""
    configuration: dict[str, Any] = yaml.safe_load((folder / CONFIGURATION).read_text(encoding="utf-8"))
    return configuration


def refuse_other_model(bundle: Path, wanted: dict[str, Any]) -> None:
    """Raise ConfigurationError if the bundle's task or model is not that of a configuration.

    Args:
        bundle: its folder.
        wanted: the configuration; its section `model` is resolved.
    """
    held = read_configuration(bundle)
    here, there = ({**_flat(each["model"]), "task": each["task"]} for each in (wanted, held))
    if here == there:
        return
    names = sorted(name for name in here | there if here.get(name) != there.get(name))
    differences = ", ".join(f"{name}: {here.get(name)} (bundle: {there.get(name)})" for name in names)
    raise ConfigurationError(
        f"{bundle} was trained with another model: {differences}; "
        f"train again, or use --config {bundle}/{CONFIGURATION}"
    )


def _flat(values: Any, prefix: str = "model") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}.{name}")
    return flat


def load_model(folder: Path, kind: type[Model]) -> Model:
    """The trained model of a bundle, in evaluation mode.

    Args:
        folder: the bundle.
        kind: what the model must be.

    Raises:
        ConfigurationError: it is something else, or its configuration describes no model of this project.
    """
    read_manifest(folder)
    values = read_configuration(folder)["model"]
    values["init_args"]["preprocessing"] = read_preprocessing(folder)
    restrict_imports()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    try:
        model: LightningModule = parser.instantiate(parser.parse_object({"model": values})).model
    except ArgumentError as error:
        raise ConfigurationError(f"{folder / CONFIGURATION}: {error}") from None
    if not isinstance(model, kind):
        raise ConfigurationError(f"{folder} holds a {type(model).__name__}, not a {kind.__name__}")
    load_weights(folder, model)
    return model.eval()
