"""Names that matplotlib's own font cannot draw get another font, or a warning."""

import warnings
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from src.core.fonts import font_for
from src.reporting.figures import plot_confusion_matrix, save_figure

chinese_font = pytest.mark.skipif(not font_for("猫"), reason="no font with Chinese characters is installed")


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    font_for.cache_clear()


def picture_of(text: str, path: Path) -> np.ndarray:
    figure = Figure(figsize=(1, 1))
    figure.text(0.2, 0.2, text)
    save_figure(figure, path)
    return np.asarray(matplotlib.image.imread(path))


@pytest.mark.parametrize("text", ["", "weight (kg)", "größer ≥ µ", "рост", "first\nsecond"])
def test_a_text_that_matplotlib_can_draw_keeps_its_font(text: str) -> None:
    assert font_for(text) is None


@chinese_font
def test_chinese_characters_are_drawn(tmp_path: Path) -> None:
    cat, dog = (picture_of(word, tmp_path / "word.png") for word in ("猫", "狗"))
    assert (cat != dog).any()  # two boxes would be equal


@chinese_font
def test_classes_and_labels_of_a_figure_are_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion_matrix(
            np.array([0, 1]), np.array([0, 0]), ["猫", "狗"], "动物", tmp_path / "matrix.png"
        )
        figure = Figure()
        figure.subplots().barh(["体重", "身高"], [1, 2])
        save_figure(figure, tmp_path / "bars.png")


def test_a_missing_font_is_named(no_fonts: None, caplog: pytest.LogCaptureFixture) -> None:
    assert font_for("体重") is None
    assert "no installed font has the characters of '体重'" in caplog.text
    font_for.cache_clear()


def test_fonts_that_cannot_be_used_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "damaged.ttf")])
    font_for.cache_clear()
    assert font_for("猫") is None
    font_for.cache_clear()


@pytest.mark.parametrize("text", ["$10%-$20%", "price_$_usd_$", "$60K - $80K"])
def test_signs_of_dollars_are_no_formulas(text: str, tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    shown = figure.text(0.2, 0.2, text)
    save_figure(figure, tmp_path / "a.png")
    assert not shown.get_parse_math()
