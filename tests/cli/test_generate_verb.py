"""`lorameta generate` and `lorameta explain`: what they print, what they write, and that a failure writes nothing."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorameta.adapter import Adapter
from lorameta.generate import generate_adapter


def test_generate_writes_the_adapter_that_the_function_makes(lorameta, tiny_bank, tiny_rows, tmp_path):
    out = tmp_path / "new" / "adapter"
    result = lorameta("generate", tiny_rows, "-o", out, "--bank", tiny_bank, "--distance", "kl", "--top-k", 2)
    assert result.code == 0, result.err
    expected = generate_adapter(tiny_rows, bank=tiny_bank, distance="kl", top_k=2)
    written = Adapter.from_pretrained(out)
    assert written.modules.keys() == expected.modules.keys()
    for name, pair in expected.modules.items():
        np.testing.assert_allclose(written.modules[name].delta(), pair.delta(), atol=1e-6)


def test_generate_says_what_it_did_and_what_to_type_next(lorameta, tiny_bank, tiny_rows, tmp_path):
    out = tmp_path / "adapter"
    result = lorameta("generate", tiny_rows, "-o", out, "--bank", tiny_bank)
    assert f"Read 12 rows of {tiny_rows}: prompt from input, answer from output." in result.err
    text = result.out
    assert "animal_sound" in text
    assert all(label in text for label in ("Effective number", "Truncation error", "Time", "Peak memory"))
    assert f"lorameta evaluate TEST.jsonl --adapter {out} --bank {tiny_bank}" in text
    assert f"PeftModel.from_pretrained(base, {str(out)!r})" in text


def test_generate_json_is_the_report(lorameta, tiny_bank, tiny_rows, tmp_path):
    report = lorameta("generate", tiny_rows, "-o", tmp_path / "adapter", "--bank", tiny_bank, "--json").json
    assert report["rows"] == 12
    assert report["nearest"] == "animal_sound"
    assert sum(report["weights"].values()) == pytest.approx(1)
    assert report["adapter"] == str(tmp_path / "adapter")
    assert set(report["sources"]) == set(report["weights"])
    assert report["total_seconds"] > 0


def test_infinite_temperature_is_valid_json(lorameta, tiny_bank, tiny_rows):
    result = lorameta("explain", tiny_rows, "--bank", tiny_bank, "--temperature", "inf", "--json")
    assert result.json["temperature"] == "inf"
    assert set(result.json["weights"].values()) == {0.25}


def test_explain_lists_what_generate_mixes_and_writes_nothing(lorameta, tiny_bank, tiny_rows, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = lorameta("explain", tiny_rows, "--bank", tiny_bank, "--show", 2, "--operator", "uniform")
    assert result.code == 0
    assert "and 2 more with a weight of 0.500 in all" in result.out
    assert f"lorameta generate {tiny_rows} -o my-adapter --bank {tiny_bank} --operator uniform" in result.out
    assert sorted(tmp_path.iterdir()) == before


def test_other_columns_and_rows_without_answers_are_welcome(lorameta, tiny_bank, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question,kind\nWhat does a dog say?,sound\nWhat does a cow say?,sound\n", encoding="utf-8")
    result = lorameta("explain", path, "--bank", tiny_bank, "--input-column", "question", "--json")
    assert result.code == 0, result.err
    assert result.json["rows"] == 2


def test_a_warning_is_one_line_on_stderr(lorameta, tiny_bank, tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text('{"input": "What does a dog say?", "output": "bark"}\n', encoding="utf-8")
    result = lorameta("explain", path, "--bank", tiny_bank, "--json")
    assert result.code == 0
    warned, read = result.err.splitlines()
    assert warned.startswith("lorameta: warning: ")
    assert read.startswith("Read 1 row of ")
    assert result.json["rows"] == 1


def test_explain_searches_and_names_the_options_again(lorameta, tiny_bank, tiny_rows):
    pytest.importorskip("cma")
    pytest.importorskip("peft")
    words = ["--operator", "search", "--evaluations", 3, "--candidates", 2, "--labelled-rows", 4, "--penalty", 0.2]
    result = lorameta("explain", tiny_rows, "--bank", tiny_bank, *words)
    assert result.code == 0, result.err
    assert "operator search, candidates 2, rows 4, evaluations 3, penalty 0.2, loss at start" in " ".join(
        result.out.split()
    )
    expected = "--operator search --penalty 0.2 --candidates 2 --labelled-rows 4 --evaluations 3"
    assert f"lorameta generate {tiny_rows} -o my-adapter --bank {tiny_bank} {expected}" in result.out


BAD_DATA = {
    "empty file": (b"", "rows"),
    "blank lines": (b"\n\n", "rows"),
    "broken JSON": (b'{"input": "a", "output": "b"}\n{"input": "a", "outp\n', "rows.jsonl:2"),
    "wrong column": (b'{"utterance": "a", "intent": "b"}\n', "--input-column"),
    "not UTF-8": ('{"input": "caf\u00e9", "output": "b"}\n'.encode("latin-1"), "utf-8"),
    "not an object": (b"[1, 2]\n", "rows.jsonl:1"),
}


@pytest.mark.parametrize("verb", ["generate", "explain", "evaluate"])
@pytest.mark.parametrize("bad", BAD_DATA)
def test_bad_data_names_the_place_and_writes_nothing(lorameta, tiny_bank, tmp_path, verb, bad):
    content, expected = BAD_DATA[bad]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    output = ["-o", tmp_path / "adapter"] if verb == "generate" else []
    result = lorameta(verb, path, *output, "--bank", tiny_bank)
    assert result.code == 2
    assert expected.lower() in result.err.lower()
    assert "Traceback" not in result.err
    assert result.out == ""
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_all_bad_rows_are_named_at_once(lorameta, tiny_bank, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": ""}\n{"input": "fine"}\n{"output": "x"}\n', encoding="utf-8")
    result = lorameta("generate", path, "-o", tmp_path / "adapter", "--bank", tiny_bank)
    assert result.code == 2
    assert "rows.jsonl:1" in result.err
    assert "rows.jsonl:3" in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--distance", "euclid"], "js, kl"),
        (["--operator", "magic"], "attentional, normalized"),
        (["--combiner", "glue"], "delta"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--top-k", "5"], "4 adapters"),
        (["--top-k", "0"], "top_k"),
        (["--rank", "0"], "--rank"),
        (["--operator", "nearest", "--temperature", "1"], "no temperature"),
        (["--operator", "search", "--top-k", "2"], "candidates"),
        (["--penalty", "0.1"], "has no option 'penalty'"),
        (["--operator", "sparse", "--evaluations", "9"], "it has penalty, candidates"),
        (["--operator", "search", "--labelled-rows", "0"], "rows must be"),
        (["--encoding", "utf-99"], "utf-99"),
        (["--input-column", "input", "--output-column", "input"], "--output-column"),
        (["--bank", "nowhere"], "nowhere"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_calls_name_the_option(lorameta, tiny_bank, tiny_rows, tmp_path, words, expected):
    before = sorted(tmp_path.iterdir())
    bank = [] if "--bank" in words else ["--bank", tiny_bank]
    result = lorameta("generate", tiny_rows, "-o", tmp_path / "adapter", *bank, *words)
    assert result.code == 2, result.err
    assert expected in result.err
    assert "Traceback" not in result.err
    assert sorted(tmp_path.iterdir()) == before


def test_missing_and_unsuitable_data_paths(lorameta, tiny_bank, tmp_path):
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        result = lorameta("explain", path, "--bank", tiny_bank)
        assert result.code == 2
        assert str(path) in result.err


def test_an_adapter_is_replaced_with_force_only(lorameta, tiny_bank, tiny_rows, tmp_path):
    out = tmp_path / "adapter"
    assert lorameta("generate", tiny_rows, "-o", out, "--bank", tiny_bank).code == 0
    before = (out / "adapter_model.safetensors").read_bytes()
    refused = lorameta("generate", tiny_rows, "-o", out, "--bank", tiny_bank, "--operator", "uniform")
    assert refused.code == 2
    assert "--force" in refused.err
    assert (out / "adapter_model.safetensors").read_bytes() == before
    assert lorameta("generate", tiny_rows, "-o", out, "--bank", tiny_bank, "--operator", "uniform", "--force").code == 0
    assert (out / "adapter_model.safetensors").read_bytes() != before


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_not_an_adapter_is_never_replaced(lorameta, tiny_bank, tiny_rows, tmp_path, force):
    folder, file = tmp_path / "thesis", tmp_path / "notes.txt"
    folder.mkdir()
    (folder / "chapter.tex").write_text("years of work")
    file.write_text("notes")
    for out in (folder, file):
        assert lorameta("generate", tiny_rows, "-o", out, "--bank", tiny_bank, *force).code == 2
    assert (folder / "chapter.tex").read_text() == "years of work"
    assert file.read_text() == "notes"


def _truncate(bank):
    path = bank / "adapters" / "animal_sound" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _alter(bank):
    path = bank / "adapters" / "animal_sound" / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def _put_nan(bank):
    path = bank / "adapters" / "animal_sound" / "adapter_model.safetensors"
    arrays = load_file(path)
    next(iter(arrays.values()))[0, 0] = np.nan
    save_file(arrays, path)


def _other_base(bank):
    path = bank / "adapters" / "animal_sound" / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": "somebody/other-7b"}
    path.write_text(json.dumps(config))


def _no_weights(bank):
    (bank / "adapters" / "animal_sound" / "adapter_model.safetensors").unlink()


DAMAGES = {
    "truncated": (_truncate, "adapter_model.safetensors"),
    "altered": (_alter, "sha256"),
    "NaN": (_put_nan, "NaN"),
    "other base": (_other_base, "somebody/other-7b"),
    "missing": (_no_weights, "missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bank_is_refused_by_generate_and_check(lorameta, tiny_bank, tiny_rows, tmp_path, damage):
    break_it, expected = DAMAGES[damage]
    bank = tmp_path / "bank"
    shutil.copytree(tiny_bank, bank)
    break_it(bank)
    generated = lorameta("generate", tiny_rows, "-o", tmp_path / "adapter", "--bank", bank)
    checked = lorameta("bank", "check", bank)
    for code, text in ((generated.code, generated.err), (checked.code, checked.out)):
        assert code == 2
        assert "animal_sound" in text
        assert expected in text
        assert "Traceback" not in text
    assert not (tmp_path / "adapter").exists()


def test_a_failed_write_leaves_nothing(lorameta, tiny_bank, tiny_rows, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    result = lorameta("generate", tiny_rows, "-o", blocker / "adapter", "--bank", tiny_bank)
    assert result.code in (1, 2)
    assert "Traceback" not in result.err
    assert blocker.read_text() == "in the way"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "rows.jsonl"]


def test_a_fault_of_ours_is_a_message_and_a_traceback_on_demand(lorameta, tiny_bank, tiny_rows, monkeypatch):
    monkeypatch.setattr("lorameta.generate.mix", lambda *_, **__: 1 / 0)
    result = lorameta("explain", tiny_rows, "--bank", tiny_bank)
    assert result.code == 1
    assert "ZeroDivisionError" in result.err
    assert "--debug" in result.err
    with pytest.raises(ZeroDivisionError):
        lorameta("explain", tiny_rows, "--bank", tiny_bank, "--debug")
    monkeypatch.setenv("LORAMETA_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        lorameta("explain", tiny_rows, "--bank", tiny_bank)
