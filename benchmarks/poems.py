"""Time the training, generation and preparation of poems.

    python -m benchmarks.poems [--source FOLDER] [--rounds 3]

1. The fit of configs/poems.yaml against a hand-written loop with the same network and batches.
2. The course's loop against that fit: all windows of 24 characters, batches of 32, a two-layer RNN with 512
   hidden units, 20 epochs. Its time is extrapolated from 100 steps.
3. Generation of 256 poems in one batch against one by one, with the model of the fit.
4. Time and peak memory of preparing 57,000 poems with shuffled characters.
"""

import contextlib
import copy
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from jsonargparse import auto_cli
from torch import nn
from torch.nn import functional

from benchmarks.timing import TimedCLI, fit, measured
from src.bundle.bundle import Bundle
from src.core.paths import MODELS, PREPARED, RAW
from src.text.compose import Composition, compose, slots_of
from src.text.data import DocumentBatches, load_split, windows
from src.text.model import LanguageModel, divergence
from src.text.networks import Recurrent
from src.text.preprocessing import BOS, EOS, PAD, UNK, TextEncoder

TASK = "poems"
CONFIG = f"configs/{TASK}.yaml"
POEMS = 256
MANY = 57_000
WINDOW, WINDOWS_A_BATCH, COURSE_EPOCHS, TIMED_STEPS = 24, 32, 20, 100
PREPARE = """
from pathlib import Path
from pipelines.parameters import checked
from src.text.prepare import Preparation, prepare
prepare(Path("raw"), Path("prepared"), checked(Preparation, {settings}, "prepare"))
"""


