"""Metrics of poems, parts of the report, and how many documents it has in memory."""

import weakref
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from src.text.baselines import bits, ngram_models
from src.text.data import DocumentBatches, PreparedDocuments
from src.text.evaluate import (
    COPY_LENGTH,
    _baselines,
    _ngrams,
    _plot_words,
    _read_corpus,
    _samples,
    _scores,
    _sizes,
    _with_unknown,
    baseline_documents,
    by_length,
    copied,
    distinct,
    is_regular,
    regulated_rate,
    rhyme_rate,
    verses_of,
)
from src.text.model import LanguageModel
from src.text.networks import Recurrent
from src.text.preprocessing import BOS, EOS, SPECIAL, Preprocessing, TextEncoder

MOON = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def test_verses_are_between_the_punctuation() -> None:
    assert verses_of(MOON) == ["床前明月光", "疑是地上霜", "举头望明月", "低头思故乡"]


@pytest.mark.parametrize(
    ("poem", "regular"),
    [
        (MOON, True),
        ("一二三四五六七，一二三四五六七？", True),
        (MOON.replace("，", "。"), False),
        (MOON[:-1], False),
        ("一二三四五，一二三四五六七。", False),
        ("一二三四五六，一二三四五六。", False),
        ("", False),
    ],
)
def test_regular_poems_have_verses_of_one_length(poem: str, regular: bool) -> None:
    assert is_regular(poem) is regular


def test_distinct_ngrams_are_counted_within_verses() -> None:
    assert distinct(["甲甲乙，乙甲甲。"], 1) == 2 / 6
    # 甲甲, 甲乙, 乙甲, 甲甲: no pair across the comma
    assert distinct(["甲甲乙，乙甲甲。"], 2) == 3 / 4


def test_copied_ngrams_stand_in_the_corpus() -> None:
    # of 床前明月, 前明月光 and the two of the other verse the corpus has one
    poems = ["床前明月光，一二三四五。"]
    known, _ = _read_corpus(["床前明月夜，疑是地上霜。"], poems, {}, {})
    assert known == {"床前明月"}
    assert copied(poems, known) == 1 / 4


def test_rhymes_are_of_the_lines_that_follow_a_line() -> None:
    rhymes = {"霜": 1, "乡": 1, "流": 2}
    assert rhyme_rate([MOON], rhymes) == 1
    # 霜 and 流 do not rhyme, nor do characters without one
    assert rhyme_rate([MOON.replace("乡", "流"), MOON.replace("乡", "龘"), MOON], rhymes) == 1 / 3
    assert rhyme_rate(["一二三四五，一二三四霜。"], rhymes) == 0


def test_the_report_has_ten_poems_that_keep_their_form() -> None:
    characters = "春月山夏秋冬江如画花风云天地人日"
    vocabulary = [*SPECIAL, "，", "。", *characters]
    preprocessing = Preprocessing(
        tokenizer="char",
        vocabulary=vocabulary,
        counts=[1] * len(vocabulary),
        rhymes=[None] * 8 + [0] * len(characters),
    )
    torch.manual_seed(0)
    model = LanguageModel(preprocessing, lambda size: Recurrent(size, embedding_size=4, hidden_size=4))
    text = _samples(model, preprocessing)
    poems = [
        "".join(line[2:].strip() for line in part.splitlines() if line.startswith("> "))
        for part in text.split("`--data")[1:]
    ]
    assert len(poems) == 10
    assert all(map(is_regular, poems))
    starts = ["".join(verse[0] for verse in verses_of(poem)) for poem in poems]
    assert (starts[6], starts[7]) == ("春夏秋冬", "江山如画")
    assert poems[3][0] == "春"


def test_documents_are_compared_with_the_trivial_answer_in_one_order() -> None:
    vocabulary = [*SPECIAL, *"春月山夏"]
    learnt = Preprocessing(tokenizer="char", vocabulary=vocabulary, counts=[1] * len(vocabulary))
    torch.manual_seed(0)
    model = LanguageModel(learnt, lambda size: Recurrent(size, embedding_size=4, hidden_size=4)).eval()
    documents = [[BOS, *range(len(SPECIAL), len(SPECIAL) + length), EOS] for length in (4, 1, 3, 1, 2)]
    offsets = torch.tensor([0, *map(len, documents)]).cumsum(0)
    batches = DocumentBatches((torch.tensor(list(chain(*documents))), offsets), 2)
    nats, _ = _scores(model, ((batch[0],) for batch in batches), "test")
    with torch.inference_mode():
        each = [float(model.negative_log_likelihood(torch.tensor([tokens]))[0]) for tokens in documents]
    assert by_length(each, list(map(len, documents))) == pytest.approx(nats)


def test_words_are_plotted_as_text(tmp_path: Path) -> None:
    _plot_words(np.eye(3), ["学习", "模型", "数据"], tmp_path / "words.svg")
    text = (tmp_path / "words.svg").read_text(encoding="utf-8")
    assert all(f">{word}</text>" in text for word in ("学习", "模型", "数据"))


# ------------------------------------------------------------- corpora that are larger than the memory

CHARACTERS = "春月山夏秋冬江如画花风云天地人日"


