"""The bundle of a trained model, models/<model>/: weights, resolved configuration, preprocessing, manifest.

All files are text or safetensors. None holds a time or a path, so equal trainings give equal bytes.
"""

import inspect
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_loader, set_parsing_settings
from lightning import LightningModule
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parameter import is_lazy

from src.core.arguments import explained
from src.core.atomic import written_whole
from src.core.digests import (
    data_digest,
    file_digest,
    manifest_files,
    prepared_manifest,
    require_digests,
    write_manifest,
)
from src.core.documents import flat_keys, parsed_json, parsed_yaml
from src.core.errors import ConfigurationError, IntegrityError, LockstepError, reported_error
from src.core.outputs import require_ours
from src.core.paths import LOCK, MANIFEST, PARAMETERS
from src.core.square_roots import use_exact_square_roots
from src.core.weights import with_versions

Model = TypeVar("Model", bound=LightningModule)

FORMAT = 3  # of a bundle; increased when older bundles can no longer be read
WEIGHTS = "model.safetensors"
CONFIGURATION = "config.yaml"
PREPROCESSING = "preprocessing.json"
MEGABYTE = 2**20
LARGEST = {MANIFEST: MEGABYTE, CONFIGURATION: MEGABYTE}  # bytes
LARGEST_OTHER = 512 * MEGABYTE  # of the other files but the weights, such as a vocabulary
MOST_THREADS = 1024
BOUNDED = "bounded YAML"  # a mode of jsonargparse, which reads texts in a configuration as YAML, too
SHOWN = 200  # characters of the beginning and of the end of an error of another library


@runtime_checkable
class Preprocessing(Protocol):
    """The class `Preprocessing` of a kind of data: what its preparation has learnt, as a JSON file."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the file of a folder of prepared data or of a bundle."""

    def save(self, folder: Path) -> None:
        """Write the file."""


def restrict_imports() -> None:
    """Let configurations name only classes of torch.nn, torch.optim, lightning and src, and no URL.

    A configuration names the classes to build, and importing a module runs its code. The key `trusted` of
    params.yaml allows further packages, such as [torchvision].

    Raises:
        ConfigurationError: `trusted` is no list of names of packages.
    """
    set_parsing_settings(
        # Lightning's demos download data
        import_path_denylist=["*", "lightning.pytorch.demos"],
        import_path_allowlist=["torch.nn", "torch.optim", "lightning", "src", *trusted_packages()],
        config_read_mode_fsspec_enabled=False,
        instantiate_subclass_spec_in_any=False,
        # passed as an object; jsonargparse would make each field of a dataclass an argument of the model
        subclasses_enabled=[Preprocessing],
    )


def trusted_packages() -> list[str]:
    """The packages that the user allows configurations to name: `trusted` in params.yaml, if it is here."""
    try:
        text = PARAMETERS.read_text(encoding="utf-8") if PARAMETERS.is_file() else ""
        if "trusted:" not in text:
            return []
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ConfigurationError(f"{PARAMETERS} is not YAML in UTF-8: {error}") from None
    names = (content.get("trusted") or []) if isinstance(content, dict) else []
    if not isinstance(names, list) or not all(re.fullmatch(r"\w+(\.\w+)*", str(name)) for name in names):
        raise ConfigurationError(f"{PARAMETERS}: trusted must be a list of packages such as [torchvision]")
    return [str(name) for name in names]


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """The sha256 over names, types, shapes and values of tensors, in the order of the names."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # as bytes, since NumPy has no bfloat16
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file as arrays; bfloat16, which NumPy does not have, as float32."""
    tensors = load_file(path)
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in tensors.items()
    }


def weights_of(model: LightningModule) -> dict[str, Tensor]:
    """The parameters and buffers of a model, each tensor once: a shared layer has its first name.

    Those of a lazy layer that has not seen a batch are left out.
    """
    parts: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    parts |= model.named_buffers(remove_duplicate=False)
    seen: set[int] = set()
    weights = {}
    # some modules leave parts out by a `state_dict` of their own, without arguments
    for name, tensor in model.state_dict().items():
        place = id(parts.get(name, tensor))
        if place not in seen and not is_lazy(tensor):
            seen.add(place)
            weights[name] = tensor.detach()
    return weights


