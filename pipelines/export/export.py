"""A trained model as ONNX and torch.export programs that need nothing of this project.

Preprocessing is part of the programs where their formats allow it; the rest is described in JSON files:

| input | in model.onnx and model.pt2 | in inputs.json and vocabulary.json |
|---|---|---|
| numbers of a table | imputing, scaling | the order of the columns |
| categories of a table | one-hot encoding of codes, rare and unseen ones too | the code of each text |
| target of a table | transformation back to its unit; probabilities of classes | the names of the classes |
| images | scaling of bytes; probabilities | size, brightness range, the names of the classes |
| texts | everything after token numbers | the number of each token; tokenizer and patterns |
| points of a surface | everything | |

ONNX could look up texts, torch.export cannot; both take codes, so both are the same function.
"""

import io
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from src.core.atomic import written_whole
from src.core.digests import manifest_files, write_manifest
from src.core.errors import ConfigurationError, IntegrityError, reported_error
from src.core.outputs import require_ours
from src.core.paths import MANIFEST, MODELS
from src.core.progress import progress_bar

if TYPE_CHECKING:  # they take seconds to load, and --help needs none of them
    import numpy as np
    from torch.export import ExportedProgram

    from src.bundle.bundle import Bundle
    from src.bundle.exportable import Arrays, Exportable

EXPORTS = Path("exports")
ONNX, TORCH = "model.onnx", "model.pt2"
TOLERANCE = 1e-5
SEED = 0
ROWS_AT_ONCE = 100
SHARE_AT_JUMPS = 0.001


def export(
    model: str, bundle: Path | None = None, output: Path | None = None, samples: PositiveInt = 10_000
) -> None:
    """Write exports/<model>/: model.onnx, model.pt2, their JSON files, example.py and a model card.

    Args:
        model: the name of a trained model.
        bundle: the folder of the model; None for models/<model>.
        output: the folder to write; None for exports/<model>.
        samples: the number of random inputs for which the programs must agree with the bundle.
    """
    from pipelines.export.model_card import write_documents
    from src.bundle.bundle import Bundle

    output = output or EXPORTS / model
    opened = Bundle.open(bundle or MODELS / model)
    exportable = _exportable(model, opened)
    require_ours(output, manifest_files(output) | {MANIFEST: None})
    with written_whole(output.resolve()) as folder, _one_thread():
        _write_programs(exportable, folder)
        runners = {"ONNX Runtime": _onnx_runner, "torch.export": _torch_runner}
        _compare(exportable, {name: run(exportable, folder) for name, run in runners.items()}, samples)
        write_documents(exportable, opened, folder)
        write_manifest(folder)
    print(f"{model}: exported: {output}/")


def _exportable(model: str, bundle: "Bundle") -> "Exportable":
    from pipelines.export.module import module_exportable

    if bundle.name != model:
        raise ConfigurationError(f"{bundle.folder} is a bundle of {bundle.name}, not of {model}")
    kind = bundle.part("export")
    if kind is None:
        return module_exportable(bundle)
    exportable: Exportable = kind.exportable(bundle)
    return exportable


def _write_programs(exportable: "Exportable", folder: Path) -> None:
    """Write both programs; the ONNX program is made from the other.

    Raises:
        ConfigurationError: the network has an operation that cannot be exported.
    """
    import torch

    dimensions = {
        name: torch.export.Dim(name, max=exportable.largest.get(name))
        for axes in exportable.axes.values()
        for name in axes.values()
    }
    free = {
        input: {axis: dimensions[name] for axis, name in axes.items()}
        for input, axes in exportable.axes.items()
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about deprecated functions that torch itself uses
        try:
            program = torch.export.export(
                exportable.module, (), kwargs=exportable.inputs, dynamic_shapes=free
            )
            _forget_sources(program)
            onnx = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=list(exportable.inputs),
                output_names=exportable.outputs,
                dynamic_shapes=exportable.axes,
            )
        except Exception as error:
            if reported_error(error) is not None:
                raise
            if not isinstance(error, RuntimeError):  # of a traced operation, or a mistake of the network,
                exportable.module(**exportable.inputs)  # which raises it here, too
            first = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ConfigurationError(f"{exportable.network} cannot be exported: {first}") from error
        assert onnx is not None
        saved = io.BytesIO()  # when the disk is full, torch's own writing ends the process
        torch.export.save(program, saved)
        (folder / TORCH).write_bytes(saved.getbuffer())
        onnx.save(folder / ONNX, external_data=False)


