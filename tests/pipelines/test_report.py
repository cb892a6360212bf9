"""The page of a small project: its content, escaping, and the messages about missing results."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.report.page import _compressed
from pipelines.report.report import REPORT, report
from src.core.errors import ConfigurationError, IntegrityError

HOSTILE = '<script>alert("x")</script>'
CONFIG = """# Prices of things, 0.5
# of all. 2 more words.
#
task: prices
model: {class_path: a.B, init_args: {lr: 0.1}}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose two models, of two tasks, are evaluated."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "tasks: {prices: tabular, kinds: images}\nmodels: {prices: data/prepared/prices, kinds: other}\n"
        "prices: {prepare: {seed: 42}}\n"
    )
    write(
        "prices", "sample", {"test/rmse": 28672.7512, "validation/rmse": 1.0, "baseline/ridge/rmse": 30000.0}
    )
    write("kinds", "download", {"test/accuracy": 0.93751234, "shifted/1/accuracy": 0.5})


def write(
    task: str,
    source: str,
    metrics: dict[str, float],
    table: str = "| a | b |\n|---|---|\n| x | 1 |\n",
    model: str = "",
) -> None:
    model = model or task
    digest = "0123456789abcdef" * 4
    files = {
        f"reports/{model}/metrics.json": json.dumps(metrics),
        f"reports/{model}/plots/learning_curve.csv": "epoch,validation/loss\n1,0.5\n2,0.25\n3,0.75\n",
        f"reports/{model}/tables/columns.md": table,
        f"data/raw/{task}/SOURCE.json": json.dumps(
            {"source": source, "files": {"train.csv": {"bytes": 12, "rows": 3, "sha256": digest}}}
        ),
        f"models/{model}/manifest.json": json.dumps(
            {"task": task, "prepared": digest, "tensors": digest[::-1], "requirements.lock": None}
        ),
        f"models/{model}/summary.txt": "0 | network\n36.2 K    Trainable params\n36.5 K    Total params\n",
        f"models/{model}/config.yaml": "every: key\n",
        f"configs/{model}.yaml": CONFIG,
    }
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    Image.new("RGBA", (30, 20), "red").save(f"reports/{model}/plots/learning_curve.png")


def page() -> str:
    report()
    return REPORT.read_text(encoding="utf-8")


