"""Training through the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from src.cli import main
from src.text.prepare import Preparation, prepare

CHARACTERS = "春夏秋冬东南西北金木水火土风花雪月山川云天地人日星江海河湖石"
CONFIG = Path(__file__).parents[2] / "configs/poems.yaml"
RECURRENT = {"cell": "lstm", "layers": 2, "embedding_size": 8, "hidden_size": 8}


@pytest.mark.tasks("poems")
@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize(
    ("network", "options"),
    [
        ({"class_path": "src.text.networks.Transformer", "init_args": {"embedding_size": 16}}, []),
        ({"class_path": "src.text.networks.Recurrent", "init_args": RECURRENT}, ["--data.window=4"]),
    ],
    ids=["transformer", "lstm with windows"],
)
def test_other_networks_train_and_write_poems(
    network: dict[str, Any],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = Path("data/raw/poems")
    raw.mkdir(parents=True)
    (raw / "poems.txt").write_text("".join(f"甲{one}，乙丙{one}。\n" for one in CHARACTERS), encoding="utf-8")
    prepare(raw, Path("data/prepared/poems"), Preparation())
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["model"]["init_args"]["network"] = network
    config["trainer"]["max_epochs"] = 1
    Path("poems.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    main(["fit", "--config", "poems.yaml", *options])
    assert "test/perplexity" in capsys.readouterr().out
    main(["predict", "--config", "poems.yaml", "--data.compose.start=春"])
    assert Path("predictions/poems.txt").read_text(encoding="utf-8").startswith("春")
