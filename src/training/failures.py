"""What ends a training, as an exit code or in one line: signals, errors of Lightning and of optimizers."""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from src.core.arguments import explained
from src.core.errors import TRACEBACK_VARIABLE, ConfigurationError

# their errors can be about what a configuration asks for
OWNERS = ("lightning", "torch.optim", "jsonargparse")
# what torch says of an operation that has no deterministic algorithm, such as `cumsum_cuda_kernel`
NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")
# methods of TensorBoard's writer, which is `self.logger.experiment` of its logger only
TENSORBOARD = re.compile(
    "add_(scalars?|histogram|images?|figure|video|audio|text|graph|embedding|pr_curve|mesh|hparams|tensor)"
)


@contextmanager
def interruptions(trainer: Trainer) -> Iterator[None]:
    """End with 143 after SIGTERM and with KeyboardInterrupt after Ctrl-C; explain errors of torch.

    Args:
        trainer: that trains meanwhile.

    Raises:
        ConfigurationError: batch norm was given one row, an operation is not deterministic on this device, or
            weights were used that are in parts.
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM.
    """
    try:
        yield
    except SIGTERMException:  # to Lightning this is success, and DVC would keep a model cut off
        print("terminated", file=sys.stderr)
        sys.exit(143)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigurationError(
            "data.batch_size: batch norm needs at least 2 rows in a batch; raise it, or leave batch norm out"
        ) from error
    except RuntimeError as error:
        if found := NOT_DETERMINISTIC.match(str(error)):
            raise ConfigurationError(
                f"trainer.deterministic: {found[1]} is not deterministic on this device; use another layer "
                "or loss (docs/clusters.md), or trainer.deterministic: warn, with which the weights may "
                f"differ from run to run (for the traceback: {TRACEBACK_VARIABLE}=1)"
            ) from error
        if "mixed torch.Tensor and DTensor" not in str(error):
            raise
        raise ConfigurationError(
            "trainer.strategy: fsdp2: the module computes with the weights of a layer outside of its call, "
            "where they are in parts; call the layer, shard by fully_shard in configure_model, or use ddp"
        ) from error
    except SystemExit as error:
        if trainer.interrupted:  # Lightning turns Ctrl-C into exit 1
            raise KeyboardInterrupt from error
        raise


def refusal(error: Exception) -> str | None:
    """The message of an error that Lightning or an optimizer raises about what a configuration asks of it.

    Which options go together is known to them alone, and they say it by errors of many kinds. An error of
    the project's own code, or of a model's, is none of these.

    Args:
        error: as it was raised.

    Returns:
        None for an error of other code.
    """
    if isinstance(error, MisconfigurationException):  # such as a GPU asked for where there is none
        return f"Lightning refuses the configuration: {error}"
    if isinstance(error, AttributeError) and TENSORBOARD.fullmatch(error.name or ""):
        return (
            f"self.logger.experiment has no {error.name}, which is TensorBoard's: set trainer.logger: "
            "TensorBoardLogger (it needs the package tensorboard), or use self.log"
        )
    modules = [
        frame.f_globals.get("__name__", "")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        # where a module says that it has no such part
        if frame.f_globals.get("__name__") != "torch.nn.modules.module"
    ]
    module = modules[-1] if modules else ""
    owner = next((name for name in OWNERS if module.startswith(name)), None)
    if owner is None or isinstance(error, OSError):
        return None
    if owner == "jsonargparse":
        cause: BaseException = error
        while inner := cause.__cause__ or cause.__context__:
            cause = inner  # what the constructor of a class says
        known = cause is error or isinstance(cause, ModuleNotFoundError)
        text = explained(error) if known else f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        return f"{text} (for the traceback: {TRACEBACK_VARIABLE}=1)"
    text = f"{type(error).__name__}: {error}"
    return f"{module} refuses the configuration: {text} (for the traceback: {TRACEBACK_VARIABLE}=1)"
