"""Picture files: how they are read, one rule for each of Pillow's modes, in training and in prediction.

N images, C channels, H height, W width
"""

import logging
import math
import mmap
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError

from src.core.errors import DataError
from src.core.processes import processors
from src.images.folders import MOST_SHOWN

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]
T = TypeVar("T")

# no other formats: some, such as EPS, are programs
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
MOST_PIXELS = 89_478_485  # of a picture, as it is Pillow's own bound; in colour a quarter of a gigabyte
WHITE = 255  # of a picture file
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
DEEP = GREY[4:]
DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits of cameras, scanners and files
FEWEST_USED = 0.25  # of a range of grey values
UPRIGHT = {  # by the EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # those that exchange width and height
TIFF = (b"II*\0", b"MM\0*")  # the first bytes
AT_ONCE = 64  # picture files
ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # of JPEG and PNG, by the first bytes
ENDS_WITHIN = 1024  # the last bytes; some programs write more behind the end
BLOCK_BYTES = 8 << 20  # of decoded images


@dataclass(frozen=True)
class Decoding:
    """How picture files become 8-bit grey or colour: the same for a data set and its predictions.

    Args:
        background: the colour below transparent pixels.
        grey_range: the values that become black and white in pictures of more than 8 bits (16-bit, 32-bit
            and floating-point grey). None: the training pictures have 8 bits.
        draft: a JPEG file is reduced to 1/2, 1/4 or 1/8 while it is decoded, if neither side becomes
            shorter than this. None: it is decoded whole.
    """

    background: str = "white"
    grey_range: tuple[float, float] | None = None
    draft: int | None = None


class Header(NamedTuple):
    """What the header of a picture file says.

    Args:
        size: width and height, upright.
        mode: Pillow's.
        transparent: whether pixels can be transparent.
    """

    size: tuple[int, int]
    mode: str
    transparent: bool

    def is_colour(self, decoding: Decoding) -> bool:
        """Whether the decoded picture has colours."""
        return self.mode not in GREY or (self.transparent and not _is_grey(decoding.background))


class Pictures(NamedTuple):
    """Decoded picture files.

    Args:
        images: (N, C, H, W) of the files that can be read, a memory map; see `blocks`.
        rows: their positions in the list of paths (N,).
        decoding: as it was given, with the range of grey values if it was learnt.
        unreadable: the other files, each with the reason.
    """

    images: Pixels
    rows: list[int]
    decoding: Decoding
    unreadable: dict[Path, str]


def read_pictures(
    paths: list[Path],
    folder: Path,
    decoding: Decoding,
    resize: int | None = None,
    shape: Shape | None = None,
) -> Pictures:
    """Read picture files as (N, C, H, W): in colour if one of them is, else grey.

    The headers are read first, so that the sizes are checked. Pictures of more than 8 bits are decoded twice
    if their range is not given, once to find it: see `depth_of`. All processors decode, and the images go
    into a file as they come, so that the memory does not grow with their number.

    Args:
        paths: the files.
        folder: where the file of the images is, which has no name and vanishes with the result.
        decoding: its range of grey values is learnt from the pictures if it is None and `shape`, too.
        resize: the height and width of the result; None keeps the size, which must be the same for all.
        shape: (C, H, W) of the result, that of training; overrides `resize`.

    Raises:
        DataError: no file can be read, or the sizes differ and neither `resize` nor `shape` is given.
    """
    lost = Counter[str]()
    headers, unreadable = read_headers(paths)
    deep = [path for path, header in headers.items() if header.mode in DEEP]
    if shape is None and decoding.grey_range is None and deep:
        decoding = replace(decoding, grey_range=_learn_range(deep, unreadable))
    if not headers:
        raise unreadable_error(unreadable, len(paths))
    if shape is None:
        colour = any(header.is_colour(decoding) for header in headers.values())
        width, height = (resize, resize) if resize else _common_size(headers)
        shape = (3 if colour else 1, height, width)

    position = {path: row for row, path in enumerate(paths)}
    rows: list[int] = []
    left = [path for path in headers if path not in unreadable]

    def decode(path: Path) -> tuple[bytes, Counter[str]]:
        lost_here = Counter[str]()
        return to_shape(_read_picture(path, decoding, lost_here), shape).tobytes(), lost_here

    with tempfile.TemporaryFile(dir=folder) as file:
        for path, (pixels, lost_here) in _readable(left, decode, unreadable):
            file.write(pixels)
            lost.update(lost_here)
            rows.append(position[path])
        if not rows:
            raise unreadable_error(unreadable, len(paths))
        file.flush()
        images = np.memmap(file, np.uint8, mode="r", shape=(len(rows), *shape))
    warn_of_losses(lost, len(rows))
    return Pictures(images, rows, decoding, unreadable)


def blocks(images: Pixels, rows: NDArray[np.integer] | None = None) -> Iterator[Pixels]:
    """Copies of some images (B, C, H, W) at a time, so that a memory map is never in memory as a whole.

    Args:
        images: (N, C, H, W).
        rows: the numbers of those to take, in this order; None for all.
    """
    total = len(images) if rows is None else len(rows)
    size = max(1, BLOCK_BYTES // images[:1].nbytes)
    for start in range(0, total, size):
        part = slice(start, start + size)
        yield np.array(images[part if rows is None else rows[part]], order="C")
        if isinstance(images.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            images.base.madvise(mmap.MADV_DONTNEED)


def read_headers(paths: list[Path]) -> tuple[dict[Path, Header], dict[Path, str]]:
    """The headers of picture files, and the unreadable ones, each with the reason."""
    unreadable: dict[Path, str] = {}
    return dict(_readable(paths, _read_header, unreadable)), unreadable


def cut_pictures(paths: list[Path]) -> dict[Path, str]:
    """The JPEG and PNG files that end before their last part and cannot be decoded, each with the reason.

    Only files without the mark of the end are decoded.
    """
    cut = [path for path in paths if _lacks_end(path)]
    unreadable: dict[Path, str] = {}
    for _ in _readable(cut, lambda path: _read_picture(path, Decoding(grey_range=(0, 1))), unreadable):
        pass
    return unreadable


def _lacks_end(path: Path) -> bool:
    with path.open("rb") as file:
        end = ENDS.get(file.read(2))
        file.seek(max(path.stat().st_size - ENDS_WITHIN, 0))
        return end is not None and end not in file.read()


def _readable(
    paths: list[Path], read: Callable[[Path], T], unreadable: dict[Path, str]
) -> Iterator[tuple[Path, T]]:
    """What `read` returns for each path, in their order, by as many threads as there are processors.

    The files for which it raises a DataError go to `unreadable`.
    """

    def attempt(path: Path) -> T | DataError:
        try:
            return read(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor(processors()) as pool:
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            with _quiet():
                found = list(pool.map(attempt, part))
            for path, result in zip(part, found, strict=True):
                if isinstance(result, DataError):
                    unreadable[path] = str(result)
                else:
                    yield path, result


def unreadable_files(unreadable: dict[Path, str], total: int) -> str:
    """The number of unreadable files among `total` and the reasons for the first ones."""
    more = f" and {len(unreadable) - MOST_SHOWN:,} more" if len(unreadable) > MOST_SHOWN else ""
    shown = "; ".join(list(unreadable.values())[:MOST_SHOWN])
    return f"{len(unreadable):,} of {total:,} pictures cannot be read: {shown}{more}"


def unreadable_error(unreadable: dict[Path, str], total: int) -> DataError:
    """The error for unreadable training pictures, with the ways out."""
    return DataError(
        f"{unreadable_files(unreadable, total)}; replace or remove them, or set prepare.unreadable: skip"
    )


def _common_size(headers: dict[Path, Header]) -> tuple[int, int]:
    first, (width, height) = next(iter(headers)), next(iter(headers.values())).size
    for path, header in headers.items():
        if header.size != (width, height):
            raise DataError(
                f"{path}: {header.size[0]} x {header.size[1]} pixels, {first.name} has "
                f"{width} x {height}; set prepare.resize to bring all to one size"
            )
    return width, height


def _read_header(path: Path) -> Header:
    with _opened(path) as file:
        width, height = file.size
        if _orientation(file) in TURNED:
            width, height = height, width
        return Header((width, height), file.mode, file.has_transparency_data)


def read_picture(
    path: Path, decoding: Decoding | None = None, lost: Counter[str] | None = None
) -> Image.Image:
    """Read a picture file upright, as 8-bit grey ("L") or colour ("RGB"), by the rules of `decoded`.

    The format is found from the content, not from the ending. Of an animation or of several pages the first
    is read. The EXIF orientation, which phones write, is applied.

    Args:
        path: the file.
        decoding: of the data set.
        lost: counts what is lost, as `decoded`.

    Raises:
        DataError: the file is missing, of another format, damaged, has more than `MOST_PIXELS`, or more than
            8 bits and the data set no range for them.
    """
    with _quiet():
        return _read_picture(path, decoding, lost)


def _read_picture(
    path: Path, decoding: Decoding | None = None, lost: Counter[str] | None = None
) -> Image.Image:
    with _opened(path) as file:
        return upright(file, decoding, lost)


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn the warnings of Pillow off, but not that of too many pixels, which becomes an error.

    It counts them when it reads the header, before it allocates memory. The filters are those of the whole
    process: they are set around threads, not in them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def upright(
    file: Image.Image, decoding: Decoding | None = None, lost: Counter[str] | None = None
) -> Image.Image:
    """Convert a picture that Pillow has opened, as `read_picture` does."""
    lost = Counter() if lost is None else lost
    decoding = decoding or Decoding()
    if decoding.draft is not None:
        file.draft(None, (decoding.draft, decoding.draft))  # nothing but JPEG does anything
    if _has_deep_colours(file):
        lost["have colours of 16 bits: the lower 8 bits are left out"] += 1
    file.load()
    picture = decoded(file, decoding, lost)
    # the further pictures of an MPO file, a JPEG of phones, are previews of the first
    if getattr(file, "is_animated", False) and file.format != "MPO":
        lost["have several frames or pages: the first is read"] += 1
    orientation = _orientation(file)
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def _has_deep_colours(file: Image.Image) -> bool:
    """Whether a file that is not yet loaded has 16 bits a channel, of which Pillow keeps 8."""
    if file.mode in DEEP:
        return False
    kinds = [kind for *_, kind in getattr(file, "tile", ())]  # "RGB;16B", or of PPM ("RGB", 65535)
    return any(
        ";16" in str(kind) or (isinstance(kind, tuple) and file.format == "PPM" and kind[-1] > WHITE)
        for kind in kinds
    )


def _orientation(file: Image.Image) -> int:
    """The EXIF orientation of a picture file, 1 if it has none."""
    if file.format == "TIFF":  # Pillow turns these
        return 1
    try:
        # not that of PngImageFile, which decodes the pixels to look behind them
        return int(Image.Image.getexif(file).get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged block of metadata: of many kinds
        return 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture file within `_quiet`; any error of Pillow becomes a DataError."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a regular file")
    require_file(path)
    try:
        # a stream, as Pillow maps a named file into memory, and then mixes the rows of a turned TIFF up
        with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as file:
            yield file
    except MemoryError:
        raise
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more than {MOST_PIXELS:,} pixels; make the picture smaller") from None
    except UnidentifiedImageError:
        found = f"none of {', '.join(FORMATS)}"
        if _is_tiff(path):
            found = "a damaged TIFF, or one with other channels than 1, 3 or 4, which are read"
        raise DataError(f"{path}: not a readable image: {found}") from None
    except Exception as error:  # Pillow's decoders raise many kinds of them for damaged files
        if getattr(error, "errno", None):  # of the operating system, such as a missing permission
            raise
        raise DataError(f"{path}: not a readable image: {error or type(error).__name__}") from None


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF


def decoded(picture: Image.Image, decoding: Decoding, lost: Counter[str]) -> Image.Image:
    """Convert a picture of any of Pillow's modes to 8-bit grey ("L") or colour ("RGB").

    ====================  ==================================================================================
    1, L                  grey; black and white are 0 and 255
    LA, La                grey over the background (in colour over a background that is not grey)
    P, RGB, RGBX          colour; a palette is looked up, even if all its colours are grey
    PA, RGBA, RGBa        colour over the background, as are P, L and RGB with a transparent colour
    CMYK, YCbCr, HSV      colour by Pillow's formula; colour profiles are not applied
    LAB                   colour (sRGB)
    I;16, I;16B, I, F     grey: `decoding.grey_range` becomes 0 to 255, values outside become black or white
    ====================  ==================================================================================

    Args:
        picture: with its pixels.
        decoding: of the data set.
        lost: counts the pictures that lose something, by what it is.

    Raises:
        DataError: more than 8 bits, and the data set has no range for them.
    """
    if picture.mode in DEEP:
        return _in_8_bits(picture, decoding.grey_range, lost)
    if picture.has_transparency_data:
        return _over_background(picture, decoding.background, lost)
    if picture.mode == "CMYK":
        lost["are CMYK: their colours are approximate"] += 1
    return picture.convert("L" if picture.mode in GREY else "RGB")


def _over_background(picture: Image.Image, background: str, lost: Counter[str]) -> Image.Image:
    above = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    if above.getchannel("A").getextrema() != (WHITE, WHITE):
        lost[f"are transparent: laid over {background} (prepare.background)"] += 1
    below = Image.new("RGBA", above.size, background)
    grey = picture.mode in GREY and _is_grey(background)
    return Image.alpha_composite(below, above).convert("RGB").convert("L" if grey else "RGB")


def _is_grey(colour: str) -> bool:
    return len(set(ImageColor.getrgb(colour))) == 1


def _in_8_bits(
    picture: Image.Image, grey_range: tuple[float, float] | None, lost: Counter[str]
) -> Image.Image:
    if grey_range is None:
        raise DataError(
            f"more than 8 bits a pixel (mode {picture.mode}), the training pictures have 8; save it with 8 "
            "bits, or set prepare.grey_range and train again"
        )
    values, (low, high) = _values(picture), grey_range
    if values.min() < low or values.max() > high:
        lost[
            f"have values outside {low:g} to {high:g}, which become black or white (prepare.grey_range)"
        ] += 1
    scaled = (values.clip(low, high) - low) * (WHITE / (high - low))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _values(picture: Image.Image) -> NDArray[np.float64]:
    """The grey values (H, W) of a picture of more than 8 bits."""
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("a pixel is NaN or infinite")
    return values


def _learn_range(paths: list[Path], unreadable: dict[Path, str]) -> tuple[float, float] | None:
    """The range of grey values of pictures of more than 8 bits, from their extreme values: `depth_of`."""

    def extremes(path: Path) -> tuple[float, float, bool]:
        with _opened(path) as file:
            values = _values(file)
            return float(values.min()), float(values.max()), file.mode == "F"

    found = [extreme for _, extreme in _readable(paths, extremes, unreadable)]
    if not found:
        return None
    lows, highs, floats = zip(*found, strict=True)
    smallest, largest = min(lows), max(highs)
    low, high = depth_of(smallest, largest, all(floats))
    advice = ""
    if largest - smallest < FEWEST_USED * (high - low):
        advice = f"; prepare.grey_range: [{smallest:g}, {largest:g}] keeps more of their contrast"
    logger.warning(
        "%d pictures have more than 8 bits a pixel, their values are %g to %g: %g to %g becomes 0 to 255%s",
        *(len(found), smallest, largest, low, high, advice),
    )
    return low, high


def depth_of(smallest: float, largest: float, floats: bool) -> tuple[float, float]:
    """The range of grey values that pictures of more than 8 bits use, from the extreme values of all of them.

    It is one range for a whole data set, so that a darker picture stays darker: a range for each picture
    would make all equally bright and stretch the noise of an empty one. It is the depth of the values, not
    their extremes: 12 bits are often stored in 16, and a picture to predict may be brighter than all of
    training. As size and colour do, it describes the format of the files; it is not a fitted statistic.

    Returns:
        0 to 2^bits - 1 for the smallest of `DEPTHS` that holds the values; 0 to 1 for floating-point numbers
        of at most 1. Negative values extend it downwards to -2^bits.
    """
    low = 0.0
    if smallest < 0:
        low = -1.0 if floats and smallest >= -1 else -(2.0 ** _bits(-smallest))
    high = 1.0 if floats and largest <= 1 else 2.0 ** _bits(largest + 1) - 1
    return low, high


def _bits(value: float) -> int:
    """The smallest depth with 2^bits >= value."""
    needed = math.ceil(math.log2(max(value, 1)))
    return next((bits for bits in DEPTHS if bits >= needed), needed)


def warn_of_losses(lost: Counter[str], total: int) -> None:
    """Warn of what pictures have lost by their conversion, a line for each kind."""
    for what, number in sorted(lost.items()):
        logger.warning("%d of %d pictures %s", number, total, what)


def to_shape(image: Image.Image, shape: Shape) -> Pixels:
    """Convert a picture to grey (C = 1) or colour (C = 3) and resize it with antialiasing to (C, H, W)."""
    channels, height, width = shape
    if image.mode != (mode := "L" if channels == 1 else "RGB"):
        image = image.convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def as_picture(image: Pixels) -> Image.Image:
    """Convert an image (C, H, W) to one of Pillow."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def require_file(path: Path) -> None:
    """Raise a DataError if there is no such file."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
