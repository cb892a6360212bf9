from pathlib import Path

from matplotlib.figure import Figure

from src.tabular import study_figures
from src.tabular.study_figures import FIGURES, POINTS
from src.training.networks import ACTIVATIONS


def test_every_activation_is_drawn_beside_its_derivative(tmp_path: Path, monkeypatch) -> None:
    seen: list[Figure] = []
    monkeypatch.setattr(study_figures, "save_figure", lambda figure, path: seen.append(figure))
    name, plot = FIGURES["activation"]
    plot(tmp_path / name)
    panels = {axes.get_title(): axes for axes in seen[0].axes if axes.get_title()}
    assert set(panels) == set(ACTIVATIONS)

    def slope(name: str, place: float) -> float:
        line = panels[name].lines[1]
        assert len(line.get_xdata()) == POINTS
        index = min(range(POINTS), key=lambda number: abs(line.get_xdata()[number] - place))
        return float(line.get_ydata()[index])

    assert round(slope("sigmoid", 0), 3) == 0.25
    assert round(slope("tanh", 0), 3) == 1
    assert slope("relu", -1) == 0
    assert slope("relu", 1) == 1
    assert slope("step", 1) == 0
    assert slope("identity", -3) == 1
    (image,) = panels["softmax"].images
    assert image.get_array().shape == (5, 5)
    assert abs(image.get_array().sum(axis=0)).max() < 1e-6
