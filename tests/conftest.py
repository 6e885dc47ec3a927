"""A whole bank in miniature: a random Mistral of 44,000 parameters, its tokenizer and four random adapters.

It is written by hand, file by file, from the description of the format: it shares no code with the library's writer.
The fixture `lorameta` runs the command line in this process, as the entry point does.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from lorameta.cli import common, main

# A busy machine is no reason to fail; on the build server the examples are the same in every run.
settings.register_profile("lorameta", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("lorameta")

TASKS = {
    "animal_sound": (
        "Say what sound the animal makes.",
        ["dog", "cat", "cow", "duck"],
        ["bark", "meow", "moo", "quack"],
    ),
    "thing_colour": (
        "Name the colour of the thing.",
        ["grass", "sky", "snow", "coal"],
        ["green", "blue", "white", "black"],
    ),
    "number_word": ("Write the number as a word.", ["1", "2", "3", "4"], ["one", "two", "three", "four"]),
    "opposite": ("Give the opposite of the word.", ["hot", "big", "old", "wet"], ["cold", "small", "new", "dry"]),
}
ROWS = 24
RANK, ALPHA = 4, 8
HIDDEN, LAYERS, HEADS, KV_HEADS, MLP, DIMENSION = 32, 2, 4, 2, 64, 384
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "self_attn.v_proj": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
}


def task_rows(task: str, count: int = ROWS) -> list[dict[str, str]]:
    """Rows of one of the miniature bank's tasks."""
    definition, inputs, outputs = TASKS[task]
    return [
        {
            "input": f"Definition: {definition}\n\nInput: {inputs[i % 4]} number {i}\n\nOutput:",
            "output": outputs[i % 4],
        }
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def tiny_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a bank of four adapters; copy it before you change anything in it."""
    bank = tmp_path_factory.mktemp("banks") / "tiny-bank"
    (bank / "base").mkdir(parents=True)
    rng = np.random.default_rng(7)
    vocabulary = _write_tokenizer(bank / "base")
    _write_base(bank / "base", vocabulary, rng)
    records = [_write_adapter(bank, task, rng) for task in TASKS]
    tokenizer_hash = _write_summaries(bank, rng)
    manifest = {
        "format": 1,
        "name": "tiny-bank",
        "base": {
            "model": "base",
            "revision": None,
            "tokenizer_hash": tokenizer_hash,
            "sha256": {path.name: _sha256(path) for path in sorted((bank / "base").iterdir())},
        },
        "encoders": {
            "tokens": {"tokenizer_hash": tokenizer_hash},
            "sentence": {"model": "sentence-transformers/all-MiniLM-L6-v2", "sha256": "0" * 64},
        },
        "summaries": {
            "file": "summaries.safetensors",
            "sha256": _sha256(bank / "summaries.safetensors"),
            "bytes": (bank / "summaries.safetensors").stat().st_size,
        },
        "adapters": records,
        "left_out": [{"id": "riddle", "reason": "does not beat the base on validation"}],
        "recipe": {"seed": 7},
    }
    (bank / "bank.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return bank


@pytest.fixture
def tiny_rows(tmp_path: Path) -> Path:
    """A JSONL file of twelve labelled rows, near to the bank's `animal_sound` and equal to none of its rows."""
    path = tmp_path / "rows.jsonl"
    rows = task_rows("animal_sound", 12)
    lines = [json.dumps({**row, "input": row["input"].replace("number", "farm")}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The standard output, which must be one valid JSON object."""

        def refuse(constant: str) -> None:
            raise ValueError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


@pytest.fixture
def lorameta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Call it with the words of a command line."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv("LORAMETA_DEBUG", raising=False)

    def run(*words: object) -> Result:
        monkeypatch.setattr(common, "debugging", False)
        monkeypatch.setattr("sys.argv", ["lorameta", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_tokenizer(base: Path) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{row['input']} {row['output']}" for task in TASKS for row in task_rows(task)]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(base / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "padding_side": "left",
        "model_max_length": 256,
        "clean_up_tokenization_spaces": False,
    }
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tokenizer.get_vocab_size()


def _write_base(base: Path, vocabulary: int, rng: np.random.Generator) -> None:
    from safetensors.numpy import save_file

    config = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "max_position_embeddings": 256,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN), "lm_head.weight": (vocabulary, HIDDEN)}
    norms = ["model.norm.weight"]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}{name}.weight": shape for name, shape in SHAPES.items()}
        shapes[f"{prefix}self_attn.o_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{prefix}mlp.gate_proj.weight"] = shapes[f"{prefix}mlp.up_proj.weight"] = (MLP, HIDDEN)
        shapes[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, MLP)
        norms += [f"{prefix}input_layernorm.weight", f"{prefix}post_attention_layernorm.weight"]
    arrays = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: np.ones(HIDDEN, dtype=np.float32) for name in norms}
    save_file(arrays, base / "model.safetensors", metadata={"format": "pt"})


def _write_adapter(bank: Path, task: str, rng: np.random.Generator) -> dict[str, object]:
    from safetensors.numpy import save_file

    folder = bank / "adapters" / task
    folder.mkdir(parents=True)
    arrays = {}
    for layer in range(LAYERS):
        for name, (d_out, d_in) in SHAPES.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            arrays[f"{prefix}.lora_A.weight"] = rng.normal(0, 0.3, (RANK, d_in)).astype(np.float32)
            arrays[f"{prefix}.lora_B.weight"] = rng.normal(0, 0.3, (d_out, RANK)).astype(np.float32)
    save_file(arrays, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = sorted(name.split(".")[1] for name in SHAPES)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": targets,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return {
        "id": task,
        "task": task,
        "family": "words" if task == "opposite" else "facts",
        "description": TASKS[task][0],
        "source": {"repo": "example/tasks", "commit": "0" * 40, "path": f"{task}.jsonl", "name": "example"},
        "licence": "CC0-1.0",
        "rank": RANK,
        "alpha": ALPHA,
        "rslora": False,
        "targets": targets,
        "path": f"adapters/{task}",
        "sha256": _sha256(folder / "adapter_model.safetensors"),
        "config_sha256": _sha256(folder / "adapter_config.json"),
        "bytes": (folder / "adapter_model.safetensors").stat().st_size,
        "rows": {"train": ROWS, "validation": 2, "test": 3},
        "training": {"steps": 0},
        "scores": {
            "test": {
                "base": {"exact_match": 0.1, "rouge_l": 0.2, "loss": 3.0},
                "adapter": {"exact_match": 0.8, "rouge_l": 0.9, "loss": 0.5},
            },
        },
    }


def _write_summaries(bank: Path, rng: np.random.Generator) -> str:
    from lorameta.data import Example
    from lorameta.encoder.summary import DatasetSummary, Summaries
    from lorameta.encoder.tokens import TokenEncoder

    encoder = TokenEncoder(bank / "base")
    summaries = []
    for task in TASKS:
        counts = encoder.encode([Example(row["input"], (row["output"],)) for row in task_rows(task)]).token_counts
        sample = rng.normal(size=(16, DIMENSION)).astype(np.float32)
        sample /= np.linalg.norm(sample, axis=1, keepdims=True)
        centred = sample - sample.mean(axis=0)
        values, vectors = np.linalg.svd(centred / np.sqrt(len(sample)), full_matrices=False)[1:]
        factor = (values[:8, None] * vectors[:8]).astype(np.float32)
        residual = float((values[8:] ** 2).sum())
        summaries.append(DatasetSummary(ROWS, counts, sample.mean(axis=0), factor, residual, sample))
    stacked = Summaries.from_list(
        tuple(TASKS),
        summaries,
        tokenizer_hash=encoder.tokenizer_hash,
        sentence_model="sentence-transformers/all-MiniLM-L6-v2",
    )
    stacked.save(bank / "summaries.safetensors")
    return encoder.tokenizer_hash
