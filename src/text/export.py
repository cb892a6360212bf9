"""Export a language model, word vectors with their cosines, or a classifier.

B batch, T tokens, V vocabulary, E embedding, H hidden
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan  # a prototype feature; pyproject.toml pins torch to one release
from torch.nn import functional

from src.bundle.bundle import Bundle
from src.bundle.exportable import Arrays, Exportable
from src.text.classifier import TextClassifier
from src.text.encoders import Bidirectional, Directions
from src.text.language_models import PretrainedTransformer
from src.text.model import LanguageModel, WordVectors
from src.text.neighbours import nearest
from src.text.networks import Recurrent
from src.text.preprocessing import BOS, EOS, PAD, SPECIAL, UNK, Preprocessing

LONGEST = 24
NO_NEIGHBOUR = -1.0  # the lowest cosine, so that a search for neighbours never finds it

CELLS: dict[str, type[nn.RNNCellBase]] = {
    "RNN_TANH": nn.RNNCell,
    "GRU": nn.GRUCell,
    "LSTM": nn.LSTMCell,
}


class Unrolled(nn.Module):
    """A recurrent network cell by cell; torch.export would fix the sequence length of nn.GRU and nn.LSTM.

    Args:
        network: in evaluation mode.
    """

    def __init__(self, network: Recurrent) -> None:
        super().__init__()
        self.embedding, self.projection, self.output = network.embedding, network.projection, network.output
        self.skip = network.skip
        recurrent = network.recurrent
        self.cells = nn.ModuleList()
        for layer in range(recurrent.num_layers):
            inputs = recurrent.hidden_size if layer else recurrent.input_size
            self.cells.append(_cell(recurrent, layer, inputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to logits (B, T, V) of the token after each."""
        embedded = self.embedding(tokens)  # (B, T, E)
        hidden = embedded.transpose(0, 1)  # (T, B, E)
        for cell in self.cells:
            hidden = _over_time(cell, hidden)  # (T, B, H)
        hidden = hidden.transpose(0, 1)  # (B, T, H)
        seen = torch.cat([hidden, embedded], dim=2) if self.skip else hidden
        logits: Tensor = self.output(self.projection(seen))
        return logits


def _cell(recurrent: nn.RNNBase, layer: int, inputs: int) -> nn.Module:
    """The cell of a recurrent layer with its weights."""
    cell: nn.Module = CELLS[recurrent.mode](inputs, recurrent.hidden_size)  # type: ignore[call-arg]
    weights = recurrent.state_dict()
    cell.load_state_dict({name: weights[f"{name}_l{layer}"] for name in cell.state_dict()})
    return cell


def _over_time(cell: Any, inputs: Tensor) -> Tensor:
    """Apply a cell step by step: (T, B, E) to (T, B, H)."""
    zeros = inputs.new_zeros(inputs.shape[1], cell.hidden_size)

    def step(state: Any, input: Tensor) -> tuple[Any, Tensor]:
        state = cell(input, state)
        hidden = state[0] if isinstance(state, tuple) else state
        return state, hidden.clone()  # scan does not accept a tensor twice

    start = (zeros, zeros.clone()) if isinstance(cell, nn.LSTMCell) else zeros
    outputs: Tensor = scan(step, start, inputs)[1]
    return outputs


class Neighbours(nn.Module):
    """Word vectors and their cosines.

    Args:
        vectors: (V, E).
    """

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Buffer(vectors)
        self.directions = nn.Buffer(functional.normalize(vectors, dim=1))
        numbers = torch.arange(len(vectors))
        self.numbers = nn.Buffer(numbers)
        self.special = nn.Buffer(numbers < len(SPECIAL))

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Word numbers (B,) to vectors (B, E) and cosines (B, V); -1 for itself and special tokens."""
        cosines = self.directions[words] @ self.directions.T
        itself = words[:, None] == self.numbers  # (B, V)
        return self.vectors[words], cosines.masked_fill(itself | self.special, NO_NEIGHBOUR)


class UnrolledDirections(nn.Module):
    """Both directions of a network, cell by cell."""

    def __init__(self, directions: Directions) -> None:
        super().__init__()
        layers = (directions.forwards, directions.backwards)
        self.cells = nn.ModuleList(_cell(layer, 0, layer.input_size) for layer in layers)

    def forward(self, forwards: Tensor, backwards: Tensor) -> tuple[Tensor, Tensor]:
        """Both inputs (B, T, E) to the states (B, T, H) of their direction."""
        first, second = (
            _over_time(cell, inputs.transpose(0, 1)).transpose(0, 1)
            for cell, inputs in zip(self.cells, (forwards, backwards), strict=True)
        )
        return first, second


class Classes(nn.Module):
    """A classifier with its probabilities.

    Args:
        model: in evaluation mode.
    """

    temperature: Tensor | None

    def __init__(self, model: TextClassifier) -> None:
        super().__init__()
        network: Any = copy.deepcopy(model.network)
        if isinstance(model.network, Bidirectional):
            network.directions = UnrolledDirections(network.directions)
        self.network = network
        self.register_buffer("temperature", model.temperature)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T), padded at the end, to probabilities (B, K)."""
        logits: Tensor = self.network(tokens)
        return (logits if self.temperature is None else logits / self.temperature).softmax(dim=1)


