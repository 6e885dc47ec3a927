"""The examination as a whole: what it measures on small bases, its verdicts and advice on machines of every size."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from lorameta.bank import AdapterBank
from lorameta.base_model.shape import outline
from lorameta.doctor import examination, examine
from lorameta.doctor.advice import advise
from lorameta.doctor.quantized import sizes
from lorameta.doctor.verdicts import judge
from lorameta.errors import UsageError
from lorameta.machine import machine, memory, probe
from lorameta.machine.disk import Disk
from lorameta.machine.speed import HeadProbe, probe_head
from lorameta.machine.timing import Line
from lorameta.report.doctor import examined

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
from tests.doctor.configs import CONFIGS, mistral_7b, needs_attention_in  # noqa: E402

GB = 10**9
RUNTIME = GB // 2


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    """The disk and the matrices are measured with less than usual, the rest as ever."""
    monkeypatch.setattr("lorameta.machine.disk.SAMPLE", 32 << 20)
    monkeypatch.setattr("lorameta.machine.speed.BUFFER", 16 << 20)
    monkeypatch.setattr("lorameta.machine.speed.SIDE", 256)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_is_measured(name, tmp_path):
    CONFIGS[name]().save_pretrained(tmp_path)
    report = examine(tmp_path, rank=4, length=48, batch_size=2, seconds=0.4)
    assert set(report.probes) == set(report.heads) == {"bfloat16", "float32"}, report.notes
    for found in report.probes.values():
        assert found.share == 1
        assert found.token > 0
        assert found.kept_per_token > 0
    assert all(found.best is not None and found.verdict.startswith("yes") for found in report.capabilities.values())
    modes = [mode for mode in report.capabilities["refine"].modes if mode.dtype == "float32"]
    step = {mode.checkpointing: mode.seconds["step"] for mode in modes}
    assert step[True] > step[False] > 0
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["settings"]["batch_size"] == 2
    text = examined(report)
    assert report.base.architecture in text
    assert all(capability.verdict.split(":")[0] in text for capability in report.capabilities.values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_layers_keep_is_what_the_whole_model_keeps(dtype):
    needs_attention_in(dtype)
    config, length = CONFIGS["mistral"](), 96
    shape = outline(config, "m", None, ("all-linear",), 4)
    found = probe.probe(shape, dtype, rank=4, length=length, memory=GB, seconds=1.0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).requires_grad_(False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear")).train()
    own = {p.data_ptr() for p in adapted.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    states = torch.randn(1, length, config.hidden_size).to(getattr(torch, dtype)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.get_decoder()(inputs_embeds=states, use_cache=False)
    whole = sum(storage.nbytes() for storage in kept.values())
    assert shape.layers * (found.kept_fixed + found.kept_per_token * length) == pytest.approx(whole, rel=0.1)


def test_quick_measures_nothing(tmp_path, monkeypatch):
    def measured(*_, **__):
        raise AssertionError("something was measured")

    monkeypatch.setattr("lorameta.machine.probe.probe", measured)
    monkeypatch.setattr("lorameta.machine.speed.speed", measured)
    monkeypatch.setattr("lorameta.machine.disk.read_speed", measured)
    CONFIGS["llama"]().save_pretrained(tmp_path)
    report = examine(tmp_path, quick=True)
    assert report.probes == {}
    assert report.disk.read is None
    assert report.capabilities["run"].best.seconds == {}
    assert "not timed" in examined(report)


def test_the_banks_base_and_targets_are_the_default(tiny_bank):
    report = examine(bank=tiny_bank, quick=True)
    bank = AdapterBank.open(tiny_bank)
    assert report.base.name == bank.base_model
    assert report.base.targets == ("k_proj", "q_proj", "v_proj")
    assert report.settings["adapters"] == len(bank)
    assert report.settings["adapter_numbers"] == next(iter(map(bank.__getitem__, bank))).num_parameters


def test_a_base_that_does_not_run_alone_is_still_weighed(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("this layer needs something else\nand more")

    monkeypatch.setattr("lorameta.machine.probe.probe", fails)
    CONFIGS["llama"]().save_pretrained(tmp_path)
    report = examine(tmp_path)
    assert report.probes == {}
    assert sum("was not measured" in note and "needs something else" in note for note in report.notes) == 2
    assert report.capabilities["run"].best.needed > report.sizes[report.capabilities["run"].best.dtype]


@pytest.mark.parametrize(
    "options", [{"rank": 0}, {"batch_size": 0}, {"length": 4}, {"targets": ("nothing",)}, {"targets": ()}]
)
def test_numbers_that_cannot_work_are_refused(tmp_path, options):
    CONFIGS["llama"]().save_pretrained(tmp_path)
    with pytest.raises(UsageError):
        examine(tmp_path, quick=True, **options)


def test_no_more_than_the_given_memory_is_asked_for():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    whole = 2 * shape.layer_parameters  # a layer in bfloat16: 436 MB
    assert probe.fitting(shape, 2, 6 * GB)[1:] == (1, 1.0)
    assert probe.fitting(shape, 2, int(whole / 0.6) + 1)[1:] == (1, 1.0)
    config, layers, share = probe.fitting(shape, 2, int(whole / 0.6) - 10)
    assert layers == 1
    assert config.intermediate_size == 14336 // 2
    assert share == pytest.approx((2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 7168) / shape.layer_parameters, rel=1e-3)
    with pytest.raises(MemoryError, match=r"0\.4 GB does not fit into the 0\.1 GB"):
        probe.fitting(shape, 2, GB // 10)
    small = outline(CONFIGS["llama"](), "m", None, ("all-linear",), 4)
    assert probe.fitting(small, 2, GB)[1:] == (3, 1.0)  # so small that all its layers are measured


def test_a_layer_that_was_narrowed_counts_for_a_whole_one():
    needs_attention_in("bfloat16")
    config = CONFIGS["llama"]()
    config.intermediate_size, config.hidden_size, config.num_hidden_layers = 4096, 256, 1
    shape = outline(config, "m", None, ("all-linear",), 4)
    room = int(2 * shape.layer_parameters / 0.6 * 0.8)
    narrowed = probe.probe(shape, "bfloat16", rank=4, length=64, memory=room, seconds=1.0)
    whole = probe.probe(shape, "bfloat16", rank=4, length=64, memory=GB, seconds=1.0)
    assert narrowed.share == pytest.approx(0.54, abs=0.05)
    assert whole.share == 1
    assert narrowed.kept_per_token == pytest.approx(whole.kept_per_token, rel=0.25)


def test_a_part_of_a_large_vocabulary_stands_for_it():
    config = CONFIGS["llama"]()
    config.vocab_size, config.hidden_size = 50_000, 256
    shape = outline(config, "m", None, ("all-linear",), 4)
    found = probe_head(shape, "float32", answers=8, memory=15 * 10**6, seconds=1.0)
    assert found.share == pytest.approx(5 * 10**6 // 1024 / 50_000)
    whole = probe_head(shape, "float32", answers=8, memory=GB, seconds=1.0)
    assert whole.share == 1
    assert min(found.token, whole.token) > 0
    assert max(found.loss.sizes) <= 8


# Machines of every size, with times that are made up: 10 ms a layer and token.


MACHINE = machine.Machine("x", 4, 4, 4, 0.0, 64 * GB, 60 * GB, None, (), "AVX2", "none")
DISK = Disk("/", 500 * GB, 500 * GB, 10**9)


def judged(gigabytes: float, *, length: int = 512, batch: int = 1, timed: bool = True, **changes):
    """Verdicts and advice for Mistral-7B."""
    shape = outline(mistral_7b(), "mistralai/Mistral-7B-v0.1", None, ("all-linear",), 16)
    line = Line((probe.work(shape, 16), probe.work(shape, 512)), (0.1, 2.0))
    probes, heads = {}, {}
    for dtype, slow in (("bfloat16", 1.0), ("float32", 2.0)) if timed else ():
        kept = 312_000 if dtype == "bfloat16" else 354_000
        scaled = line.scaled(slow)
        probes[dtype] = probe.Probe(dtype, 1, 1.0, 0.01 * slow, 0, scaled, scaled.scaled(0.5), scaled, 0, kept, 512)
        heads[dtype] = HeadProbe(dtype, 1.0, 0.01 * slow, Line((16.0, 128.0), (0.1, 0.4)))
    settings = {
        "rank": 16, "targets": list(shape.targets), "batch_size": batch, "length": length, "adapters": 20,
        "answers": memory.answers_of(batch, length), "adapter_numbers": shape.adapter_parameters,
    }  # fmt: skip
    found = replace(MACHINE, available=int(gigabytes * GB), **changes)
    verdicts = judge(shape, settings, RUNTIME, found.available, probes, heads)
    bytes_of = {"float32": 4 * shape.parameters, "bfloat16": 2 * shape.parameters} | sizes(shape.blocks)
    return verdicts, advise(found, DISK, shape, settings, bytes_of, verdicts, probes, 20e9, local=True), shape


def test_a_large_machine_does_it_all_in_the_quicker_dtype():
    verdicts, advice, shape = judged(60)
    assert {name: capability.best.dtype for name, capability in verdicts.items()} == {
        "generate": "", "run": "bfloat16", "refine": "bfloat16",
    }  # fmt: skip
    assert not verdicts["refine"].best.checkpointing
    assert advice == []
    assert verdicts["run"].best.seconds["token"] == pytest.approx(shape.layers * 0.01 + 0.01)
    assert verdicts["refine"].best.seconds["step"] == pytest.approx(shape.layers * 2.0 + 0.4, rel=0.01)


def test_what_was_not_timed_is_taken_as_the_training_engine_takes_it():
    verdicts, _, _ = judged(60, timed=False)
    assert verdicts["run"].best.dtype == "bfloat16"
    assert not verdicts["refine"].best.checkpointing
    assert "not timed" in verdicts["refine"].verdict


def test_memory_decides_on_checkpointing():
    assert judged(24)[0]["refine"].best.checkpointing is False
    verdicts, advice, _ = judged(20)
    assert verdicts["refine"].best.checkpointing is True
    assert "with gradient checkpointing" in verdicts["refine"].verdict
    assert advice == []


def test_a_laptop_of_8_gb_generates_and_is_sent_to_llama_cpp():
    verdicts, advice, shape = judged(7, memory=8 * GB)
    assert verdicts["generate"].best is not None
    assert verdicts["run"].best is None
    assert verdicts["run"].verdict.startswith("no: 15.")
    (run,) = [line for line in advice if line.startswith("Run:")]
    assert "as Q4_K_M" in run
    assert "lorameta export ADAPTER --format gguf" in run
    assert f"at best {4.3677 / 20:.2f} s a token" in run
    (smaller,) = [line for line in advice if line.startswith("Refine:")]
    most = float(re.search(r"up to about ([\d.]+) billion", smaller)[1]) * GB
    # A base of that size has everything in proportion; it fits, one that is a third larger does not.
    least = min(verdicts["refine"].modes, key=lambda mode: mode.needed)
    for share, fits in ((most / shape.parameters, True), (1.33 * most / shape.parameters, False)):
        assert (RUNTIME + (least.needed - RUNTIME) * share <= 7.1 * GB) is fits


def test_twelve_gb_take_it_in_eight_bits():
    advice = judged(12, memory=12 * GB)[1]
    assert sum("as Q8_0" in line for line in advice) == 1
    assert not any("Q4_K_M" in line for line in advice)


def test_rows_that_fit_are_the_longest_that_do():
    verdicts, advice, shape = judged(18, length=4096, memory=18 * GB)
    assert verdicts["run"].best is not None
    assert verdicts["refine"].best is None
    (line,) = [line for line in advice if "rows of at most" in line]
    most = int(re.search(r"at most (\d+) tokens", line)[1])
    found = judged(60, length=4096)[0]["refine"]
    kept = next(mode for mode in found.modes if mode.dtype == "bfloat16" and mode.checkpointing)
    other = kept.needed - kept.parts["activations"] - kept.parts["logits"] - kept.parts["heap"]
    each = (kept.needed - other) / 4096
    assert other + most * each <= 18 * GB < other + (most + 32) * each
    assert shape.layers == 32


def test_a_large_batch_is_taken_row_by_row():
    advice = judged(20, batch=8, length=512, memory=20 * GB)[1]
    assert any("one row at a time" in line for line in advice)
    assert not any("rows of at most" in line for line in advice)


def test_fewer_layers_are_proposed_where_they_are_enough():
    full = judged(60)[0]["refine"]
    least = min(mode.needed for mode in full.modes)
    advice = judged((least - 0.3 * GB) / GB, memory=int(least - 0.3 * GB))[1]
    assert any("an adapter on q_proj, v_proj alone" in line for line in advice)
    advice = judged((least - 2 * GB) / GB, memory=int(least - 2 * GB))[1]
    assert not any("an adapter on" in line for line in advice)


def test_memory_that_others_hold_or_a_container_forbids_is_named():
    advice = judged(10, memory=64 * GB)[1]
    assert any("in use by other programs" in line and "run and refine" in line for line in advice)
    advice = judged(8, memory=64 * GB, limit=8 * GB)[1]
    assert any("this container may use 8.0 GB of the machine's 64.0 GB; allow it" in line for line in advice)
    assert not any("other programs" in line for line in advice)


def test_a_slow_or_full_disk_is_named():
    verdicts, _, shape = judged(60)
    bytes_of = {"float32": 4 * shape.parameters, "bfloat16": 2 * shape.parameters} | sizes(shape.blocks)
    settings = {"length": 512, "batch_size": 1, "rank": 16}
    disk = Disk("/here", 10 * GB, 100 * GB, 100e6)
    said = advise(MACHINE, disk, shape, settings, bytes_of, verdicts, {}, None, local=False)
    assert len(said) == 2
    assert "10.0 GB are free in /here" in said[0]
    assert "reads 100 MB per second" in said[1]
    assert "2 min" in said[1]
    assert advise(MACHINE, replace(disk, read=10**9), shape, settings, bytes_of, verdicts, {}, None, local=True) == []


def test_a_slow_pace_is_held_against_llama_cpp():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    assert judged(60)[1] == []  # 0.33 s a token, and llama.cpp at best 0.22 s
    verdicts = judged(60)[0]
    mode = replace(verdicts["run"].best, seconds={"token": 2.0, "prompt": 1.0})
    verdicts = verdicts | {"run": replace(verdicts["run"], best=mode)}
    bytes_of = {"float32": 0, "bfloat16": 0} | sizes(shape.blocks)
    said = advise(MACHINE, DISK, shape, {"length": 512}, bytes_of, verdicts, {}, 20e9, local=True)
    assert len(said) == 1
    assert "2.0 s a token is slow" in said[0]


def test_memory_is_added_up_from_its_parts():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    found = memory.to_run(shape, "bfloat16", 1000, RUNTIME, None)
    assert found.total == sum(found.parts.values())
    assert found.parts["weights"] == 2 * 7_241_732_096
    assert found.parts["cache"] == 1000 * 131_072  # 2 · 32 layers · 8 heads · 128 numbers · 2 bytes
    window = memory.to_run(replace(shape, window=100), "float32", 1000, RUNTIME, None)
    assert window.parts["cache"] == 100 * 262_144
    assert memory.to_run(shape, "float32", 1000, RUNTIME, None).parts["weights"] == 2 * found.parts["weights"]
    step = memory.to_refine(shape, "bfloat16", 2, 400, RUNTIME, None, checkpointing=False)
    assert step.parts["adapter"] == 20 * 41_943_040
    assert step.parts["logits"] == 200 * 32_000 * 16
    again = memory.to_refine(shape, "bfloat16", 2, 400, RUNTIME, None, checkpointing=True)
    assert again.parts["activations"] < step.parts["activations"] / 8
    assert again.total < step.total


def test_mixing_takes_no_more_than_its_adapters():
    shape = outline(mistral_7b(), "m", None, ("q_proj", "k_proj", "v_proj"), 16)
    few = memory.to_mix(shape, 3, shape.adapter_parameters).total
    assert few < 1 * GB
    all_of_them = memory.to_mix(shape, 502, shape.adapter_parameters).total
    assert all_of_them < 1.5 * GB < 502 * 4 * shape.adapter_parameters  # never all at once


def test_times_are_shared_out_by_what_has_a_place():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    for available in (60 * GB, 20 * GB, 5 * GB):
        shares = examination.time_shares(shape, RUNTIME, 512, available)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["bfloat16"] >= shares["float32"]
