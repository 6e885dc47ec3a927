"""Scores agree with training: the tokens of prompts, the ends of answers, every script; what is said of long rows."""

from __future__ import annotations

import copy
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("rouge_score")

from lorameta.bank import AdapterBank  # noqa: E402
from lorameta.base_model.batch import encode_example, encode_prompts, encode_rows, end_tokens, positions_of  # noqa: E402
from lorameta.data import Example  # noqa: E402
from lorameta.errors import LorametaWarning  # noqa: E402
from lorameta.evaluate import Scorer  # noqa: E402
from lorameta.text_scores import Words, text_scores  # noqa: E402

PROMPTS = ["Desk:", "Desk: ", "Desk:\n", "Desk:\n\n", "Desk:  ", "Desk", "Desk.\t", "ä:", "ä: "]
PROMPTS += [
    "Desk:\u00a0",
    "Desk:\u3000",
    "Desk:\r\n",
    "Desk:\u200b",
    "Desk (",
    '"',
    "1 + 1 = ",
    "日本語:",
    "👍 ",
    "- ",
    "</s>",
]
ANSWERS = ["red", "a blue cup", "7", "ü", "(x)", "-1", ".", "日本", "👍", "'s", '"q"', "<b>", "a\n\n```\nb\n```"]


@pytest.fixture(scope="module")
def scorer(tiny_bank) -> Scorer:
    return Scorer(AdapterBank.open(tiny_bank).base_model, batch_size=4, max_new_tokens=6)


def byte_level():
    """A tokenizer as that of GPT-2, which puts spaces in front of words and runs of line breaks together."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([f"{p}{a} {a}\n\n{a}" for p in PROMPTS for a in ANSWERS] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@pytest.fixture(scope="module", params=["the tiny base's", "byte level"])
def tokenizer(request, scorer):
    return scorer.tokenizer if request.param == "the tiny base's" else byte_level()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_is_tokenised_in_generation_as_in_training(tokenizer, prompt):
    (ids,), cut = encode_prompts(tokenizer, [prompt])
    assert cut == 0
    for answer in ANSWERS:
        trained = encode_example(tokenizer, Example(prompt, (answer,)))
        assert trained.ids[: trained.answer_start] == ids
        assert tokenizer.decode(trained.ids[trained.answer_start : -1]).strip() == answer


def test_a_space_at_the_end_of_a_prompt_changes_nothing(scorer):
    rows = [Example(f"Input: {word}\n\nOutput:", ("x",)) for word in ("red", "cup", "tea")]
    spaced = [Example(f"{row.input} ", row.outputs) for row in rows]
    found, expected = scorer.score(spaced), scorer.score(rows)
    assert found.as_dict(predictions=True) == expected.as_dict(predictions=True)


def test_end_tokens_in_references_are_no_part_of_them(scorer):
    rows = [Example(f"Input: {word}\n\nOutput:", ("x",)) for word in ("red", "cup")]
    answers = scorer.generate([row.input for row in rows])
    end = scorer.tokenizer.eos_token
    marked = [
        Example(row.input, (f"{answer}{end}", f"{answer} {end}{end}\n", f"{answer}{end}{scorer.tokenizer.pad_token}"))
        for row, answer in zip(rows, answers, strict=True)
    ]
    plain = [Example(row.input, (answer,)) for row, answer in zip(rows, answers, strict=True)]
    assert scorer.score(marked).exact_match == 1.0
    assert scorer.score(marked).loss == scorer.score(plain).loss


def test_all_end_tokens_of_the_base_end_an_answer(scorer):
    model = scorer.model
    before = copy.deepcopy(model.generation_config)
    (first,) = scorer.generate(["Input: red\n\nOutput:"])
    token = scorer.tokenizer(first, add_special_tokens=False)["input_ids"]
    try:
        model.generation_config.eos_token_id = [scorer.tokenizer.eos_token_id, *token]
        assert set(end_tokens(model, scorer.tokenizer)) == {scorer.tokenizer.eos_token_id, *token}
        ended = Scorer.of("tiny", model, scorer.tokenizer, max_new_tokens=6)
        assert len(ended.generate(["Input: red\n\nOutput:"])[0]) <= len(first)
        assert set(ended.end_tokens) > {scorer.tokenizer.eos_token_id}
    finally:
        model.generation_config = before


def test_references_that_no_answer_can_equal_are_a_warning(scorer):
    long = "one two three four five six seven eight nine ten"
    with pytest.warns(LorametaWarning, match=r"1 of 2 rows have references longer than 6 tokens.*--max-new-tokens"):
        scorer.score([Example("a:", (long,)), Example("b:", (long, "x"))])


def test_prompts_beyond_the_positions_are_cut_by_one_rule_and_said_so(scorer):
    rows = [Example(f"{'word ' * n}Output:", ("x",)) for n in (1, 100)]
    whole, none = encode_rows(scorer.tokenizer, rows, None)
    cut, some = encode_rows(scorer.tokenizer, rows, 20)
    assert (none, some) == (0, 1)
    assert cut[0] == whole[0]
    assert cut[1].ids == [whole[1].ids[0], *whole[1].ids[-19:]]
    assert cut[1].ids[cut[1].answer_start :] == whole[1].ids[whole[1].answer_start :]
    (_, prompt), count = encode_prompts(scorer.tokenizer, [row.input for row in rows], 20)
    alone = whole[1].ids[: whole[1].answer_start]
    assert (prompt, count) == ([alone[0], *alone[-19:]], 1)

    short = Scorer.of("tiny", scorer.model, scorer.tokenizer, max_new_tokens=6)
    short.positions = 26
    with pytest.warns(LorametaWarning, match=r"1 of 2 rows have more than the 20 tokens that can be read in scoring"):
        assert len(short.score(rows).predictions) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer.score(rows)


def test_positions_under_the_names_of_several_architectures():
    from transformers import GPT2Config, LlamaConfig

    assert positions_of(GPT2Config(n_positions=77)) == 77
    assert positions_of(LlamaConfig(max_position_embeddings=88)) == 88
    assert positions_of(object()) is None


SCRIPTS = [
    "банк",
    "путешествие и работа",
    "银行卡",
    "カード を 見る",
    "ธนาคาร",
    "बैंक",
    "τράπεζα",
    "بنك",
    "café",
    "은행",
    "+",
    "→ 👍",
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_an_answer_that_is_right_has_the_full_score_in_every_script(text):
    found = text_scores([text, "xyz"], [[text], [text]])
    assert (found["exact_match"], found["rouge_l"]) == ([1.0, 0.0], [1.0, 0.0])


def test_words_of_other_scripts_count_one_by_one():
    assert text_scores(["красный дом", "银行卡"], [["синий дом"], ["银行"]])["rouge_l"] == pytest.approx([0.5, 0.8])
    assert Words().tokenize("बैंक में") == ["बैंक", "में"]
    assert Words().tokenize("The CATS' naïve cafés") == ["the", "cat", "naïve", "cafés"]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_english_is_split_as_rouge_score_does(text):
    from rouge_score.tokenizers import DefaultTokenizer

    expected = DefaultTokenizer(use_stemmer=True).tokenize(text)
    assert Words().tokenize(text) == (expected or [character for character in text if not character.isspace()])