def small_corpus(folder: Path, seed: int = 0) -> tuple[PreparedDocuments, PreparedDocuments, LanguageModel]:
    """40 training and 30 test documents of 3 to 12 characters, and a model that was not trained."""
    draws = np.random.default_rng(seed)
    vocabulary = [*SPECIAL, *CHARACTERS]
    counts = np.zeros(len(vocabulary), int)
    for split, number in (("train", 40), ("test", 30)):
        drawn = [draws.integers(len(SPECIAL), len(vocabulary), draws.integers(3, 13)) for _ in range(number)]
        texts = [[BOS, *document.tolist(), EOS] for document in drawn]
        np.save(folder / f"{split}_tokens.npy", np.array(list(chain(*texts)), np.int32))
        np.save(folder / f"{split}_offsets.npy", np.cumsum([0, *map(len, texts)]))
        counts += np.bincount(list(chain(*texts)), minlength=len(vocabulary)) * (split == "train")
    counts[-3:] = 1  # so that some are rare
    learnt = Preprocessing(tokenizer="char", vocabulary=vocabulary, counts=counts.tolist())
    torch.manual_seed(0)
    model = LanguageModel(learnt, lambda size: Recurrent(size, embedding_size=4, hidden_size=4)).eval()
    return PreparedDocuments(folder, "train"), PreparedDocuments(folder, "test"), model


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many documents have been read, how many of them are in memory, and how many were at most."""
    found = {"read": 0, "now": 0, "most": 0}
    read = PreparedDocuments.__getitem__

    class Counted(list[int]):
        pass

    def gone() -> None:
        found["now"] -= 1

    def counted(self: PreparedDocuments, row: int) -> list[int]:
        document = Counted(read(self, row))
        found["read"] += 1
        found["now"] += 1
        found["most"] = max(found["most"], found["now"])
        weakref.finalize(document, gone)
        return document

    monkeypatch.setattr(PreparedDocuments, "__getitem__", counted)
    return found


def test_baselines_read_the_first_training_documents_and_the_test_documents_one_by_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_memory: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("src.text.evaluate.BASELINE_DOCUMENTS", 5)
    train, test, model = small_corpus(tmp_path)
    metrics = _baselines(model, train, test, np.zeros(len(test)))
    assert in_memory["read"] == 5 + len(test)
    assert in_memory["most"] <= 5 + 1
    assert "the first 5 of 40 training documents" in capsys.readouterr().out

    texts = [
        [[model.vocabulary[number] for number in document] for document in part] for part in (train, test)
    ]
    tokens, characters = map(sum, zip(*map(_sizes, texts[1]), strict=True))
    for name, one in ngram_models(_with_unknown(texts[0][:5], model), model.vocabulary).items():
        total = sum(bits(one, [document]) for document in texts[1])
        name = {"unigram": "trivial"}.get(name, name)
        assert metrics[f"baseline/{name}/perplexity"] == 2 ** (total / tokens)
        assert metrics[f"baseline/{name}/bits_per_character"] == total / characters


def test_long_training_documents_are_cut_for_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, _, _ = small_corpus(tmp_path)
    every = list(train)
    assert baseline_documents(train) == every
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("src.text.evaluate.BASELINE_DOCUMENTS", 5)
    monkeypatch.setattr("src.text.evaluate.BASELINE_TOKENS", int(train.offsets[5]))
    assert baseline_documents(train) == every[:5]
    monkeypatch.setattr("src.text.evaluate.BASELINE_TOKENS", 20)
    assert baseline_documents(train) == [every[row][:4] for row in (0, 9, 19, 29, 39)]
    assert "the first 4 tokens of 5 of 40 training documents, in even distances" in capsys.readouterr().out


def test_the_corpus_is_read_once_and_gives_what_all_of_it_gives(
    tmp_path: Path, in_memory: dict[str, int]
) -> None:
    draws = np.random.default_rng(0)
    rhymes = {sign: number % 3 for number, sign in enumerate(CHARACTERS[:-2])}
    tones = {sign: number % 2 for number, sign in enumerate(CHARACTERS[:-1])}

    def poem(length: int, lines: int) -> str:
        verses = ["".join(draws.choice(list(CHARACTERS), length)) for _ in range(2 * lines)]
        return "".join(f"{a}，{b}。" for a, b in zip(verses[::2], verses[1::2], strict=True))

    vocabulary = [*SPECIAL, "，", "。", *CHARACTERS]
    # a poem by a pattern of regulated verse, poems of several forms and no poems
    level, oblique = (next(sign for sign in CHARACTERS if tones[sign] == tone) for tone in (0, 1))
    signs = {"平": level, "仄": oblique}
    regulated = "".join(signs.get(sign, sign) for sign in "平平平仄仄，仄仄仄平平。仄仄平平仄，平平仄仄平。")
    corpus = [
        regulated,
        *(poem(*draws.choice([[5, 2], [7, 4], [5, 6]])) for _ in range(60)),
        "春月",
        "春，月山。",
    ]
    numbers = [[BOS, *map(vocabulary.index, text), EOS] for text in corpus]
    np.save(tmp_path / "train_tokens.npy", np.array(list(chain(*numbers)), np.int32))
    np.save(tmp_path / "train_offsets.npy", np.cumsum([0, *map(len, numbers)]))
    encoder = TextEncoder(Preprocessing(tokenizer="char", vocabulary=vocabulary))
    poems = [corpus[3][:12], *(poem(5, 4) for _ in range(20))]

    known, found = _read_corpus(
        map(encoder.decode, PreparedDocuments(tmp_path, "train")), poems, rhymes, tones
    )
    assert (in_memory["read"], in_memory["most"]) == (len(corpus), 1)
    every = set(_ngrams(corpus, COPY_LENGTH))
    grams = _ngrams(poems, COPY_LENGTH)
    assert copied(poems, known) == sum(gram in every for gram in grams) / len(grams) > 0
    regular = [text for text in corpus if is_regular(text)]
    pairs = [pair for text in regular for pair in pairwise(verses_of(text)[1::2])]
    same = sum(rhymes.get(a[-1], -1) == rhymes.get(b[-1], -2) for a, b in pairs)
    assert found["rhyme"] == same / len(pairs)
    short = [text for text in regular if len(verses_of(text)) in (4, 8)]
    assert found["regulated"] == regulated_rate(short, tones) > 0