def _forget_sources(program: "ExportedProgram") -> None:
    """Remove source locations from a program: they contain paths of this machine."""
    from torch.fx import GraphModule

    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                for name in ("stack_trace", "from_node", "nn_module_stack", "source_fn_stack", "torch_fn"):
                    node.meta.pop(name, None)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, which is fastest for small batches."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _onnx_runner(exportable: "Exportable", folder: Path) -> "Callable[[Arrays], Arrays]":
    """Run the written ONNX program, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / ONNX, options, providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(exportable.outputs, session.run(exportable.outputs, inputs), strict=True))


def _torch_runner(exportable: "Exportable", folder: Path) -> "Callable[[Arrays], Arrays]":
    """Run the written torch.export program."""
    import torch

    module = torch.export.load(folder / TORCH).module()

    def run(inputs: "Arrays") -> "Arrays":
        with torch.no_grad():
            found: Any = module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        outputs = found if isinstance(found, tuple) else (found,)
        return {name: part.numpy() for name, part in zip(exportable.outputs, outputs, strict=True)}

    return run


def _compare(exportable: "Exportable", runs: "dict[str, Callable[[Arrays], Arrays]]", samples: int) -> None:
    """Compare the programs with the bundle on random inputs, and print the largest relative differences.

    Raises:
        IntegrityError: a difference exceeds the tolerance, in more rows than jumps explain.
    """
    import numpy as np

    generator = np.random.default_rng(SEED)
    parts: dict[str, list[Any]] = {name: [] for name in runs}
    starts = range(0, samples, ROWS_AT_ONCE)
    with progress_bar(shown=sys.stderr.isatty()) as bar:
        for start in bar.track(starts, description="random inputs"):
            inputs, expected = exportable.sample(generator, min(ROWS_AT_ONCE, samples - start))
            for name, run in runs.items():
                found = run(inputs)
                rows = [relative_difference(found[output], expected[output]) for output in expected]
                parts[name].append(np.max(rows, axis=0))
    for name, differences in parts.items():
        of_rows = np.concatenate(differences)
        wrong = ~(of_rows <= TOLERANCE)  # true for NaN, too
        if wrong.mean() > (SHARE_AT_JUMPS if exportable.jumps else 0):
            raise IntegrityError(
                f"{name} differs from the bundle in {wrong.sum()} of {samples} random inputs, by "
                f"{of_rows.max():.1e} at most; {TOLERANCE:.0e} is allowed; nothing was written"
            )
        jumps = f", {wrong.sum()} at a jump left out" if wrong.any() else ""
        print(f"{name}: {samples} random inputs differ from the bundle by {of_rows[~wrong].max():.1e}{jumps}")


def relative_difference(found: "np.ndarray[Any, Any]", expected: "np.ndarray[Any, Any]") -> Any:
    """The largest |found - expected| / max(|expected|, floor) of each row (B,).

    Near 0 a relative difference means nothing, so the floor is 1, or the root mean square of the expected
    values if that is smaller.

    Args:
        found: (B, ...).
        expected: the same shape.
    """
    import numpy as np

    expected = expected.astype(np.float64)
    floor = max(min(1.0, np.sqrt(np.mean(expected**2))), np.finfo(np.float32).tiny)
    differences = np.abs(found - expected) / np.maximum(np.abs(expected), floor)
    return differences.reshape(len(expected), -1).max(axis=1)
