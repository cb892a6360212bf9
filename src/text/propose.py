"""Texts that nobody has described yet -> a proposal for their preparation and their network."""

import re
import statistics
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from src.shared.errors import ConfigurationError
from src.shared.proposals import Noted, Proposal, count
from src.text.preprocessing import TextEncoder, read_documents

VERSE_LENGTHS = (5, 7)  # those that `compose` writes
VERSE_ENDS = re.compile(r"[，。？！；：、,.?!;:/\s]+")
MOSTLY = 0.5
TRADITIONAL = 0.02
SEEN_CHARACTERS = 20_000
SEEN_DOCUMENTS = 500
# what poems are cleaned of, so that verses end with , or a full stop: patterns of `replace`
CLEANING = {
    r"（[^（）]*）": "",
    r"[“”‘’「」『』《》〈〉〖〗()（）]": "",
    r"[；;:：]": "。",
    r"[、,]": "，",
}
FUNCTION_WORDS = (
    *"的 了 是 在 和 与 也 而 由 就 都 会 把 被 这 那 它 它们 我们 一个 有 不 他 她 我 你".split(),
    *"the of and a an in to is are was were be that this it its for on with as by at from or".split(),
)
CHARACTERS_A_WORD = 1.6  # of Chinese prose


def propose(path: Path, target: str | None) -> Proposal:
    """Look at documents and say how they may be prepared and learnt.

    Args:
        path: a .txt file with one document a line, or a folder of them, or of the .json files of
            chinese-poetry.
        target: nothing; documents have no column.

    Raises:
        ConfigurationError: a target was given.
        DataError: a file cannot be read, or there is none.
    """
    if target is not None:
        raise ConfigurationError("--target: documents have no columns, every token is to be predicted")
    documents, empty = read_documents(path)
    text = "".join(documents)
    letters = [sign for sign in text if sign.isalpha()]
    chinese = sum("\u4e00" <= sign <= "\u9fff" for sign in letters) > MOSTLY * len(letters)
    folder = path.parent if path.is_file() else path
    length = statistics.median(map(len, documents))
    findings = [
        f"{path.name or path}: {count(len(documents), 'document')}, one a line, of {length:g} characters in the "
        f"middle, {len(set(text)):,} different ones" + (f"; {empty} empty lines skipped" if empty else "")
    ]
    prepare: dict[str, Any] = {}
    if chinese and _is_traditional(text):
        prepare["convert"] = Noted("t2s", "traditional to simplified characters")
        findings.append("traditional characters: made simplified; leave `convert` out to keep them")
    regular = sum(_is_regular(document) for document in documents) / len(documents)
    propose_rest = _poems if chinese and regular > MOSTLY else _prose
    more, configuration, told, predict = propose_rest(documents, text, chinese)
    if propose_rest is _poems:
        told[0] = f"{regular:.0%} of them have verses of 5 or of 7 characters: {told[0]}"
    return Proposal(
        source=folder,
        files=[path.name] if path.is_file() else [],
        prepare=more | prepare | {"test_share": 0.1, "validation_share": 0.1, "seed": 42},
        configuration=configuration,
        findings=[*findings, *told],
        predict=predict,
    )


def _is_traditional(text: str) -> bool:
    import opencc  # other texts do without

    seen = text[:SEEN_CHARACTERS]
    changed = sum(a != b for a, b in zip(seen, opencc.OpenCC("t2s").convert(seen), strict=False))
    return changed > TRADITIONAL * len(seen)


def _is_regular(document: str) -> bool:
    lengths = {len(verse) for verse in VERSE_ENDS.split(document) if verse}
    return lengths in [{length} for length in VERSE_LENGTHS]


Parts = tuple[dict[str, Any], dict[str, Any], list[str], str]


