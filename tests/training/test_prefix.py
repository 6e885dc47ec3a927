"""Training the upper layers alone: what the frozen ones make of a row is kept, and changes no number."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch
import transformers

from lorameta.base_model.batch import decoder_of, encode_example
from lorameta.data import load_examples
from lorameta.errors import UsageError
from lorameta.training import Base, LoraTraining, finetune, load_base, memory_plan, prepared, refine
from lorameta.training.adapted import lora_on
from lorameta.training.engine import backward, losses_of, mean_loss
from lorameta.training.measure import without_cache
from lorameta.training.prefix import Prefix, frozen_layers
from lorameta.training.rows import cut
from tests.training.refining import FAST, ROWS

ARCHITECTURES = {
    "Mistral": {},
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Gemma": {"head_dim": 8},
    "Gemma2": {"head_dim": 8, "final_logit_softcapping": 1.0, "attention_dropout": 0.0},
    "Gemma3Text": {"head_dim": 8},
    "Phi": {},
    "Phi3": {},
    "GPTNeoX": {},
}


def model_of(name: str, words: int, layers: int = 4, **options):
    config = getattr(transformers, f"{name}Config")(
        vocab_size=words, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    kind = name.replace("3Text", "3")
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval().requires_grad_(False)


def stack_of(model):
    decoder = decoder_of(model)
    return max((m for m in decoder.children() if isinstance(m, torch.nn.ModuleList)), key=len)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_kept_states_give_the_losses_and_gradients_of_the_whole_model(where, name):
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    model = model_of(name, len(tokenizer), **ARCHITECTURES[name])
    rows = [encode_example(tokenizer, example) for example in load_examples(ROWS)]
    assert len({len(row.ids) for row in rows}) > 1  # some are padded
    linear = {n for i in (2, 3) for n, m in stack_of(model)[i].named_modules() if isinstance(m, torch.nn.Linear)}
    stack = next(n for n, m in model.named_modules() if m is stack_of(model))
    settings = LoraTraining(rank=2, targets=tuple(f"{stack}.{i}.{n}" for i in (2, 3) for n in linear))
    with without_cache(model), lora_on(Base(model, tokenizer, "random"), settings) as mounted:
        for n, p in mounted.named_parameters():
            if "lora_B" in n:
                torch.nn.init.normal_(p, std=0.1)
        assert frozen_layers(mounted) == 2
        prefix = Prefix(mounted, 2)
        assert prefix.agrees(rows[0], 0)
        found = []
        for kept in (False, True):
            mounted.train()
            if kept:
                with prefix.mounted():
                    losses = losses_of(mounted, 0, prefix=prefix)
                    loss = backward(losses, cut(rows, range(16), tokens=200))
                    held = mean_loss(mounted, losses, cut(rows, tokens=400))
            else:
                losses = losses_of(mounted, 0)
                loss = backward(losses, cut(rows, range(16), tokens=200))
                held = mean_loss(mounted, losses, cut(rows, tokens=400))
            found.append((loss, held, [p.grad.clone() for p in mounted.parameters() if p.requires_grad]))
            mounted.zero_grad(set_to_none=True)
        assert all(not hasattr(layer, "forward") or "forward" not in vars(layer) for layer in stack_of(model))
    (loss, held, plain), (again, held_again, kept) = found
    assert again == pytest.approx(loss, rel=1e-5)
    assert held_again == pytest.approx(held, rel=1e-5)
    assert max(g.abs().max() for g in plain) > 1e-3
    for a, b in zip(plain, kept, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_kept_is_not(where):
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    targets = LoraTraining(rank=2, targets=("layers.3.mlp.up_proj",))
    row = encode_example(tokenizer, load_examples(ROWS)[0])
    for name, options in (
        ("Mistral", {}),
        ("Mistral", {"attention_dropout": 0.1}),
        ("GPTNeoX", {"hidden_dropout": 0.1}),
    ):
        base = Base(model_of(name, len(tokenizer), **options), tokenizer, "random")
        aim = targets if name == "Mistral" else LoraTraining(rank=2, targets=("layers.3.mlp.dense_h_to_4h",))
        with lora_on(base, aim) as mounted:
            assert frozen_layers(mounted) == 3
            assert Prefix(mounted, 3).agrees(row, 0) == (not options)
            if name == "GPTNeoX":
                continue
            decoder_of(mounted).embed_tokens.weight.requires_grad_(True)
            assert frozen_layers(mounted) == 0
            decoder_of(mounted).embed_tokens.weight.requires_grad_(False)
    with lora_on(Base(model_of("Mistral", len(tokenizer)), tokenizer, "random"), targets) as mounted:
        # an architecture whose upper layers look at more than the states below
        layer = decoder_of(mounted).layers[3]
        plain = layer.forward
        layer.forward = lambda x, **kw: plain(x + decoder_of(mounted).layers[0].seen, **kw)
        decoder_of(mounted).layers[0].register_forward_hook(
            lambda m, _, out: setattr(m, "seen", out + torch.randn_like(out))
        )
        assert not Prefix(mounted, 3).agrees(row, 0)


@pytest.fixture(scope="module")
def deep(tmp_path_factory, where) -> str:
    """A base of four layers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    path = tmp_path_factory.mktemp("deep")
    model_of("Mistral", len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def test_upper_layers_alone_are_adapted_and_frozen_ones_run_once_a_row(deep, tmp_path, monkeypatch):
    from peft import PeftModel
    from transformers.models.mistral.modeling_mistral import MistralDecoderLayer

    passes: dict[int, int] = {}
    plain = MistralDecoderLayer.forward

    def counted(self, *args, **kwargs):
        index = self.self_attn.layer_idx
        passes[index] = passes.get(index, 0) + 1
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(MistralDecoderLayer, "forward", counted)
    with prepared(ROWS, deep, FAST | {"top_layers": 2, "epochs": 4, "steps": None}) as job:
        assert (job.plan.layers, job.plan.top_layers, job.plan.kept_layers) == (4, 2, 2)
        rows = len(job.rows[0]) + len(job.rows[1])
        passes.clear()
        done = job.run()
    monkeypatch.undo()
    assert passes[0] == passes[1] <= rows  # those that were measured before are there already
    assert passes[2] >= 4 * 4
    assert {name.split(".")[2] for name in done.modules} == {"2", "3"}
    about = done.report["refinement"]
    assert about["loss"] < about["loss_at_start"]
    assert about["top_layers"] == 2
    base = load_base(deep)
    model = PeftModel.from_pretrained(base.model, str(done.save_pretrained(tmp_path / "top"))).eval()
    found = mean_loss(model, losses_of(model, 0), cut(job.rows[1], tokens=2000))
    assert found == pytest.approx(about["loss"], rel=1e-4)


def test_the_lower_part_of_an_adapter_stays_as_it_was_and_counts(where, given):
    layers = sorted({int(name.split(".")[2]) for name in given.modules})
    assert len(layers) > 1
    done = refine(given, ROWS, base=where, settings=FAST | {"top_layers": 1})
    whole = refine(given, ROWS, base=where, settings=FAST | {"steps": 1})
    about = done.report["refinement"]
    assert about["loss_at_start"] == pytest.approx(whole.report["refinement"]["loss_at_start"], rel=1e-5)
    assert about["loss"] < about["loss_at_start"]
    assert done.modules.keys() == given.modules.keys()
    for name, pair in given.modules.items():
        same = np.array_equal(pair.A, done.modules[name].A) and np.array_equal(pair.B, done.modules[name].B)
        assert same == (int(name.split(".")[2]) != layers[-1])


def test_without_memory_for_the_states_the_result_is_the_same(deep, monkeypatch):
    settings = FAST | {"top_layers": 2}
    kept = finetune(ROWS, deep, settings=settings)
    monkeypatch.setattr("lorameta.training.prefix.Prefix.agrees", lambda *_: False)
    with prepared(ROWS, deep, settings) as job:
        assert job.plan.kept_layers == 0
        plain = job.run()
    for name, pair in plain.modules.items():
        np.testing.assert_allclose(kept.modules[name].delta(), pair.delta(), atol=1e-4)


def test_states_take_memory_that_is_there(deep, monkeypatch):
    with prepared(ROWS, deep, FAST | {"top_layers": 2}) as job:
        needed = job.plan.memory
    present = memory_plan.available()
    monkeypatch.setattr(memory_plan, "available", lambda: present)
    monkeypatch.setattr("lorameta.training.job.ITEMSIZE", {"float32": present})
    with prepared(ROWS, deep, FAST | {"top_layers": 2}) as job:
        assert job.plan.kept_layers == 0
        assert job.plan.memory <= needed * 2


def test_stopped_and_gone_on_with_it_has_the_same_bits(deep, tmp_path):
    settings = FAST | {"top_layers": 2, "save_steps": 3}
    whole = finetune(ROWS, deep, settings=settings)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 8:
            raise Stop

    with pytest.raises(Stop), prepared(ROWS, deep, settings, checkpoint=tmp_path / "state") as job:
        job.run(report=stop)
    with prepared(ROWS, deep, settings, checkpoint=tmp_path / "state") as job:
        assert job.plan.resumed_at == 6
        assert job.plan.kept_layers == 2
        again = job.run()
    for name, pair in whole.modules.items():
        assert np.array_equal(pair.B, again.modules[name].B)


def test_wrong_numbers_of_layers_are_refused(deep, given, where):
    with pytest.raises(UsageError, match="has 4 layers; 5 of them"):
        finetune(ROWS, deep, settings=FAST | {"top_layers": 5})
    with pytest.raises(UsageError, match="top_layers is 0"):
        finetune(ROWS, deep, settings=FAST | {"top_layers": 0})
    with pytest.raises(UsageError, match="none of the layers to adapt is among the 1 uppermost"):
        finetune(ROWS, deep, settings=FAST | {"top_layers": 1, "targets": ["layers.0.mlp.up_proj"]})


def test_all_layers_are_what_they_are_without_the_option(deep):
    plain = finetune(ROWS, deep, settings=FAST)
    with prepared(ROWS, deep, FAST | {"top_layers": 4}) as job:
        assert job.plan.kept_layers == 0
        done = job.run()
    for name, pair in plain.modules.items():
        assert np.array_equal(pair.B, done.modules[name].B)
