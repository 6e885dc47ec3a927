from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lorameta.data import Example
from lorameta.encoder import TokenEncoder, tokenizer_hash
from lorameta.errors import BankError, DataError

ROWS = [
    Example("Is it an animal? the cat", ("yes",)),
    Example("Is it an animal? the mat", ("no", "never")),
    Example("a row without an answer, much longer than the eight tokens that the tokenizer's file cuts at"),
]


def test_counts_are_those_of_the_texts(tokenizer_path):
    """Independent oracle: every text tokenised alone, without truncation, padding and special tokens."""
    plain = Tokenizer.from_file(str(tokenizer_path))
    plain.no_truncation()
    plain.no_padding()
    texts = [
        "Is it an animal? the cat yes",
        "Is it an animal? the mat no",  # the second answer does not count
        "a row without an answer, much longer than the eight tokens that the tokenizer's file cuts at",
    ]
    expected = Counter(i for text in texts for i in plain.encode(text, add_special_tokens=False).ids)
    summary = TokenEncoder(tokenizer_path).encode(ROWS)
    assert summary.rows == 3
    assert summary.token_counts.shape == (plain.get_vocab_size(),)
    assert summary.token_counts.dtype == np.int64
    assert dict(enumerate(summary.token_counts)) == {i: expected[i] for i in range(plain.get_vocab_size())}
    assert not summary.has("sentence")


def test_special_tokens_are_not_counted_even_if_spelt_out(tokenizer_path):
    encoder = TokenEncoder(tokenizer_path)
    plain = encoder.encode([Example("the cat", ("sat",))])
    spelt = encoder.encode([Example("<s>the cat", ("sat</s>",))])
    assert plain.token_counts[:3].sum() == 0
    np.testing.assert_array_equal(spelt.token_counts, plain.token_counts)


def test_what_the_post_processor_adds_is_not_counted_even_if_it_is_no_special_token(tokenizer_path):
    encoder = TokenEncoder(tokenizer_path)
    plain = encoder.encode(ROWS)
    content = json.loads(tokenizer_path.read_text(encoding="utf-8"))
    for token in content["added_tokens"]:
        token["special"] = False
    tokenizer_path.write_text(json.dumps(content), encoding="utf-8")
    np.testing.assert_array_equal(TokenEncoder(tokenizer_path).encode(ROWS).token_counts, plain.token_counts)


def test_more_rows_than_a_batch(tokenizer_path, monkeypatch):
    encoder = TokenEncoder(tokenizer_path)
    whole = encoder.encode(ROWS * 5).token_counts
    monkeypatch.setattr("lorameta.encoder.tokens.BATCH", 2)
    np.testing.assert_array_equal(encoder.encode(ROWS * 5).token_counts, whole)
    np.testing.assert_array_equal(whole, 5 * encoder.encode(ROWS).token_counts)


@given(order=st.permutations(ROWS))
def test_the_order_of_rows_does_not_matter(tokenizer_factory, order):
    encoder = tokenizer_factory
    np.testing.assert_array_equal(encoder.encode(order).token_counts, encoder.encode(ROWS).token_counts)


def test_a_directory_stands_for_its_tokenizer(tokenizer_path):
    ours, theirs = TokenEncoder(tokenizer_path.parent), TokenEncoder(str(tokenizer_path))
    assert ours.path == theirs.path == tokenizer_path
    assert ours.tokenizer_hash == theirs.tokenizer_hash == tokenizer_hash(tokenizer_path)


def test_nothing_to_count_is_an_error(tokenizer_path):
    encoder = TokenEncoder(tokenizer_path)
    with pytest.raises(DataError, match="no rows"):
        encoder.encode([])
    with pytest.raises(DataError, match="the 2 rows hold no token"):
        encoder.encode([Example("", ("",)), Example("</s>")])


def test_half_characters_are_named_by_row(tokenizer_path):
    rows = [Example("fine", ("yes",)), Example("bad \ud83d", ("no",)), Example("fine", ("\udc00",))]
    with pytest.raises(DataError) as caught:
        TokenEncoder(tokenizer_path).encode(rows)
    assert "row 2: '\\ud83d' at character 5" in str(caught.value)
    assert "row 3: '\\udc00' at character 6" in str(caught.value)


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path):
    with pytest.raises(BankError, match=r"nowhere: there is no such tokenizer"):
        TokenEncoder(tmp_path / "nowhere")
    with pytest.raises(BankError, match=r"tokenizer\.json: there is no such tokenizer"):
        TokenEncoder(tmp_path)
    for content in ["", "{", "[]", '{"model": {}}', "<html></html>"]:
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(BankError, match=r"tokenizer\.json: is no tokenizer"):
            TokenEncoder(tmp_path)
        with pytest.raises(BankError, match=r"tokenizer\.json: is no tokenizer"):
            tokenizer_hash(tmp_path)


@pytest.fixture(scope="module")
def tokenizer_factory(tmp_path_factory) -> TokenEncoder:
    from tokenizers import models, pre_tokenizers

    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    tokenizer.save(str(path))
    return TokenEncoder(path)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_a_byte_level_vocabulary_counts_every_byte(tokenizer_factory, texts):
    total = sum(len(text.encode()) for text in texts)
    if total == 0:
        with pytest.raises(DataError):
            tokenizer_factory.encode([Example(text) for text in texts])
    else:
        assert tokenizer_factory.encode([Example(text) for text in texts]).token_counts.sum() == total


@pytest.fixture
def edited(tokenizer_path, tmp_path):
    """The tokenizer's file after a change to its content, and the hash of that."""

    def apply(change, **format_options) -> str:
        content = json.loads(tokenizer_path.read_text(encoding="utf-8"))
        change(content)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(content, **format_options), encoding="utf-8")
        return tokenizer_hash(path)

    return apply


@pytest.mark.parametrize(
    "change",
    [
        lambda content: None,
        lambda content: content.update(truncation=None, padding=None),
        lambda content: content.update(post_processor=None, decoder=None),
        lambda content: content["model"].update(ignore_merges=False, a_new_option=None),
        lambda content: content["model"].pop("byte_fallback"),
        lambda content: content["model"].update(vocab=dict(sorted(content["model"]["vocab"].items()))),
        lambda content: content["model"].update(merges=[" ".join(pair) for pair in content["model"]["merges"]]),
    ],
)
def test_files_that_cut_alike_hash_alike(tokenizer_path, edited, change):
    assert edited(change, indent=3, ensure_ascii=False) == tokenizer_hash(tokenizer_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"]["vocab"].update(zebra=319),
        lambda content: content["model"]["merges"].reverse(),
        lambda content: content["model"].update(byte_fallback=True),
        lambda content: content.update(normalizer={"type": "Lowercase"}),
        lambda content: content["pre_tokenizer"].update(add_prefix_space=True),
        lambda content: content["added_tokens"].pop(),
    ],
)
def test_files_that_cut_otherwise_hash_otherwise(tokenizer_path, edited, change):
    assert edited(change) != tokenizer_hash(tokenizer_path)
