"""A page to try the trained models on this machine: python -m pipelines.serve."""

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from src.core.errors import ConfigurationError, ResourceError
from src.core.paths import MODELS

if TYPE_CHECKING:
    import gradio

LARGEST_FILE = "30mb"
KEPT = (600, 3600)  # seconds between two deletions of uploads, and their age
# gradio and its dependencies read them when they are imported
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def serve(bundles: Path = MODELS, port: int = 7860, address: str = "127.0.0.1", public: bool = False) -> None:
    """Open a page with all bundles of a folder; Ctrl-C ends it.

    Args:
        bundles: the folder that contains the bundles.
        port: of the page.
        address: of the page; an address that other machines can reach needs `public`.
        public: let other machines use the page, without a password.
    """
    if not (public or _is_loopback(address)):
        raise ConfigurationError(f"other machines can reach {address}; add --public to allow it")
    blocks = page(bundles)
    try:
        launch(blocks, address, port)
    except OSError as error:
        raise ResourceError(f"the page cannot use {address}:{port}: {error}; choose another --port") from None
    print(f"the page: {blocks.local_url} (Ctrl-C ends it)", flush=True)
    blocks.block_thread()


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def page(folder: Path) -> "gradio.Blocks":
    """The page with the bundles of a folder, one per tab.

    Raises:
        ConfigurationError: there is no bundle, or gradio is not installed.
        IntegrityError: a bundle is damaged.
    """
    manifests = sorted(folder.glob("*/manifest.json"))
    if not manifests:
        raise ConfigurationError(f"{folder} contains no bundle; train first: dvc repro")
    os.environ.update(SILENT)
    try:
        import gradio
    except ModuleNotFoundError:
        raise ConfigurationError("the page needs gradio, which is not installed; run: make serve") from None
    from pipelines.serve.forms import add_form
    from src.bundle.bundle import Bundle

    with gradio.Blocks(title="Lockstep", analytics_enabled=False, delete_cache=KEPT) as blocks:
        gradio.Markdown("# Lockstep\n\nThe trained models. What you enter stays on this machine.")
        for manifest in manifests:
            with gradio.Tab(manifest.parent.name):
                add_form(Bundle.open(manifest.parent))
    return blocks


def launch(blocks: "gradio.Blocks", address: str, port: int) -> Any:
    """Start the server of a page, without a tunnel, and without fonts or scripts from other machines."""
    import gradio

    fonts, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    return blocks.launch(
        server_name=address,
        server_port=port,
        theme=gradio.themes.Base(font=fonts, font_mono=mono),
        max_file_size=LARGEST_FILE,
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
    parser.add_function_arguments(serve, skip={"public"})
    parser.add_argument(
        "--public", action="store_true", help="let other machines use the page, without a password"
    )
    serve(**parser.parse_args().as_dict())