def _poems(documents: list[str], text: str, chinese: bool) -> Parts:
    """A language model that writes poems, character by character."""
    replace = {pattern: by for pattern, by in CLEANING.items() if re.search(pattern, text)}
    prepare: dict[str, Any] = {"tokenizer": Noted("char", "each character is a token")}
    if replace:
        prepare["replace"] = Noted(replace, "patterns, in this order")
    prepare["rhymes"] = Noted(True, "so that what is written can rhyme")
    few, many = len(documents) < 1000, len(documents) >= 10_000
    network = {
        "class_path": "src.text.networks.Recurrent",
        "init_args": {
            "cell": "gru",
            "embedding_size": 96 if few else 128,
            "hidden_size": Noted(192 if few else 256, "more of it for more poems"),
            "dropout": Noted(0.2 if many else 0.5, "less of it for more poems"),
        },
    }
    configuration = _configuration(
        model="LanguageModel",
        data={"class_path": "src.text.data.DocumentData", "init_args": {"batch_size": 4 if few else 32 if many else 16}},
        network=Noted(network, "or Transformer"),
        epochs=16 if few else 3 if many else 10,
        unknown_share=0.5,
    )
    configuration["trainer"]["gradient_clip_val"] = 1
    start = Counter(document[0] for document in documents if document[0].isalpha()).most_common(1)[0][0]
    told = ["a language model of their characters"]
    return prepare, configuration, told, f"--data.compose.start {start} --data.compose.count 3"


def _prose(documents: list[str], text: str, chinese: bool) -> Parts:
    """Word vectors by the words around a word."""
    tokens = round(len(text) / CHARACTERS_A_WORD) if chinese else sum(len(d.split()) for d in documents)
    rough = {"tokenizer": "jieba", "convert": None, "replace": [], "stopwords": []}
    encoder = TextEncoder(rough)
    counts = Counter(token for document in documents[:SEEN_DOCUMENTS] for token in encoder.tokens(document))
    signs = sorted(sign for sign in set(text) if unicodedata.category(sign)[0] in "PS" and sign not in "/□")
    stopwords = [*(word for word in FUNCTION_WORDS if word in counts), *signs]
    frequent = [word for word, _ in counts.most_common() if len(word) > 1 and word not in stopwords][:2]
    prepare = {
        "tokenizer": Noted("jieba", "words; other scripts are cut at spaces and signs"),
        "stopwords": Noted(stopwords, "left out: signs and words without a meaning of their own"),
        "min_count": Noted(2 if tokens < 20_000 else 5, "rarer words are <UNK>"),
    }
    network = {
        "class_path": "src.text.networks.ContinuousBagOfWords",
        "init_args": {"embedding_size": 64 if tokens < 200_000 else 128, "dropout": 0.3},
    }
    configuration = _configuration(
        model="WordVectors",
        data={
            "class_path": "src.text.data.ContextData",
            "init_args": {
                "batch_size": 64 if tokens < 50_000 else 256,
                "width": Noted(3, "words to each side"),
            },
        },
        network=network,
        epochs=min(max(300_000 // max(tokens, 1), 3), 30),
        unknown_share=0,
    )
    script = "Chinese" if chinese else "not Chinese"
    told = [
        f"{script}, no verses of one length: word vectors, of about {count(tokens, 'word')}",
        "to write texts of another form is not what this room does; see src/text/__init__.py",
    ]
    return prepare, configuration, told, f'--data.words "[{", ".join(frequent)}]"'


def _configuration(
    model: str, data: dict[str, Any], network: Any, epochs: int, unknown_share: float
) -> dict[str, Any]:
    return {
        "seed_everything": 42,
        "monitor": Noted("validation/loss", "chooses the best epoch"),
        "mode": "min",
        "trainer": {"max_epochs": epochs},
        "data": data,
        "model": {
            "class_path": f"src.text.model.{model}",
            "init_args": {
                "network": network,
                "unknown_share": Noted(unknown_share, "of the rare tokens that training reads as <UNK>"),
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.003, "fused": True}},
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.OneCycleLR",
                    "init_args": {"max_lr": 0.003},
                },
                "lr_interval": "step",
            },
        },
    }
