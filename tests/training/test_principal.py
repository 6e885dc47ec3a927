"""An A from the inputs of the layers: their principal directions, the same for layers that read the same."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.base_model.shape import linear_shapes  # noqa: E402
from lorameta.data import load_examples  # noqa: E402
from lorameta.errors import DataError, UsageError  # noqa: E402
from lorameta.training import LoraTraining, load_base, split_examples, train_adapter  # noqa: E402
from lorameta.training.principal import principal_a, principal_rows, read_texts, second_moments  # noqa: E402
from tests.conftest import task_rows  # noqa: E402

TEXTS = [" ".join(row["input"] for row in task_rows(name, 6)) for name in ("animal_sound", "number_word", "opposite")]


@pytest.fixture(scope="module")
def base(tiny_bank):
    torch.set_num_threads(1)
    return load_base(tiny_bank / "base")


def test_second_moments_are_those_of_the_inputs(base):
    rows = [[5, 6, 7, 8, 9], [7, 30, 31]]
    names = list(linear_shapes(base.model))
    found = second_moments(base.model, names, rows, pad=0)
    seen: dict[str, list] = {name: [] for name in names}
    layers = dict(base.model.named_modules())
    hooks = [
        layers[name].register_forward_pre_hook(lambda _, x, name=name: seen[name].append(x[0][0].double()))
        for name in names
    ]
    with torch.no_grad():
        for row in rows:  # one by one, without padding
            base.model(torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    for name in names:
        x = torch.cat(seen[name]).numpy()
        assert np.allclose(found[name], x.T @ x / len(x), rtol=1e-3, atol=1e-6), name
    attention = "model.layers.0.self_attn."
    assert found[f"{attention}q_proj"] is found[f"{attention}v_proj"]
    assert found[f"{attention}q_proj"] is not found[f"{attention}o_proj"]


def test_rows_are_principal_directions_of_equal_variance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 12)) * np.linspace(3, 0.1, 12)
    moment = (x.T @ x / len(x)).astype(np.float32)
    A = principal_rows(moment, 3).astype(np.float64)
    products = A @ moment @ A.T
    assert np.allclose(products, np.eye(3) * np.trace(moment) / 36, rtol=1e-4, atol=1e-5)
    left = np.linalg.svd(x.T)[0][:, :3]
    assert np.allclose(left @ left.T @ A.T, A.T, atol=1e-4)


def test_a_frozen_a_stays_and_only_b_learns(base):
    parts = split_examples(load_examples(task_rows("animal_sound", 40)))
    settings = LoraTraining(
        rank=2, learning_rate=2e-2, epochs=2, batch_size=8, freeze_a=True, init_a="principal", share_prefix=True,
        max_rows=16, measured_rows=4,
    )  # fmt: skip
    initial = principal_a(base, settings.targets, 2, TEXTS)
    assert initial.keys() == linear_shapes(base.model).keys()
    assert initial["model.layers.0.mlp.gate_proj"] is initial["model.layers.0.mlp.up_proj"]
    trained = train_adapter(parts, base, settings, initial=initial)
    assert trained.history[-1] < trained.history[0]
    assert trained.steps == 4
    assert trained.losses["validation"]["rows"] == min(4, len(parts.validation))
    for name, pair in trained.adapter.modules.items():
        assert np.array_equal(pair.A, initial[name])
        assert np.abs(pair.B).max() > 0


def test_packed_rows_train_the_same_adapter(base):
    parts = split_examples(load_examples(task_rows("animal_sound", 40)))
    settings = {"rank": 2, "learning_rate": 1e-2, "epochs": 1, "batch_size": 8, "freeze_a": True}
    plain = train_adapter(parts, base, LoraTraining(**settings))
    packed = train_adapter(parts, base, LoraTraining(**settings, share_prefix=True))
    assert np.allclose(packed.history, plain.history, rtol=1e-4)


def test_what_is_missing_is_said(base):
    parts = split_examples(load_examples(task_rows("animal_sound", 40)))
    with pytest.raises(UsageError, match="no initial A was given"):
        train_adapter(parts, base, LoraTraining(rank=2, init_a="principal"))
    with pytest.raises(UsageError, match="must have the shape"):
        train_adapter(parts, base, LoraTraining(rank=2, init_a="principal"), initial={})
    with pytest.raises(UsageError, match="init_a is 'best'"):
        LoraTraining(init_a="best")


def test_texts_are_documents(tmp_path):
    plain = tmp_path / "a.txt"
    plain.write_text("one\ntwo\n<|end|>\nthree\n<|end|>\n")
    assert read_texts(plain) == ["one\ntwo", "three"]
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_texts(packed) == read_texts(plain)
    plain.write_text("all of it")
    assert read_texts(plain) == ["all of it"]
    packed.write_bytes(b"no gzip")
    for path in (packed, tmp_path / "none.txt"):
        with pytest.raises(DataError, match="cannot be read as text"):
            read_texts(path)
