"""Pretrained language models, from a folder in the format of Hugging Face, as classifiers.

The folder is a raw one, so that `fetch` pins it. `prepare` reads it without running code of it and without
the network, and keeps its tokenizer and configuration in preprocessing.json and its weights beside. A bundle
needs no other file.

B batch, T tokens, H hidden, K classes
"""

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.core.errors import ConfigurationError, DataError
from src.text.encoders import Pool
from src.text.preprocessing import BOS, EOS, PAD, SPECIAL, UNK, LanguageModelFolder
from src.text.subwords import package_of_transformers

WEIGHTS = "weights.safetensors"
SAMPLE = "1"  # any text
NAMES = [SPECIAL[number] for number in (PAD, UNK, BOS, EOS)]
PRIVATE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "auto_map")


def _transformers() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # its default is to ask a server
    package = package_of_transformers("transformers")
    package.utils.logging.set_verbosity_error()
    package.utils.logging.disable_progress_bar()
    return package


def read_language_model(
    folder: Path,
) -> tuple[LanguageModelFolder, dict[str, Any], list[str], dict[str, Tensor]]:
    """Read a folder in the format of Hugging Face.

    Args:
        folder: with config.json, the weights (model.safetensors, or pytorch_model.bin) and the tokenizer
            (tokenizer.json, or vocab.txt).

    Returns:
        Its configuration, its tokenizer as JSON, its tokens (V) and its weights without a head.

    Raises:
        ConfigurationError: transformers is not installed.
        DataError: the folder holds no encoder with its tokenizer and weights.
    """
    package = _transformers()
    if not (folder / "config.json").is_file():
        raise DataError(
            f"{folder}: there is no config.json; prepare.language_model names a folder of the source, or of "
            "`files`, in the format of Hugging Face"
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = package.AutoTokenizer.from_pretrained(folder, **options)
        body, found = package.AutoModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **options
        )
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{folder}: transformers cannot read it: {reason}") from None
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise DataError(f"{folder}: the weights lack {', '.join(missing[:3])}")
    if body.config.is_encoder_decoder or not hasattr(tokenizer, "backend_tokenizer"):
        kind = type(body).__name__
        raise DataError(f"{folder}: expected an encoder such as BERT with a fast tokenizer, found {kind}")
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    begin, end = _ends(folder, backend)
    content = json.loads(backend.to_str())
    settings = {name: value for name, value in body.config.to_dict().items() if name not in PRIVATE}
    names = ("pad_token_id", "unk_token_id")
    padding, unknown = (getattr(tokenizer, name) or 0 for name in names)
    described = LanguageModelFolder(
        configuration=settings,
        special=dict(zip(NAMES, (padding, unknown, begin, end), strict=True)),
        longest=_longest(body),
    )
    weights = {name: value.contiguous() for name, value in _without_pooler(body).state_dict().items()}
    tokens = [backend.id_to_token(number) or f"<{number}>" for number in range(body.config.vocab_size)]
    return described, content, tokens, weights


def _ends(folder: Path, backend: Any) -> tuple[int, int]:
    """The numbers of the tokens before and after each text, such as [CLS] and [SEP]."""
    inner = backend.encode(SAMPLE, add_special_tokens=False).ids
    whole = backend.encode(SAMPLE).ids
    if len(whole) != len(inner) + 2 or whole[1:-1] != inner:
        tokens = backend.encode(SAMPLE).tokens
        raise DataError(
            f"{folder}: expected a tokenizer with one token before and one behind, found {tokens}"
        )
    return whole[0], whole[-1]


def _longest(body: Any) -> int | None:
    """The number of tokens that a model reads, beside those at both ends; None for any."""
    positions: int | None = getattr(body.config, "max_position_embeddings", None)
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    if positions is None or table is None:  # without a table of positions
        return None
    # RoBERTa counts from behind the padding
    return positions - 2 - (0 if table.padding_idx is None else table.padding_idx + 1)


def _without_pooler(body: Any) -> Any:
    """The layer that some models add for their pretraining is left out."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    return body


def save_weights(weights: dict[str, Tensor], folder: Path) -> None:
    """Write weights.safetensors."""
    save_file(weights, folder / WEIGHTS)


class PretrainedTransformer(nn.Module):
    """A pretrained language model and a linear layer (Devlin et al. 2019, section 4.1).

    Its configuration is that of the prepared data, which have the key `language_model`.

    Args:
        vocabulary: V.
        classes: K.
        pooling: the vector of a text: that of its first token, or the mean or the largest of each component
            of all.
        dropout: of that vector; inside the language model its own configuration says it.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        pooling: Literal["first", "mean", "max"] = "first",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocabulary, self.classes, self.pooling = vocabulary, classes, pooling
        self.dropout = nn.Dropout(dropout)

    def build(self, model: LanguageModelFolder | None) -> None:
        """Make the layers, with random weights.

        Raises:
            ConfigurationError: the data were prepared without a language model, or transformers is not
                installed.
        """
        if model is None:
            raise ConfigurationError("PretrainedTransformer needs texts that prepare.language_model encodes")
        package = _transformers()
        settings = dict(model.configuration)
        configuration = package.AutoConfig.for_model(settings.pop("model_type"), **settings)
        body = package.AutoModel.from_config(configuration, attn_implementation="sdpa", dtype=torch.float32)
        self.body: nn.Module = _without_pooler(body)
        self.pool: Pool | None = None
        if self.pooling != "first":
            self.pool = Pool(configuration.hidden_size, self.pooling)
        self.output = nn.Linear(configuration.hidden_size, self.classes)
        special = [model.special.get(name, model.special[SPECIAL[UNK]]) for name in SPECIAL]
        numbers = torch.tensor([*special, *range(self.vocabulary - len(SPECIAL))])
        self.numbers = nn.Buffer(numbers, persistent=False)  # of the language model

    def load(self, prepared: Path) -> None:
        """Begin with the pretrained weights of prepared data.

        Raises:
            FileNotFoundError: there are none.
        """
        self.body.load_state_dict(load_file(prepared / WEIGHTS))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, K)."""
        present = tokens != PAD  # (B, T)
        hidden = self.body(input_ids=self.numbers[tokens], attention_mask=present.long()).last_hidden_state
        pooled = hidden[:, 0] if self.pool is None else self.pool(hidden, present.unsqueeze(2))  # (B, H)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits
