"""A page to try the trained models on this machine: python -m pipelines.serve."""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jsonargparse import ArgumentParser

from pipelines.parameters import PARAMETERS, read_parameters
from pipelines.serve.guard import LARGEST_UPLOAD, Guard, is_loopback
from src.bundle.registry import bundle_folder
from src.core.errors import ConfigurationError, LockstepError, ResourceError
from src.core.paths import MANIFEST, MODELS

if TYPE_CHECKING:
    import gradio

    from src.bundle.bundle import Bundle

logger = logging.getLogger(__name__)
T = TypeVar("T")

LARGEST_PORT = 65_535
SESSIONS = 32  # whose state is kept; a browser's tab begins one
KEPT = (600, 3600)  # seconds between two deletions of uploads, and their age
# gradio and its dependencies read them when they are imported
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def serve(
    bundles: Path = MODELS,
    port: int = 7860,
    address: str = "127.0.0.1",
    public: bool = False,
    api: bool = False,
    workers: int = 1,
) -> None:
    """Open a page, or a service with JSON, with all bundles of a folder; Ctrl-C ends it.

    Args:
        bundles: the folder that contains the bundles; or one bundle, or MODEL@STAGE of the registry.
        port: of the page.
        address: of the page; an address that other machines can reach needs `public`.
        public: let other machines use the page, without a password.
        api: a service with JSON instead of the page.
        workers: processes of the service; each loads all models.
    """
    if not (public or is_loopback(address)):
        raise ConfigurationError(f"other machines can reach {address}; add --public to allow it")
    if not 0 <= port <= LARGEST_PORT:
        raise ConfigurationError(f"--port: found {port}, expected 0 to {LARGEST_PORT}")
    if workers < 1 or (workers > 1 and not api):
        raise ConfigurationError(f"--workers: found {workers}; expected 1, or with --api 1 or more")
    bundles = bundle_folder(bundles)
    if api:
        try:
            from pipelines.serve.api import run
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the service needs {error.name}, which is not installed; run: make .venv/serve-ready"
            ) from None
        run(bundles, port, address, public, workers)
        return
    blocks = page(bundles)
    try:
        launch(blocks, address, port, public)
    except OSError as error:
        raise ResourceError(f"the page cannot use {address}:{port}: {error}; choose another --port") from None
    print(f"the page: {blocks.local_url} (Ctrl-C ends it)", flush=True)
    blocks.block_thread()


def page(folder: Path) -> "gradio.Blocks":
    """The page with the bundles of a folder, one per tab; those that cannot be loaded are named above.

    The page of the project's own models ends with the stages of the registry and the use of the disk.

    Raises:
        ConfigurationError: there is no bundle, or gradio is not installed.
        LockstepError: no bundle can be loaded.
    """
    folders = bundle_folders(folder)
    os.environ.update(SILENT)
    if "GRADIO_TEMP_DIR" not in os.environ:  # gradio's own is shared by all users of the machine
        uploads = tempfile.mkdtemp(prefix="lockstep-")
        atexit.register(shutil.rmtree, uploads, ignore_errors=True)
        os.environ["GRADIO_TEMP_DIR"] = uploads
    try:
        import gradio
    except ModuleNotFoundError:
        raise ConfigurationError("the page needs gradio, which is not installed; run: make serve") from None
    from pipelines.serve.forms import add_form
    from pipelines.serve.project import project_text

    loaded, problems = load_each(folders, with_form)
    with gradio.Blocks(title="Lockstep", analytics_enabled=False, delete_cache=KEPT) as blocks:
        gradio.Markdown("# Lockstep\n\nThe trained models. What you enter stays on this machine.")
        for name, problem in problems.items():
            gradio.Textbox(problem, label=f"{name}: not loaded", interactive=False)
        for bundle, form in loaded.values():
            with gradio.Tab(bundle.folder.name):
                add_form(bundle, form)
        if folder == MODELS:
            gradio.Markdown(project_text())
    return blocks


def bundle_folders(folder: Path) -> list[Path]:
    """The bundles of a folder, in the order of the models in params.yaml, then by name; or the one it is.

    Raises:
        ConfigurationError: there is none.
    """
    if (folder / MANIFEST).is_file():
        return [folder]
    found = sorted(manifest.parent for manifest in folder.glob(f"*/{MANIFEST}"))
    if not found:
        raise ConfigurationError(f"{folder} contains no bundle; train first: dvc repro")
    models = list(read_parameters().get("models") or {}) if PARAMETERS.is_file() else []
    return sorted(found, key=lambda each: models.index(each.name) if each.name in models else len(models))


def load_each(folders: list[Path], load: Callable[[Path], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Load bundles.

    Args:
        folders: one or more.
        load: called with each.

    Returns:
        What `load` has returned, and why others cannot be loaded, by the names of the folders.

    Raises:
        LockstepError: none can be loaded.
    """
    loaded: dict[str, T] = {}
    problems: dict[str, str] = {}
    for folder in folders:
        try:
            loaded[folder.name] = load(folder)
        except LockstepError as error:
            if folder is folders[-1] and not loaded:
                raise
            problems[folder.name] = str(error)
            logger.warning("%s is left out: %s", folder, error)
    return loaded, problems


def with_form(folder: Path) -> tuple["Bundle", Any]:
    """Load a bundle with its model, and the form of its kind of data."""
    from src.bundle.bundle import Bundle
    from src.bundle.predict import for_model, ready

    bundle = ready(Bundle.open(folder))
    if (form := bundle.part("form")) is None:
        raise ConfigurationError("its kind of data has no form.py; use python -m src.cli predict")
    return bundle, for_model(bundle, form.FORMS)


def launch(blocks: "gradio.Blocks", address: str, port: int, public: bool = False) -> Any:
    """Start the server of a page, without a tunnel, and without fonts or scripts from other machines."""
    import gradio
    from starlette.middleware import Middleware

    fonts, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    return blocks.launch(
        server_name=address,
        server_port=port,
        theme=gradio.themes.Base(font=fonts, font_mono=mono),
        max_file_size=LARGEST_UPLOAD,
        state_session_capacity=SESSIONS,
        app_kwargs={
            "middleware": [Middleware(Guard, local=not public, uploads=Path(os.environ["GRADIO_TEMP_DIR"]))]
        },
        footer_links=[],
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.serve", description=__doc__)
    parser.add_function_arguments(serve, skip={"public", "api"})
    parser.add_argument("--api", action="store_true", help="a service with JSON instead of the page")
    parser.add_argument(
        "--public", action="store_true", help="let other machines use the page, without a password"
    )
    serve(**parser.parse_args().as_dict())