def exportable(bundle: Bundle) -> Exportable:
    """Return the exportable form of a bundle's model."""
    model, preprocessing = bundle.model, bundle.preprocessing
    if isinstance(model, TextClassifier):
        return _classifier(model, preprocessing)
    if isinstance(model, WordVectors):
        return _word_vectors(model, preprocessing)
    assert isinstance(model, LanguageModel)
    return _language_model(model, preprocessing)


def _classifier(model: TextClassifier, preprocessing: Preprocessing) -> Exportable:
    labels, largest = preprocessing.labels, {}
    assert labels is not None
    if isinstance(model.network, PretrainedTransformer):  # its positions end there
        largest["time"] = labels.longest + 2

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        length = int(generator.integers(2, min(LONGEST, labels.longest + 2), endpoint=True))
        tokens = generator.integers(len(SPECIAL), len(preprocessing.vocabulary), size=(rows, length))
        lengths = generator.integers(2, length, size=rows, endpoint=True)
        tokens[np.arange(length) >= lengths[:, None]] = PAD
        with torch.inference_mode():
            probabilities = model.predict(model(torch.from_numpy(tokens)))
        return {"tokens": tokens}, {"probabilities": probabilities.numpy()}

    return Exportable(
        kind="text_classifier",
        network=type(model.network).__name__,
        module=Classes(model).eval(),
        inputs={"tokens": torch.full((2, 8), UNK)},
        axes={"tokens": {0: "batch", 1: "time"}},
        outputs=("probabilities",),
        sample=sample,
        description={
            **_encoding(preprocessing),
            "lowercase": preprocessing.lowercase,
            "begin": BOS,
            "end": EOS,
            "longest": labels.longest,
            "classes": labels.classes,
            "target": labels.name,
            **({} if preprocessing.subwords is None else {"subwords": preprocessing.subwords}),
        },
        vocabulary=preprocessing.vocabulary,
        largest=largest,
    )


def _language_model(model: LanguageModel, preprocessing: Preprocessing) -> Exportable:
    network = model.network

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        length = generator.integers(1, LONGEST, endpoint=True)
        tokens = generator.integers(len(model.vocabulary), size=(rows, length))
        tokens[:, 0] = BOS
        with torch.inference_mode():
            logits = model(torch.from_numpy(tokens))
        return {"tokens": tokens}, {"logits": logits.numpy()}

    return Exportable(
        kind="language_model",
        network=type(network).__name__,
        module=Unrolled(network).eval() if isinstance(network, Recurrent) else network,
        inputs={"tokens": torch.full((2, 8), UNK)},
        axes={"tokens": {0: "batch", 1: "time"}},
        outputs=("logits",),
        sample=sample,
        description={**_encoding(preprocessing), "begin": BOS},
        vocabulary=model.vocabulary,
    )


def _word_vectors(model: WordVectors, preprocessing: Preprocessing) -> Exportable:
    everything = len(model.vocabulary)

    def sample(generator: np.random.Generator, rows: int) -> tuple[Arrays, Arrays]:
        words = torch.from_numpy(generator.integers(len(SPECIAL), everything, size=rows))
        cosines = torch.full((rows, everything), NO_NEIGHBOUR)
        found = nearest(model.vectors, words, everything)
        with torch.inference_mode():
            for row, (values, numbers) in enumerate(zip(*found, strict=True)):
                cosines[row, numbers] = values
        return (
            {"words": words.numpy()},
            {"vectors": model.vectors[words].numpy(), "cosines": cosines.numpy()},
        )

    return Exportable(
        kind="word_vectors",
        network=type(model.network).__name__,
        module=Neighbours(model.vectors).eval(),
        inputs={"words": torch.full((2,), UNK)},
        axes={"words": {0: "batch"}},
        outputs=("vectors", "cosines"),
        sample=sample,
        description=_encoding(preprocessing),
        vocabulary=model.vocabulary,
    )


def _encoding(preprocessing: Preprocessing) -> dict[str, Any]:
    """Describe how text becomes tokens, with the most frequent word as an example."""
    words = [token for token in preprocessing.vocabulary[len(SPECIAL) :] if token.isalpha()]
    return {
        "tokenizer": preprocessing.tokenizer,
        "convert": preprocessing.convert,
        "replace": preprocessing.replace,
        "stopwords": preprocessing.stopwords,
        "special": list(SPECIAL),
        "padding": PAD,
        "unknown": UNK,
        "example": words[0] if words else SPECIAL[UNK],
    }
