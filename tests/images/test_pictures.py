"""Picture files as people have them: modes, orientations, formats, clutter, damage."""

import logging
import os
import struct
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from src.core.errors import ConfigurationError, DataError
from src.images.folders import LeftOut, pictures_of
from src.images.pictures import Decoding, decoded, depth_of, read_headers, read_picture
from src.images.prepare import Preparation, prepare
from src.images.preprocessing import Preprocessing, read_inputs
from src.images.propose import propose
from src.preparation.proposals import plain

L_SHAPE = np.array([[0, 0], [0, 255], [0, 255]], dtype=np.uint8)  # 2 wide, 3 high
UPRIGHT = {
    1: L_SHAPE,
    2: L_SHAPE[:, ::-1],
    3: L_SHAPE[::-1, ::-1],
    4: L_SHAPE[::-1],
    5: L_SHAPE.T,
    6: L_SHAPE[::-1].T,
    7: L_SHAPE[::-1, ::-1].T,
    8: L_SHAPE[:, ::-1].T,
}


def noise(count: int, seed: int = 0, high: int = 256, dtype: Any = np.uint8) -> list[Image.Image]:
    values = np.random.default_rng(seed).integers(0, high, (count, 4, 4)).astype(dtype)
    return [Image.fromarray(value) for value in values]


def write(folder: Path, ending: str = "png", **classes: list[Image.Image]) -> Path:
    for name, pictures in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            picture.save(folder / name / f"{number}.{ending}")
    return folder


