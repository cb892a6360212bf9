"""Import Lightning without the large packages that it loads but does not need, and under its older name.

`import lightning` loads TorchMetrics, which loads torchvision, SciPy and matplotlib where they are installed,
and it loads torch's compiler: together more than half of the time of the import. `LightImports` tells
TorchMetrics that these packages are absent while it is imported, and puts a placeholder in the place of the
compiler. After the import everything can be used as usual: parts of TorchMetrics that asked for a package
are imported again when they are needed, now completely. `python -m benchmarks.imports` measures the gain.

`OlderName` gives `pytorch_lightning`, as many modules import it, the modules of `lightning.pytorch`. The
package of that name has classes of its own, which Lightning's command line and Trainer do not accept.

This relies on private behaviour of the locked versions (tests/core/test_imports.py). If it fails, the package
is imported again in the ordinary way, which only takes longer.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

OPTIONAL = {"torchvision", "scipy", "matplotlib"}
COMPILER = "torch._dynamo"


class LightImports(MetaPathFinder):
    """Finds `lightning` and `torchmetrics` in the usual places and makes their first import cheaper."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual specification of a module, or None for any other module."""
        contexts = {"lightning": _compiler_absent, "torchmetrics": _optional_packages_absent}
        spec = PathFinder.find_spec(name, path, target) if name in contexts else None
        if spec is not None and spec.loader is not None:
            execute = partial(_execute, spec.loader.exec_module, contexts[name])
            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


class OlderName(MetaPathFinder):
    """Finds `pytorch_lightning` and its modules as those of `lightning.pytorch`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A specification that loads the module of the newer name; None for any other module."""
        package, _, rest = name.partition(".")
        if package != "pytorch_lightning":
            return None
        return ModuleSpec(name, _Alias(".".join(filter(None, ["lightning.pytorch", rest]))))


class _Alias(Loader):
    """Loads a module that has another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        self.spec = module.__spec__  # which the import of the alias replaces
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


def _execute(
    execute: Callable[[ModuleType], None],
    context: Callable[[], AbstractContextManager[None]],
    module: ModuleType,
) -> None:
    """Run the code of a package in a context, or without it if that fails."""
    empty = dict(vars(module))
    try:
        with context():
            execute(module)
    except Exception:
        _forget(module.__name__)
        vars(module).clear()
        vars(module).update(empty)
        sys.modules[module.__name__] = module
        execute(module)


def _forget(package: str) -> None:
    """Have a package imported anew the next time."""
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]
    parent, _, name = package.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(name, None)


@contextmanager
def _optional_packages_absent() -> Iterator[None]:
    """Answer TorchMetrics' questions for optional packages with no."""
    from unittest import mock

    from lightning_utilities.core import imports

    asked: set[str] = set()
    ask, find = imports.RequirementCache.__bool__, imports.package_available

    def met(requirement: Any) -> bool:
        package = re.split(r"[\[<>=!~]", requirement.requirement or requirement.module)[0]
        if package in OPTIONAL - {"matplotlib"}:
            asked.add(sys._getframe(1).f_globals["__name__"])
        return package not in OPTIONAL and ask(requirement)

    def available(package: str) -> bool:
        return package not in OPTIONAL and find(package)

    with (
        mock.patch.object(imports.RequirementCache, "__bool__", met),
        mock.patch.object(imports, "package_available", available),
    ):
        yield
    # nearly all modules ask for matplotlib, but only this one uses it
    plot = sys.modules["torchmetrics.utilities.plot"]
    plot.plt = imports.lazy_import("matplotlib.pyplot")  # type: ignore[attr-defined]
    for package in {re.sub(r"^(torchmetrics\.(functional\.)?\w+).*", r"\1", name) for name in asked}:
        if package not in ("torchmetrics", "torchmetrics.utilities"):
            _forget(package)


class _CompiledType(type):
    """Recognises compiled modules; as long as the compiler has not been loaded there are none."""

    def __instancecheck__(cls, instance: Any) -> bool:
        compiler = sys.modules.get(COMPILER)
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _Compiled(metaclass=_CompiledType):
    """Takes the place of torch._dynamo.OptimizedModule in Lightning's instance checks."""


@contextmanager
def _compiler_absent() -> Iterator[None]:
    """Put a placeholder with all that Lightning's modules take from torch's compiler in its place."""
    import torch

    if COMPILER in sys.modules:
        yield
        return
    placeholder = ModuleType(COMPILER)
    placeholder.OptimizedModule = _Compiled  # type: ignore[attr-defined]
    # loads the compiler at the first call, as in torch's own modules
    placeholder.disable = lambda function, recursive=True, **_: torch._disable_dynamo(  # type: ignore[attr-defined]
        function, recursive
    )
    sys.modules[COMPILER] = placeholder
    try:
        yield
    finally:
        del sys.modules[COMPILER]