def documents(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and offsets of a split."""
    tokens, offsets = load_split(PREPARED / TASK, split)
    return torch.from_numpy(tokens), torch.from_numpy(offsets)


def hand_written(model: LanguageModel, epochs: int, batch_size: int, clip: float) -> float:
    """Return the seconds of a plain loop over padded poems of similar length."""
    network = model.network
    train = DocumentBatches(documents("train"), batch_size, seed=0)
    validation = DocumentBatches(documents("validation"), 64)
    optimizer = model.optimizer(network.parameters())
    assert model.lr_scheduler is not None
    scheduler = model.lr_scheduler(optimizer, total_steps=epochs * len(train))  # type: ignore[call-arg]
    best = float("inf")
    start = time.perf_counter()
    for epoch in range(epochs):
        train.set_epoch(epoch)
        network.train()
        for (batch,) in train:
            tokens = batch.long().repeat(2 if model.r_drop else 1, 1)
            rare = model.rare[tokens] & (torch.rand(tokens.shape) < model.unknown_share)
            tokens = tokens.masked_fill(rare, UNK)
            optimizer.zero_grad()
            logits = network(tokens[:, :-1])
            target = tokens[:, 1:].flatten()
            loss = functional.cross_entropy(logits.flatten(0, 1), target, ignore_index=PAD)
            if model.r_drop:
                loss = loss + model.r_drop * divergence(logits, tokens[:, 1:] != PAD)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            scheduler.step()
        network.eval()
        score = 0.0
        with torch.no_grad():
            for (batch,) in validation:
                target = batch[:, 1:].long().flatten()
                logits = network(batch[:, :-1]).flatten(0, 1)
                score += functional.cross_entropy(logits, target, ignore_index=PAD, reduction="sum").item()
        if score < best:
            best = score
            weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)
    return time.perf_counter() - start


def course(vocabulary: list[str]) -> tuple[float, int]:
    """Return the seconds of a step of the course's loop, and the number of its steps in all epochs."""
    texts = []
    for split in ("train", "validation", "test"):
        tokens, offsets = load_split(PREPARED / TASK, split)
        rows = np.split(tokens, offsets[1:-1])
        # the course's poems have no punctuation
        texts += [[BOS, *(number for number in row if vocabulary[number].isalpha()), EOS] for row in rows]
    offsets = np.cumsum([0, *map(len, texts)])
    flat = np.array([number for text in texts for number in text], dtype=np.int32)
    found, _ = windows(flat, offsets, WINDOW + 1)
    batches = torch.from_numpy(found).long().split(WINDOWS_A_BATCH)
    network = Recurrent(len(vocabulary), "rnn", 512, 512, layers=2, dropout=0.0, tied=False, skip=False)
    optimizer = torch.optim.Adam(network.parameters())
    start = time.perf_counter()
    for tokens in batches[:TIMED_STEPS]:
        optimizer.zero_grad()
        logits = network(tokens[:, :-1])
        functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    seconds = (time.perf_counter() - start) / min(TIMED_STEPS, len(batches))
    return seconds, COURSE_EPOCHS * len(batches)


def generation(rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of writing the poems in a batch and one by one, for each round."""
    bundle = Bundle.open(MODELS / TASK)
    model = bundle.model_of(LanguageModel)
    wanted = Composition(count=POEMS)
    preprocessing = bundle.preprocessing
    slots = slots_of(wanted, TextEncoder(preprocessing))
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        together = compose(model, preprocessing, slots, wanted, range(POEMS))
        between = time.perf_counter()
        alone = [compose(model, preprocessing, slots, wanted, range(poem, poem + 1)) for poem in range(POEMS)]
        end = time.perf_counter()
        assert torch.equal(together, torch.cat(alone))
        found.append((between - start, end - between))
    return found


def compare(source: str = "sample", rounds: int = 3) -> None:
    """Print the times and their ratios, and time and memory of preparing a large corpus.

    Args:
        source: of the raw poems, as in params.yaml.
        rounds: the number of measurements of each.
    """
    from pipelines.fetch import fetch
    from pipelines.prepare import prepare

    root = Path.cwd()
    parameters = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parameters[TASK]["source"] = source if source in {"sample", "download"} else str(Path(source).resolve())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in ("configs", "data/samples", "src"):
            shutil.copytree(root / name, name)
        Path("params.yaml").write_text(yaml.safe_dump(parameters, allow_unicode=True), encoding="utf-8")
        fetch(TASK)
        prepare(TASK)
        config = yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8"))
        epochs, clip = config["trainer"]["max_epochs"], config["trainer"]["gradient_clip_val"]
        batch_size = config["data"]["init_args"]["batch_size"]
        seconds: dict[str, list[float]] = {"hand-written": [], "fit": [], "course": []}
        for _ in range(rounds):
            seconds["fit"].append(fit(CONFIG))
            model = copy.deepcopy(TimedCLI.untrained)
            seconds["hand-written"].append(hand_written(model, epochs, batch_size, clip))
            step, steps = course(model.vocabulary)
            seconds["course"].append(step * steps)
        _print(seconds, epochs)
        ratios = [alone / together for together, alone in generation(rounds)]
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        print(
            f"{POEMS} poems in one batch: "
            f"{statistics.median(ratios):.1f} times faster than one by one ({spread})"
        )
        texts = sorted((RAW / TASK).glob("*.txt"))
        poems = "\n".join(path.read_text(encoding="utf-8") for path in texts).split()
        _large_corpus(poems, parameters[TASK]["prepare"], Path(folder))


def _print(seconds: dict[str, list[float]], epochs: int) -> None:
    for way, values in seconds.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{way:13} {statistics.median(values):7.1f} s ({spread})")
    for way, other in (("fit", "hand-written"), ("course", "fit")):
        ratio = statistics.median(a / b for a, b in zip(seconds[way], seconds[other], strict=True))
        print(f"{way} takes {ratio:.2f} times {other} ({epochs} epochs of the fit)")


def _large_corpus(poems: list[str], settings: dict[str, object], folder: Path) -> None:
    stream = random.Random(0)  # noqa: S311 - characters, not keys
    (folder / "raw").mkdir()
    with (folder / "raw" / "poems.txt").open("w", encoding="utf-8") as file:
        for number in range(MANY):
            poem = poems[number % len(poems)]
            characters = [character for character in poem if character.isalpha()]
            stream.shuffle(characters)
            shuffled = [characters.pop() if character.isalpha() else character for character in poem]
            print("".join(shuffled), file=file)
    with contextlib.chdir(folder):
        took, peak, _ = measured(PREPARE.format(settings=repr(settings)), folder)
    print(f"preparing {MANY:,} poems: {took:.1f} s, peak {peak:,.0f} MiB")


if __name__ == "__main__":
    auto_cli(compare)
