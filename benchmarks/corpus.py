"""Preparing a large corpus: CPU time and memory per megabyte of text, jieba's words by all processors.

    python -m benchmarks.corpus [--megabytes "[50, 200]"] [--tokenizer jieba]

The documents are two sentences of the sample of words each, drawn at random, with a number between, 50 or so
characters together. The memory is what the process and its helpers allocate together (RssAnon). What it is
more a megabyte is counted from one size to the next, since the helpers, which start at 12 MB, have a fixed
size. The folder of temporary files needs three times the size of the text.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from jsonargparse import auto_cli

from benchmarks.timing import Usage, watched

SENTENCES = Path("data/samples/words")
PREPARE = """
if __name__ == "__main__":  # the processes that help import what they need
    import json, sys
    from pathlib import Path
    from pipelines.parameters import checked
    from src.{kind}.prepare import Preparation, prepare
    raw, prepared, settings = sys.argv[1:]
    prepare(Path(raw), Path(prepared), checked(Preparation, json.loads(settings), "prepare"))
"""


def write_corpus(path: Path, megabytes: int) -> None:
    """Write documents, a line each."""
    texts = "\n".join(file.read_text(encoding="utf-8") for file in sorted(SENTENCES.glob("*.txt")))
    sentences = np.array([line.strip() for line in texts.splitlines() if line.strip()], dtype=object)
    generator = np.random.default_rng(0)
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 10**6:
            drawn = generator.choice(sentences, (2000, 2))
            numbers = generator.integers(10**4, size=2000)
            lines = "".join(f"{a}{n}{b}\n" for (a, b), n in zip(drawn, numbers, strict=True))
            size += len(lines.encode())
            file.write(lines)


def measured(
    raw: Path, prepared: Path, settings: dict[str, object], kind: str = "text", **environment: str
) -> Usage:
    """Prepare in a process of its own; the memory is that of all its processes together.

    Args:
        raw: the folder of raw files.
        prepared: the folder to write.
        settings: the keys below `prepare`.
        kind: the package of src that prepares.
        **environment: further variables.
    """
    program = raw.parent / "prepare_corpus.py"
    program.write_text(PREPARE.format(kind=kind), encoding="utf-8")
    return watched(
        [str(program), str(raw), str(prepared), json.dumps(settings)],
        helpers=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())} | environment,
    )


def run(megabytes: list[int] | None = None, tokenizer: Literal["jieba", "char", "word"] = "jieba") -> None:
    """Print the time and the memory of preparing.

    Args:
        megabytes: the sizes of the text; 50 and 200 if none is given.
        tokenizer: of the preparation.
    """
    settings: dict[str, object] = {"tokenizer": tokenizer, "min_count": 2}
    before: tuple[int, float] | None = None
    for size in megabytes or [50, 200]:
        with tempfile.TemporaryDirectory() as name:
            raw = Path(name, "raw")
            raw.mkdir()
            write_corpus(raw / "corpus.txt", size)
            used = measured(raw, Path(name, "prepared"), settings)
        more = f", {(used.allocated - before[1]) / (size - before[0]):.2f} MiB more a MB" if before else ""
        before = (size, used.allocated)
        print(
            f"{tokenizer} {size:,} MB: {used.seconds:.1f} s, CPU {used.cpu / size:.2f} s a MB, "
            f"{used.allocated:,.0f} MiB{more}",
            flush=True,
        )


if __name__ == "__main__":
    auto_cli(run)