def prepared(raw: Path, **settings: Any) -> tuple[Preprocessing, NDArray[np.uint8]]:
    """What is learnt, and all images."""
    folder = raw.parent / "prepared"
    prepare(raw, folder, Preparation(train=".", **settings))
    splits = [np.load(folder / f"{split}_images.npy") for split in ("train", "validation", "test")]
    return Preprocessing.load(folder), np.concatenate(splits)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_turned_as_their_exif_says(ending: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"0.{ending}"
    large = L_SHAPE.repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray(large).save(path, exif=exif, lossless=True)
    picture = read_picture(path)
    headers, _ = read_headers([path])
    assert headers[path].size == picture.size
    assert np.array_equal(np.asarray(picture.convert("L"))[4::8, 4::8] > 127, UPRIGHT[orientation] > 127)


def test_a_damaged_exif_block_says_nothing(tmp_path: Path) -> None:
    Image.fromarray(L_SHAPE).save(tmp_path / "0.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "0.png")), L_SHAPE)


@pytest.mark.parametrize(
    ("mode", "colour", "result"),
    [
        ("1", 1, 255),
        ("L", 7, 7),
        ("P", 7, (7, 7, 7)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBX", (1, 2, 3, 0), (1, 2, 3)),
        ("LA", (100, 0), 255),
        ("LA", (100, 255), 100),
        ("La", (100, 255), 100),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBa", (1, 2, 3, 255), (1, 2, 3)),
        ("PA", (7, 255), (7, 7, 7)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("YCbCr", (90, 128, 128), (90, 90, 90)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("LAB", (0, 128, 128), (0, 0, 0)),
        ("I;16", 32768, 128),
        ("I;16B", 32768, 128),
        ("I", 65535, 255),
        ("F", 257.0, 1),
    ],
)
def test_each_mode_has_its_rule(mode: str, colour: Any, result: Any) -> None:
    picture = Image.new(mode, (3, 2), colour)
    if mode in ("P", "PA"):
        picture.putpalette([value for value in range(256) for _ in "rgb"])
    found = decoded(picture, Decoding(grey_range=(0, 65535)), Counter())
    assert found.mode == ("RGB" if isinstance(result, tuple) else "L")
    assert found.getpixel((0, 0)) == (pytest.approx(result, abs=1) if mode == "LAB" else result)


def test_a_transparent_colour_becomes_the_background(tmp_path: Path) -> None:
    for mode, clear in (("L", 0), ("1", 0), ("P", 0), ("RGB", (0, 0, 0))):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (2, 2)).save(path, transparency=clear)
        for background in ("white", "#808080", "red"):
            found = np.asarray(read_picture(path, Decoding(background)).convert("RGB"))
            assert (found == np.asarray(Image.new("RGB", (2, 2), background))).all(), (mode, background)


@pytest.mark.parametrize(
    ("smallest", "largest", "floats", "expected"),
    [
        (0, 200, False, (0, 255)),
        (3, 2000, False, (0, 4095)),
        (0, 4095, False, (0, 4095)),
        (0, 4096, False, (0, 16383)),
        (9, 65535, False, (0, 65535)),
        (-1000, 3071, False, (-1024, 4095)),
        (0.0, 0.9, True, (0, 1)),
        (-0.5, 0.9, True, (-1, 1)),
        (0.0, 255.0, True, (0, 255)),
        (0, 1e12, True, (0, 2**40 - 1)),
    ],
)
def test_the_depth_of_grey_values(smallest: float, largest: float, floats: bool, expected: Any) -> None:
    assert depth_of(smallest, largest, floats) == expected


def test_16_bit_pictures_share_one_range_in_training_and_prediction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dark = [Image.fromarray(np.asarray(picture) // 8) for picture in noise(10, 1, 4096, np.uint16)]
    raw = write(tmp_path / "raw", bright=noise(10, 0, 4096, np.uint16), dark=dark)
    with caplog.at_level(logging.WARNING):
        learnt, images = prepared(raw)
    assert learnt.decoding == Decoding("white", (0, 4095))
    assert "20 pictures have more than 8 bits a pixel" in caplog.text
    assert (learnt.brightest, images.max() > 250) == (255, True)
    ((found, _, _),) = read_inputs(raw / "dark", learnt, 10)
    expected = [np.rint(np.asarray(picture) * (255 / 4095)) for picture in dark]
    assert found.max() < 33
    assert np.array_equal(found[:, 0], expected)


def test_the_range_of_16_bits_can_be_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = [np.asarray(picture) + 30_000 for picture in noise(20, 0, 1000, np.uint16)]
    values[0][0, :2] = (30_000, 30_999)
    faint = list(map(Image.fromarray, values))
    raw = write(tmp_path / "raw", a=faint[:10], b=faint[10:])
    with caplog.at_level(logging.WARNING):
        assert np.ptp(prepared(raw)[1]) < 5
    assert "prepare.grey_range: [30000, 30999] keeps more of their contrast" in caplog.text
    learnt, images = prepared(raw, grey_range=[30000, 30999])
    assert (images.min(), images.max()) == (0, 255)
    Image.new("I;16", (4, 4), 40_000).save(tmp_path / "brighter.png")
    caplog.clear()
    ((found, _, _),) = read_inputs(tmp_path / "brighter.png", learnt, 10)
    assert (found == 255).all()
    assert "1 of 1 pictures have values outside 30000 to 30999" in caplog.text


def test_a_deep_picture_for_a_model_of_8_bits_is_refused(tmp_path: Path) -> None:
    learnt, _ = prepared(write(tmp_path / "raw", a=noise(10), b=noise(10, 1)))
    Image.new("I;16", (4, 4), 9).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: more than 8 bits a pixel.*the training pictures have 8"):
        list(read_inputs(tmp_path / "0.png", learnt, 10))


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", "tif", a=noise(10, 0, 2, np.float32), b=noise(10, 1, 2, np.float32))
    assert set(np.unique(prepared(raw)[1])) == {0, 255}
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(raw / "a/3.tif")
    with pytest.raises(DataError, match=r"a/3\.tif: a pixel is NaN or infinite"):
        prepared(raw)


def on_nothing(pictures: list[Image.Image]) -> list[Image.Image]:
    """White shapes whose form is in the transparency."""
    result = []
    for picture in pictures:
        white = Image.new("RGBA", picture.size, "white")
        white.putalpha(picture)
        result.append(white)
    return result


def test_white_on_transparent_is_refused_and_black_below_is_proposed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = write(tmp_path / "raw", a=on_nothing(noise(10)), b=on_nothing(noise(10, 1)))
    with pytest.raises(DataError, match=r"all 20 images are the same.*prepare\.background"):
        prepared(raw)
    assert plain(propose(raw, None).prepare)["background"] == "black"
    caplog.clear()
    learnt, images = prepared(raw, background="black")
    assert learnt.decoding == Decoding("black")
    assert np.ptp(images) > 200
    assert "20 of 20 pictures are transparent: laid over black (prepare.background)" in caplog.text
    ((found, _, _),) = read_inputs(raw / "a/3.png", learnt, 10)
    assert np.array_equal(found[0, 0], np.asarray(noise(10)[3]))


def test_dark_pictures_are_predicted_as_they_are_trained(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a=noise(10, 0, 100), b=noise(10, 1, 100))
    learnt, _ = prepared(raw)
    ((found, _, _),) = read_inputs(raw / "a/3.png", learnt, 10)
    assert np.array_equal(found[0, 0], np.asarray(noise(10, 0, 100)[3]))


def test_animations_and_cmyk_are_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1))
    first, second = noise(2, 5)
    for ending in ("gif", "webp", "tif", "png"):
        first.save(raw / f"a/moving.{ending}", save_all=True, append_images=[second], lossless=True)
    Image.new("CMYK", (4, 4)).save(raw / "b/print.jpg")
    with caplog.at_level(logging.WARNING):
        prepared(raw)
    assert "4 of 25 pictures have several frames or pages: the first is read" in caplog.text
    assert "1 of 25 pictures are CMYK" in caplog.text
    for ending in ("gif", "webp", "tif", "png"):
        assert np.array_equal(
            np.asarray(read_picture(raw / f"a/moving.{ending}").convert("L")), np.asarray(first)
        )


def test_images_that_tell_no_class_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10))
    with pytest.raises(DataError, match=r"20 of 20 images have a copy in another class, such as .*a/0\.png"):
        prepared(raw)
    write(raw, b=noise(9, 1))
    prepared(raw)
    assert "2 of 20 images have a copy in another class" in caplog.text
    faint = [Image.fromarray(np.asarray(picture) + 100) for picture in noise(20, 3, 5)]
    prepared(write(tmp_path / "faint", a=faint[:10], b=faint[10:]))
    assert "nearly alike: no pixel differs by more than 4" in caplog.text
    flat = [Image.new("L", (4, 4), value) for value in range(0, 200, 10)]
    prepared(write(tmp_path / "flat", a=flat[:10], b=flat[10:]))
    assert "20 of 20 images are of one colour" in caplog.text


@pytest.mark.unix
def test_clutter_is_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1))
    write(raw / "a", inner=noise(2))
    write(raw, __MACOSX=noise(1))
    noise(1)[0].save(raw / "beside.png")
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (raw / "b" / name).write_bytes(b"x")
    for name in ("3.heic", "4.HEIC", "notes.txt", "README"):
        (raw / "b" / name).write_bytes(b"x")
    os.mkfifo(raw / "b/pipe.png")
    with caplog.at_level(logging.WARNING):
        _, images = prepared(raw)
    assert len(images) == 20
    expected = (
        "2 .heic, 1 .png that are no regular files, 1 .txt, 1 files without an ending, 1 pictures outside "
        "the class folders, 3 hidden, 3 pictures in the subfolders __MACOSX/, a/inner/"
    )
    assert f"{raw}: left out: {expected}" in caplog.text
    assert f"left out: {expected}" in propose(raw, None).findings
    learnt = Preprocessing.load(tmp_path / "prepared")
    caplog.clear()
    assert sum(len(part) for part, _, _ in read_inputs(raw / "a", learnt, 10)) == 10
    assert "without a prediction: 2 pictures in the subfolders a/inner/" in caplog.text
    with pytest.raises(DataError, match=r"pipe\.png: not a regular file"):
        list(read_inputs(raw / "b/pipe.png", learnt, 10))