def check_bundle_folder(folder: Path) -> None:
    """Refuse a folder that cannot be replaced by a bundle, since it holds other files than one.

    Raises:
        ConfigurationError: the folder holds another file than those of its manifest.
    """
    require_ours(folder, dict.fromkeys([*manifest_files(folder), MANIFEST]))


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors needs them: further ones of the same memory are copied."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in weights.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return apart


def write_bundle(
    folder: Path,
    weights: dict[str, Tensor],
    task: str,
    configuration: str,
    prepared: Path,
    documents: dict[str, str],
) -> None:
    """Write the bundle of a trained model.

    Args:
        folder: models/<model>.
        weights: of the model, as `weights_of` has them.
        task: that it is trained for.
        configuration: the resolved configuration, YAML.
        prepared: the folder of the prepared data, whose preprocessing.json goes along. A model whose data
            module reads other data has none.
        documents: further text files by name, such as the history of the training.

    Raises:
        ConfigurationError: as `check_bundle_folder`.
    """
    check_bundle_folder(folder)
    weights = _apart({name: tensor.cpu().contiguous() for name, tensor in weights.items()})
    with written_whole(folder) as partial:
        save_file(weights, partial / WEIGHTS)
        (partial / CONFIGURATION).write_text(configuration, encoding="utf-8")
        # safetensors lets its owner alone read it
        shutil.copymode(partial / CONFIGURATION, partial / WEIGHTS)
        if (prepared / PREPROCESSING).is_file():
            shutil.copyfile(prepared / PREPROCESSING, partial / PREPROCESSING)
        for name, text in documents.items():
            (partial / name).write_text(text, encoding="utf-8")
        entries = {
            "format": FORMAT,
            "task": task,
            "tensors": tensors_digest(weights),
            "prepared": data_digest(prepared),
            "requirements.lock": file_digest(LOCK) if LOCK.is_file() else None,
        }
        write_manifest(partial, **entries)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have the digests of its manifest.

    Args:
        folder: of the bundle.
        manifest: the content of manifest.json.
        configuration: the resolved configuration of its training.
    """

    folder: Path
    manifest: dict[str, Any]
    configuration: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Read a bundle and check every file. If it is replaced meanwhile, the new one is read.

        Raises:
            ConfigurationError: there is no bundle, or one of another format.
            IntegrityError: a file is missing or no regular file, is too large, differs from the manifest, or
                lies outside the folder.
        """
        use_exact_square_roots()  # those of metrics, too, are the same on every processor
        before = _version(folder)
        try:
            return cls._read(folder)
        except (LockstepError, FileNotFoundError):
            if _version(folder) == before:
                raise
            return cls._read(folder)

    @classmethod
    def _read(cls, folder: Path) -> "Bundle":
        manifest = _checked_manifest(folder)
        try:
            configuration = parsed_yaml((folder / CONFIGURATION).read_text(encoding="utf-8"))
            threads = configuration.get("threads", 1)
            if not isinstance(configuration["model"]["class_path"], str):
                raise TypeError("model.class_path is not a text")
            if isinstance(threads, bool) or threads not in range(1, MOST_THREADS + 1):
                raise ValueError(f"threads is {threads!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{folder / CONFIGURATION} is damaged: {_short(error)}") from None
        return cls(folder, manifest, configuration)

    @property
    def task(self) -> str:
        """The task that it was trained for."""
        return Path(str(self.manifest.get("task", self.folder.name))).name

    @property
    def name(self) -> str:
        """The name of the model."""
        return Path(str(self.configuration.get("name") or self.task)).name

    @property
    def kind(self) -> str:
        """The kind of data, a package of src/, whose model it holds.

        Raises:
            IntegrityError: this project has no such kind.
        """
        return self._package_of(self.configuration["model"]["class_path"])

    def _package_of(self, path: str) -> str:
        """The package of src/ of a class."""
        project, _, rest = path.partition(".")
        kind = rest.partition(".")[0]
        if project != "src" or not kind.isidentifier() or find_spec(f"src.{kind}") is None:
            raise IntegrityError(f"{self.folder / CONFIGURATION}: there is no kind of data '{kind or path}'")
        return kind

    def part(self, name: str) -> ModuleType | None:
        """The module src.<kind>.<name> of the bundle's kind of data, such as `predict`.

        Returns:
            None if the kind has no such module, or the model is a class of a trusted package.

        Raises:
            IntegrityError: this project has no such kind.
        """
        package = self.configuration["model"]["class_path"].partition(".")[0]
        if package != "src" and any(package == each.partition(".")[0] for each in trusted_packages()):
            return None
        module = f"src.{self.kind}.{name}"
        return import_module(module) if find_spec(module) else None

    @cached_property
    def preprocessing(self) -> Any:
        """What the preparation has learnt: the class `Preprocessing` of the kind of data; None if absent.

        Raises:
            IntegrityError: the file is not what the preparation writes.
        """
        if PREPROCESSING not in self.manifest["files"]:
            return None
        # an own model may be trained on the data of a built-in kind
        data = self.configuration.get("data") or self.configuration["model"]
        kind = self._package_of(data["class_path"])
        try:
            return import_module(f"src.{kind}.preprocessing").Preprocessing.load(self.folder)
        except Exception as error:
            if known := reported_error(error):
                raise known from None
            raise IntegrityError(f"{self.folder / PREPROCESSING} is damaged: {_short(error)}") from error

    @cached_property
    def model(self) -> LightningModule:
        """The trained model, in evaluation mode.

        Raises:
            ConfigurationError: the configuration describes no model of this project, or one whose constructor
                reads a file that is not here.
            IntegrityError: the model cannot be built from the configuration and the preprocessing, or the
                weights are damaged.
        """
        restrict_imports()
        set_loader(BOUNDED, parsed_yaml, (ValueError,))
        parser = _model_parser(BOUNDED)

        def build(model: type[LightningModule], *args: Any, **kwargs: Any) -> LightningModule:
            if "preprocessing" in inspect.signature(model).parameters:
                kwargs["preprocessing"] = self.preprocessing
            return model(*args, **kwargs)

        try:
            parsed = parser.parse_object({"model": self.configuration["model"]})
            instantiators = [(build, LightningModule, True)]
            model: LightningModule = parser.instantiate(parsed, instantiators=instantiators).model
        except ArgumentError as error:
            raise ConfigurationError(f"{self.folder / CONFIGURATION}: {_short(error)}") from None
        except Exception as error:
            if known := reported_error(error):
                raise known from None
            if absent := re.search(r"No such file or directory: '([^']+)'", str(error)):
                raise ConfigurationError(
                    f"{self.folder}: the constructor of the module reads {absent[1]}, which is not here; put "
                    "it back, or train a module that reads it in setup of the stage `fit`"
                ) from error
            raise IntegrityError(
                f"{self.folder}: no model comes of {CONFIGURATION} and {PREPROCESSING}: {_short(error)}"
            ) from error
        self.load_weights(model)
        return model.eval()

    def model_of(self, kind: type[Model]) -> Model:
        """The trained model.

        Args:
            kind: the class that it must have.

        Raises:
            ConfigurationError: it has another one.
        """
        if not isinstance(self.model, kind):
            found = type(self.model).__name__
            raise ConfigurationError(f"{self.folder} holds a {found}, not a {kind.__name__}")
        return self.model

    def load_weights(self, model: LightningModule) -> None:
        """Put the weights into a model.

        Raises:
            ConfigurationError: the model has other layers than the bundle.
            IntegrityError: the tensors are not those of the manifest.
        """
        path = self.folder / WEIGHTS
        try:
            weights = load_file(path)
            found = tensors_digest(weights)
        except Exception as error:  # safetensors has errors of its own, torch RuntimeError
            if known := reported_error(error):
                raise known from None
            weights, found = {}, _short(error)
        if found != self.manifest["tensors"]:
            if _manifest_of(self.folder) != self.manifest:
                raise IntegrityError(f"{self.folder} was replaced while it was read; run the command again")
            raise IntegrityError(f"{path}: the tensors are not those of the manifest: {found}")
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        model.configure_model()  # the hook in which large modules make their layers
        # a lazy layer takes the shape of its weights
        lazy = {name for name, tensor in model.state_dict().items() if is_lazy(tensor)}
        needed = {name: tuple(tensor.shape) for name, tensor in weights_of(model).items()}
        needed |= {name: shapes[name] for name in lazy & shapes.keys()}
        if shapes != needed:
            different = sorted(set(shapes.items()) ^ set(needed.items()))
            raise ConfigurationError(f"{self.folder} holds another network: {different[0][0]} differs")
        # strict loading requires all names of shared layers
        model.load_state_dict(with_versions(weights, model), strict=False)

    def require_model(self, wanted: dict[str, Any]) -> None:
        """Refuse a configuration of another task or model.

        Args:
            wanted: the configuration; its section `model` may leave out defaults.

        Raises:
            ConfigurationError: the task or a key of the model differs, or the section cannot be read.
        """
        restrict_imports()
        parser = _model_parser()
        try:
            model = yaml.safe_load(parser.dump(parser.parse_object({"model": wanted["model"]})))["model"]
        except ArgumentError as error:
            raise ConfigurationError(explained(error)) from None
        here = flat_keys({"model": model, "task": wanted["task"]})
        there = flat_keys({name: self.configuration[name] for name in ("model", "task")})
        names = sorted(name for name in here | there if here.get(name) != there.get(name))
        if names:
            differences = ", ".join(f"{name}: {here.get(name)} (bundle: {there.get(name)})" for name in names)
            raise ConfigurationError(
                f"{self.folder} was trained with another model: {differences}; "
                f"train again, or use --config {self.folder}/{CONFIGURATION}"
            )

    def require_data(self, prepared: Path, arrays: bool = True) -> None:
        """Refuse other data than those of the training, whose test rows the model may have seen.

        A model that was trained without prepared data accepts any.

        Args:
            prepared: the folder of the data.
            arrays: whether those in shards are in it, too.

        Raises:
            ConfigurationError: the data are others, or not there.
            IntegrityError: a file of the data is damaged.
        """
        trained_with = self.manifest["prepared"]
        if trained_with is None:
            return
        prepared_manifest(prepared, arrays)
        found = file_digest(prepared / MANIFEST)
        if found != trained_with:
            raise ConfigurationError(
                f"{self.folder} was trained with other data than {prepared}: sha256 of {MANIFEST} "
                f"{trained_with}, here {found}; run: dvc repro train@{self.folder.name}"
            )