class Text(HTMLParser):
    """The words of a page, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.elements or self.elements[-1][0] != "style":
            self.words += data.split()

    def __str__(self) -> str:
        return " ".join(self.words)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_overview_has_a_row_a_model_in_their_order() -> None:
    text = str(Text(page()))
    for row in (
        "prices 28,673 RMSE ↓ , lower is better no expectation 30,000 ridge 4.4 % lower 36.5 K sample",
        "kinds 0.9375 accuracy ↑ , higher is better no expectation 36.5 K download images",
    ):
        assert row in text
    assert text.index("prices 28,673") < text.index("kinds 0.9375")
    assert "2 models of 2 tasks, 0 studies" in text


def test_a_task_shows_its_settings_and_where_it_comes_from() -> None:
    text = str(Text(page()))
    assert "Prices of things, 0.5 of all. RMSE 28,673" in text
    assert "more words" not in text
    for part in ("model a.B", "model.lr 0.1", "seed 42", "every: key", "shifted/1/accuracy 0.5", "x 1"):
        assert part in text, part
    assert f"train.csv 3 12 {'0123456789abcdef' * 4}" in text
    assert f"the trained weights {'fedcba9876543210' * 4}" in text


def test_the_verdict_on_the_expected_score_is_green_or_amber() -> None:
    Path("params.yaml").write_text("tasks: {line: tabular}\nmodels: {line: a}\n")
    entry = {"metric": "rmse", "score": 0.0851, "tolerance": 0.0002, "time": "6 s"}
    Path("data/expected_scores.yaml").write_text(json.dumps({"line": {"sample": entry}}))
    for rmse, verdict, colour in ((0.0851, "as expected", "green"), (0.2, "below", "amber")):
        write("line", "sample", {"test/rmse": rmse})
        html = page()
        assert f"{verdict} 0.0851 ± 0.0002" in str(Text(html))
        assert html.count(f'class="badge {colour}"') == 2
        assert html.count('class="badge ') == 2


def test_pictures_are_inside_the_page_with_words_for_them() -> None:
    write("prices", "sample", {"test/rmse": 1.0})
    Path("reports/prices/plots/new_kind.svg").write_text('<svg viewBox="0 0 60 40.4"></svg>')
    images = Text(page()).all("img")
    assert [image["alt"] for image in images[:2]] == [
        "Training and validation loss of prices over 3 epochs, on a logarithmic scale; the lowest"
        " validation loss, 0.25, is marked at epoch 2. A dotted line marks the epoch that was kept, if"
        " another metric has chosen it.",
        "New kind of prices.",
    ]
    assert [(image["width"], image["height"]) for image in images[:2]] == [("30", "20"), ("60", "40")]
    assert all(str(image["src"]).startswith("data:image/") for image in images)


def test_the_page_names_no_other_file_and_holds_no_script() -> None:
    text = Text(page())
    for tag in ("script", "iframe", "object", "embed", "form"):
        assert not text.all(tag)
    links = [
        str(value) for _, attributes in text.elements for name, value in attributes.items() if name == "href"
    ]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    targets = {attributes.get("id") for _, attributes in text.elements}
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    policy = next(meta["content"] for meta in text.all("meta") if "http-equiv" in meta)
    assert str(policy).startswith("default-src 'none'")


def test_names_from_outside_are_text() -> None:
    table = (
        f"| {HOSTILE} | [b](https://example.org) |\n|---|---|\n| ![c](https://example.org/d.png) | *e* |\n"
    )
    parameters = {
        "tasks": {"attack": "tabular"},
        "models": {"attack": "data/prepared/attack"},
        "studies": {"speed": {"title": HOSTILE, "task": "attack", "metric": "test/rmse"}},
    }
    Path("params.yaml").write_text(json.dumps(parameters))
    write("attack", HOSTILE, {"test/rmse": 1.0, f"baseline/{HOSTILE}/rmse": 2.0, f"{HOSTILE}": 1.0}, table)
    Path("configs/attack.yaml").write_text(f"# {HOSTILE}\n'{HOSTILE}': '{HOSTILE}'\n")
    Path("models/attack/summary.txt").write_text(f"{HOSTILE}    Total params\n")
    for folder in ("plots", "tables"):
        Path("reports/studies/speed", folder).mkdir(parents=True)
    Path("reports/studies/speed/tables/cells.md").write_text(f"# {HOSTILE}\n\n> {HOSTILE}\n\n{HOSTILE}\n")
    html = page()
    text = Text(html)
    assert not text.all("script")
    assert "alert" in str(text)
    assert len(text.all("img")) == 1
    assert "[b](https://example.org)" in str(text)
    assert "*e*" in str(text)


def test_a_table_can_be_a_csv_file() -> None:
    Path("reports/prices/tables/my_table.csv").write_text('name,value\n"a, b",1.5\n')
    text = str(Text(page()))
    assert "My table, prices name value a, b 1.5" in text


def test_tables_tell_their_headings_and_rows() -> None:
    html = page()
    assert html.count("<table") == html.count("<caption")
    assert '<th scope="col">a</th>\n<th scope="col" class="number">b</th>' in html
    assert '<th scope="row">x</th>\n<td class="number">1</td>' in html


def test_poems_are_set_from_top_to_bottom() -> None:
    poems = """# Two poems

`--data.compose.start 春 --data.compose.seed 4`

> 春风思一日，万一觉休一。
> 秋门树抱重。

`--data.compose.seed 1`