def test_endings_and_formats(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    formats = [("PNG", "png"), ("Jpg", "jpeg"), ("gif", "gif"), ("webp", "webp"), ("bmp", "bmp")]
    formats += [("TIFF", "tiff"), ("pgm", "ppm"), ("jpg", "png"), ("png", "jpeg"), ("jpeg", "webp")]
    for number, (ending, format) in enumerate(formats):
        for name in "ab":
            (raw / name).mkdir(parents=True, exist_ok=True)
            picture = noise(1, seed=number + 100 * (name == "a"))[0]
            picture.save(raw / name / f"{number}.{ending}", format=format)
    assert len(prepared(raw)[1]) == 20


def test_folders_without_pictures_say_what_they_hold(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1), c=[])
    (raw / "c/0.avif").write_bytes(b"x")
    with pytest.raises(DataError, match=r"raw/c: no \.png, .* in this class folder, found 1 \.avif"):
        prepared(raw)
    write(raw / "c", inner=noise(3))
    with pytest.raises(DataError, match=r"found 1 \.avif, 3 pictures in the subfolders c/inner/"):
        prepared(raw)
    with pytest.raises(DataError, match="the pictures lie together; move those of each class into a folder"):
        prepared(raw / "a")
    (tmp_path / "photo.heic").write_bytes(b"\x00\xff")
    with pytest.raises(DataError, match=r"photo\.heic: expected a picture \(\.png"):
        list(read_inputs(tmp_path / "photo.heic", LEARNT, 10))


