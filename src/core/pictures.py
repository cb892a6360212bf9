"""The bound on pictures that others send to a service."""

import contextlib
from pathlib import Path

from PIL import Image

from src.core.errors import DataError

MOST_PIXELS = 4096 * 4096  # a file of some kilobytes may hold more than fit into memory


def require_few_pixels(path: Path) -> None:
    """Raise a DataError if a file is a picture of more than MOST_PIXELS; only its header is read."""
    with contextlib.suppress(OSError, Image.DecompressionBombError), Image.open(path) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise DataError(f"{path.name}: more than {MOST_PIXELS:,} pixels")