> roses are red
"""
    Path("reports/prices/tables/samples.md").write_text(poems, encoding="utf-8")
    html = page()
    verses = "春风思一日，<br>万一觉休一。<br>秋门树抱重。"
    assert f'<p class="verses vertical" lang="zh-Hans">{verses}</p>' in html
    assert '<p class="verses">roses are red</p>' in html
    assert "<figcaption><code>start 春</code>, <code>seed 4</code></figcaption>" in html
    assert "<h4>Two poems</h4>" in html


def test_studies_follow_with_their_sentence() -> None:
    section = "speed: {title: Speed of things, task: prices, metric: test/rmse, seeds: [1, 2]}"
    Path("params.yaml").write_text(
        f"tasks: {{prices: tabular}}\nmodels: {{prices: a}}\nstudies: {{{section}}}\n"
    )
    assert "Speed of things" not in page()
    Path("reports/studies/speed/tables").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"reports/studies/speed/plots .*dvc repro study@speed"):
        report()
    Path("reports/studies/speed/plots").mkdir()
    Path("reports/studies/speed/tables/cells.md").write_text(
        "# Speed: rmse\n\n|  | mean |\n|---|---|\n| a | 1 |\n\nFast.\n"
    )
    text = str(Text(page()))
    assert "Speed of things Task prices , compared by RMSE on test rows. Fast. Speed: rmse mean a 1" in text
    assert "seeds: - 1 - 2" in text


def test_the_same_results_make_the_same_bytes() -> None:
    report()
    first = REPORT.read_bytes()
    report()
    assert REPORT.read_bytes() == first
    assert not list(Path().glob(".report*"))


@pytest.mark.parametrize(
    "path",
    [
        "reports/kinds/metrics.json",
        "reports/kinds/plots",
        "reports/kinds/tables",
        "models/kinds/manifest.json",
        "data/raw/kinds/SOURCE.json",
    ],
)
def test_a_task_that_is_not_evaluated_is_told_with_the_command_that_mends_it(path: str) -> None:
    before = page()
    Path(path).rename("elsewhere")
    with pytest.raises(
        ConfigurationError, match=rf"^{re.escape(path)} is not here; run: dvc repro evaluate@kinds$"
    ):
        report()
    assert REPORT.read_text(encoding="utf-8") == before


def test_damaged_results_are_told() -> None:
    Path("reports/kinds/metrics.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"metrics\.json is damaged: .*dvc repro -f evaluate@kinds"):
        report()
    write("kinds", "sample", {"test/accuracy": 1.0})
    Path("reports/kinds/plots/learning_curve.png").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match=r"reports/kinds/plots/learning_curve\.png is not a picture"):
        report()


def test_models_that_have_not_been_run_are_left_out_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("models/kinds").rename("elsewhere")
    assert 'id="model-kinds"' not in page()
    assert "not run, so without results on the page: kinds" in capsys.readouterr().out
    Path("models/prices").rename("elsewhere, too")
    with pytest.raises(ConfigurationError, match="no trained model; run: dvc repro"):
        report()


def test_a_model_that_is_trained_but_not_evaluated_has_a_row_with_the_command() -> None:
    Path("reports/kinds/plots").rename("plots elsewhere")
    Path("reports/kinds/tables").rename("tables elsewhere")
    html = page()
    row = "kinds not evaluated yet; run: dvc repro evaluate@kinds"  # metrics.json comes from git
    assert row in str(Text(html))
    assert 'id="model-kinds"' not in html
    assert 'id="model-prices"' in html
    Path("reports/kinds/metrics.json").unlink()
    assert page() == html


def test_the_page_names_the_command_that_measures_the_disk() -> None:
    assert "W&B's files take of this disk: python -m pipelines.clean ." in str(Text(page()))


def test_a_project_without_a_task_has_an_empty_page(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text("tasks: {}\nmodels: {}\nstudies: {}\n")
    assert "<article" not in page()
    assert "the results of 0 models and 0 studies: report.html" in capsys.readouterr().out


def test_models_of_a_task_are_beside_one_another_with_the_interval_of_the_difference() -> None:
    Path("params.yaml").write_text("tasks: {prices: tabular}\nmodels: {prices: a, large: a, old: a}\n")
    losses = {"prices": [1.0, 2, 3, 4], "large": [1.0, 1, 1, 1]}
    for model, rmse in {"prices": 3.0, "large": 1.0, "old": 2.0}.items():
        write("prices", "sample", {"test/rmse": rmse}, model=model)
        if model in losses:
            np.save(f"reports/{model}/tables/test_losses.npy", losses[model])
    text = str(Text(page()))
    assert "The models of prices, on the same test rows" in text
    assert "prices 3 2.5" in text
    assert "large 1 1 -1.5 ± 2.1" in text  # 3.182 times 1.291 / 2
    assert "old 2" in text
    assert "3 models of 1 tasks" in text


def test_a_model_of_ones_own_data_needs_no_task() -> None:
    Path("params.yaml").write_text("tasks: {}\nmodels: {mine: data/mine}\n")
    write("mine", "sample", {"test/loss": 3.0})
    Path("data/raw/mine/SOURCE.json").unlink()
    assert "mine 3 loss ↓ , lower is better no expectation 36.5 K data/mine mine" in str(Text(page()))


def test_a_model_no_better_than_the_trivial_answer_is_amber() -> None:
    write("kinds", "sample", {"test/accuracy": 0.5, "not_better_than_trivial/p_value": 0.25})
    assert re.search(r'badge amber">.*no better than the trivial answer, p = 0\.25', page())


def test_a_picture_larger_than_webp_takes_is_made_smaller(tmp_path: Path) -> None:
    Image.new("L", (20_000, 10), 200).save(tmp_path / "wide.png")
    with Image.open(io.BytesIO(_compressed(tmp_path / "wide.png"))) as picture:
        assert picture.size[0] == 16_383