def _checked_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        raise ConfigurationError(f"{path} is not here; train first: dvc repro train@{folder.name}")
    _require_bounded(path)
    try:
        manifest: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        found = manifest.get("format", 0)  # the first bundles had no number
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path} is damaged: {_short(error)}") from None
    again = f"train again: dvc repro -f train@{folder.name}"
    if found != FORMAT:
        raise ConfigurationError(
            f"{folder} is a bundle of format {found}, this version of Lockstep reads format {FORMAT}; "
            f"use the version that wrote it, or {again}"
        )
    missing = {WEIGHTS, CONFIGURATION} - set(files)
    if not isinstance(manifest.get("tensors"), str):
        raise IntegrityError(f"{path} is damaged: it has no digest of the tensors")
    if missing:
        raise IntegrityError(f"{path} is damaged: it does not list {min(missing)}")
    for name in files:
        if name in ("", ".", "..") or Path(name).name != name:
            raise IntegrityError(f"{path}: '{_short(name)}' is not the name of a file in the bundle's folder")
        _require_bounded(folder / name)
    require_digests(folder, files, f"copy it again, or {again}")
    return manifest


def _require_bounded(path: Path) -> None:
    """Refuse what never ends or takes all memory when it is read: devices, pipes, and large documents.

    The weights may be as large as they are: their file is never read as a whole before its header is checked.
    """
    if not path.exists():
        return  # require_digests says so
    if not path.is_file():
        raise IntegrityError(f"{path}: not a regular file")
    size, most = path.stat().st_size, LARGEST.get(path.name, LARGEST_OTHER)
    if size > most and path.name != WEIGHTS:
        raise IntegrityError(f"{path}: {size:,} bytes, expected at most {most:,}")


def _version(folder: Path) -> tuple[int, int] | None:
    """What changes when a bundle is replaced; None while there is none."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _manifest_of(folder: Path) -> dict[str, Any] | None:
    try:
        return _checked_manifest(folder)
    except (LockstepError, FileNotFoundError):
        return None


def _short(error: object) -> str:
    """An error of another library in one line, without the documents that some of them quote."""
    text = " ".join(str(error).split())
    if isinstance(error, Exception) and not isinstance(error, ArgumentError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]} ... {text[-SHOWN:]}"


def _model_parser(mode: str = "yaml") -> ArgumentParser:
    """A parser of the section `model`; the preprocessing is not a key."""
    parser = ArgumentParser(exit_on_error=False, parser_mode=mode)
    parser.add_subclass_arguments(
        LightningModule, "model", skip={"preprocessing"}, fail_untyped=False, required=True
    )
    return parser
