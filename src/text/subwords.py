"""Tokens that are parts of words: learnt from training texts, or those of a pretrained language model.

They are a tokenizer of the package tokenizers as its JSON, which a bundle has in preprocessing.json.
"""

import json
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from src.core.errors import ConfigurationError

UNKNOWN = "<UNK>"
LEAST = 2  # how often a pair occurs that becomes one token


def package_of_transformers(name: str) -> Any:
    """Import tokenizers or transformers, which are not among the locked packages.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"the package {name} is not installed; run: make setup EXTRAS=transformers"
        ) from None


def learn_subwords(texts: Iterable[str], number: int) -> dict[str, Any]:
    """Learn subwords by byte-pair encoding (Sennrich et al. 2016).

    Spaces are a part of the token behind them, as the sign ▁ (Kudo and Richardson 2018); signs of punctuation
    are tokens of their own. The result does not depend on the number of threads.

    Args:
        texts: clean training texts.
        number: of different subwords, at most.

    Returns:
        The tokenizer.

    Raises:
        ConfigurationError: tokenizers is not installed.
    """
    package = package_of_transformers("tokenizers")
    tokenizer = package.Tokenizer(package.models.BPE(unk_token=UNKNOWN))
    before = package.pre_tokenizers
    tokenizer.pre_tokenizer = before.Sequence([before.Metaspace(), before.Punctuation()])
    trainer = package.trainers.BpeTrainer(
        vocab_size=number, min_frequency=LEAST, special_tokens=[UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


class Subwords:
    """A tokenizer.

    Args:
        content: its JSON.

    Raises:
        ConfigurationError: tokenizers is not installed.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.tokenizer = package_of_transformers("tokenizers").Tokenizer.from_str(json.dumps(content))
        self.unknown = content["model"].get("unk_token")

    def cut(self, text: str) -> list[str]:
        """The subwords of a text; what the tokenizer does not know is `<UNK>`."""
        found = self.tokenizer.encode(text, add_special_tokens=False).tokens
        return [UNKNOWN if token == self.unknown else token for token in found]