LEARNT = Preprocessing((1, 4, 4), 255, [], [], "none", [[[0.0]]], [[[1.0]]], ["a", "b"])


def test_unreadable_pictures_are_named_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1))
    whole = (raw / "a/1.png").read_bytes()
    for name, content in (("a/1.png", whole[:-30]), ("a/5.png", b"text"), ("b/0.png", b"")):
        (raw / name).write_bytes(content)
    for name in ("b/2.png", "b/3.png"):
        (raw / name).write_bytes(whole[:40])
    message = r"5 of 20 pictures cannot be read: .*not a readable image.* and 2 more; .*unreadable: skip"
    with pytest.raises(DataError, match=message):
        prepared(raw)
    _, images = prepared(raw, unreadable="skip")
    assert len(images) == 15
    lines = (tmp_path / "prepared/left_out.csv").read_text().splitlines()
    expected = ["file", "a/1.png", "a/5.png", "b/0.png", "b/2.png", "b/3.png"]
    assert [line.split(",")[0] for line in lines] == expected
    assert "left out, see left_out.csv: 5 of 20 pictures cannot be read" in caplog.text
    learnt = Preprocessing.load(tmp_path / "prepared")
    codes = np.concatenate([np.load(tmp_path / f"prepared/{s}_target.npy") for s in ("train", "test")])
    known = {np.asarray(picture).tobytes() for picture in noise(10)}
    found = np.concatenate([np.load(tmp_path / f"prepared/{s}_images.npy") for s in ("train", "test")])
    assert [image.tobytes() in known for image in found] == (codes == 0).tolist()
    with pytest.raises(DataError, match=r"b/0\.png: not a readable image"):
        list(read_inputs(raw / "b", learnt, 4))
    parts = list(read_inputs(raw / "b", learnt, 4, skip_unreadable=True))
    assert [name for _, names, _ in parts for name in names] == [
        f"{number}.png" for number in (1, *range(4, 10))
    ]


def test_links_to_outside_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1))
    noise(1, 7)[0].save(tmp_path / "elsewhere.png")
    (raw / "a/10.png").symlink_to(tmp_path / "elsewhere.png")
    prepared(raw)
    assert "1 pictures are links to outside the folder, such as" in caplog.text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"background": "paper"}, "background: 'paper', expected a colour"),
        ({"background": "#00000000"}, "background"),
        ({"grey_range": [5]}, "grey_range"),
        ({"grey_range": [5, 5]}, "grey_range"),
        ({"grey_range": [0, float("inf")]}, "grey_range"),
    ],
)
def test_bad_settings_of_pictures_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"prepare\.{named}"):
        Preparation(train=".", **settings)


def test_hidden_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(b"")
    left = LeftOut()
    assert (pictures_of(tmp_path, left), str(left)) == ([], "1 hidden")


def test_blocks_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour = [Image.fromarray(np.asarray(one.convert("RGB"))) for one in noise(20, 1)]
    raw = write(tmp_path / "raw", "jpg", a=noise(20), b=colour)
    (raw / "a" / "7.jpg").write_bytes(b"damaged")
    settings = Preparation(train=".", resize=5, unreadable="skip", scale="per_pixel")
    prepare(raw, tmp_path / "some", settings)
    monkeypatch.setattr("src.images.pictures.BLOCK_BYTES", 1)
    monkeypatch.setattr("src.images.pictures.AT_ONCE", 3)
    monkeypatch.setenv("PYTHON_CPU_COUNT", "1")
    prepare(raw, tmp_path / "others", settings)
    found, others = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("some", "others")
    )
    assert found == others
    assert len(found["left_out.csv"].splitlines()) == 2
    assert not [path for path in tmp_path.iterdir() if path.name not in ("raw", "some", "others")]


def test_images_are_written_as_numpy_writes_them(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1))
    prepared(raw)
    for path in (tmp_path / "prepared").glob("*_images.npy"):
        np.save(tmp_path / "again.npy", np.load(path))
        assert path.read_bytes() == (tmp_path / "again.npy").read_bytes()


def test_warnings_of_the_process_are_as_before(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", a=noise(10), b=noise(10, 1))
    before = list(warnings.filters)
    prepared(raw)
    assert list(warnings.filters) == before


def test_a_draft_reduces_large_jpeg_files_alike_in_prepare_and_predict(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(20):
        coarse = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if number % 3 else 1
        path = tmp_path / "raw" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((400, 300), Image.Resampling.BICUBIC).save(path, quality=95, exif=exif)
    whole, draft = tmp_path / "whole", tmp_path / "draft"
    prepare(tmp_path / "raw", whole, Preparation(train=".", resize=16))
    prepare(tmp_path / "raw", draft, Preparation(train=".", resize=16, draft=True))
    reduced = np.load(draft / "train_images.npy")
    difference = np.abs(reduced.astype(int) - np.load(whole / "train_images.npy"))
    assert 0 < difference.mean() < 2
    assert difference.max() < 16
    assert "draft" not in (whole / "preprocessing.json").read_text(encoding="utf-8")
    learnt = Preprocessing.load(draft)
    assert learnt.decoding == Decoding(draft=32)
    picture = tmp_path / "raw/a/0.jpg"
    assert read_picture(picture, learnt.decoding).size == (50, 38)
    assert read_picture(picture).size == (400, 300)
    found = {image.tobytes() for image in reduced}
    ((images, _, _),) = read_inputs(tmp_path / "raw/a", learnt, 20)
    assert sum(image.tobytes() in found for image in images) > 4
    with pytest.raises(ConfigurationError, match=r"prepare\.draft: it needs prepare\.resize"):
        Preparation(train=".", draft=True)
    assert plain(propose(tmp_path / "raw", None).prepare)["draft"] is True


def png_of_16_bits(path: Path, kind: int, channels: int) -> None:
    """A PNG of 4 x 4 pixels with 16 bits a channel, which Pillow does not write in colour."""
    rows = b"".join(b"\0" + np.arange(4 * channels, dtype=">u2").tobytes() for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


def test_colours_of_16_bits_are_read_with_a_warning(tmp_path: Path) -> None:
    lost = Counter[str]()
    for kind, channels in ((2, 3), (4, 2), (6, 4), (0, 1)):
        png_of_16_bits(tmp_path / f"{kind}.png", kind, channels)
        read_picture(tmp_path / f"{kind}.png", Decoding(grey_range=(0, 65535)), lost)
    (tmp_path / "0.ppm").write_bytes(b"P6\n4 4\n65535\n" + bytes(96))
    Image.new("RGB", (4, 4)).save(tmp_path / "1.ppm")
    Image.new("RGB", (4, 4)).save(tmp_path / "1.tif")
    for name in ("0.ppm", "1.ppm", "1.tif"):
        read_picture(tmp_path / name, None, lost)
    assert lost["have colours of 16 bits: the lower 8 bits are left out"] == 4
