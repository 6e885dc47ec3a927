"""`lorameta bank`: info, list and check tell the same of a bank to people and to machines."""

import json
import shutil

import pytest


def test_info_counts_families_and_licences(lorameta, tiny_bank):
    facts = lorameta("bank", "info", tiny_bank, "--json").json
    assert facts["adapters"] == 4
    assert facts["left_out"] == 1
    assert facts["ranks"] == {"4": 4}
    assert facts["targets"] == {"k_proj": 4, "q_proj": 4, "v_proj": 4}
    assert facts["licences"] == {"CC0-1.0": 4}
    assert facts["summaries"] == ["tokens", "sentence"]
    assert {name: family["adapters"] for name, family in facts["families"].items()} == {"facts": 3, "words": 1}
    text = lorameta("bank", "info", tiny_bank).out
    assert "4 (rank 4, on k_proj, q_proj, v_proj)" in text
    assert str(tiny_bank) in text


def test_list_has_every_adapter_with_its_scores(lorameta, tiny_bank):
    listed = lorameta("bank", "list", tiny_bank, "--json").json["adapters"]
    assert {row["id"] for row in listed} == {"animal_sound", "thing_colour", "number_word", "opposite"}
    assert {row["adapter_exact_match"] for row in listed} == {0.8}
    text = lorameta("bank", "list", tiny_bank).out
    assert all(row["id"] in text for row in listed)


def test_a_bank_without_scores_can_be_shown(lorameta, tiny_bank, tmp_path):
    bank = tmp_path / "bank"
    shutil.copytree(tiny_bank, bank)
    manifest = json.loads((bank / "bank.json").read_text())
    for record in manifest["adapters"]:
        record["scores"] = {}
    (bank / "bank.json").write_text(json.dumps(manifest))
    for verb, names in (("info", ("facts", "words")), ("list", ("animal_sound", "opposite"))):
        result = lorameta("bank", verb, bank)
        assert result.code == 0, result.err
        for name in names:
            row = next(line.split() for line in result.out.splitlines() if line.startswith(f"{name} "))
            assert row.count("-") == 4, row  # exact match and ROUGE-L, of the base and of the adapters


def test_check_finds_a_whole_bank_whole(lorameta, tiny_bank):
    result = lorameta("bank", "check", tiny_bank)
    assert result.code == 0
    assert "is whole (4 adapters" in result.out
    report = lorameta("bank", "check", tiny_bank, "--json").json
    assert report["ok"] is True
    assert report["problems"] == []


def test_check_lists_all_problems_and_ends_with_2(lorameta, tiny_bank, tmp_path):
    bank = tmp_path / "bank"
    shutil.copytree(tiny_bank, bank)
    for task in ("opposite", "number_word"):
        (bank / "adapters" / task / "adapter_model.safetensors").write_bytes(b"")
    result = lorameta("bank", "check", bank, "--json")
    assert result.code == 2
    assert result.json["ok"] is False
    text = "\n".join(result.json["problems"])
    assert "opposite" in text
    assert "number_word" in text


@pytest.mark.parametrize("verb", ["info", "list", "check"])
def test_a_missing_or_broken_bank_is_named(lorameta, tmp_path, verb):
    result = lorameta("bank", verb, tmp_path / "nowhere")
    assert result.code == 2
    assert "nowhere" in result.err
    (tmp_path / "bank.json").write_text("{")
    result = lorameta("bank", verb, tmp_path)
    assert result.code == 2
    assert "bank.json" in result.err
    assert "Traceback" not in result.err


def test_fit_keeps_an_operator_that_generate_then_uses(lorameta, tiny_bank, tiny_rows, tmp_path):
    bank = tmp_path / "bank"
    shutil.copytree(tiny_bank, bank)
    refused = lorameta("explain", tiny_rows, "--bank", bank, "--operator", "neural", "--distance", "js")
    assert refused.code == 2
    assert f"lorameta bank fit {bank} --distance js" in refused.err
    result = lorameta("bank", "fit", bank, "--distance", "js", "-d", "kl", "--width", 4, "--json")
    assert result.code == 0, result.err
    first, second = result.json["fits"]
    assert (first["distance"], second["distance"]) == ("js", "kl")
    assert first["path"] == str(bank / "operators" / "neural-js.safetensors")
    assert first["errors"]["neural"] <= first["errors"]["normalized"] + 1e-6
    explained = lorameta(
        "explain", tiny_rows, "--bank", bank, "--operator", "neural", "--distance", "kl", "--json"
    ).json
    assert explained["operator_details"]["fit_error_neural"] == round(second["errors"]["neural"], 4)
    assert sum(explained["weights"].values()) == pytest.approx(1)
    assert lorameta("bank", "check", bank).code == 0


def test_fit_tells_what_was_learned(lorameta, tiny_bank, tmp_path):
    bank = tmp_path / "bank"
    shutil.copytree(tiny_bank, bank)
    text = lorameta("bank", "fit", bank, "-d", "cosine", "--width", 2).out
    assert "Fitted to the 4 adapters of the bank tiny-bank" in text
    assert all(way in text for way in ("cosine", "uniform", "normalized", "neural", "held-out neural"))
    wrong = lorameta("bank", "fit", bank, "-d", "cosine", "-d", "euclid")
    assert wrong.code == 2
    assert "euclid" in wrong.err
    assert [file.name for file in (bank / "operators").iterdir()] == ["neural-cosine.safetensors"]


def test_the_transfer_operator_is_measured_on_the_tasks_rows(lorameta, tiny_bank, tiny_rows, tmp_path):
    bank, tasks = tmp_path / "bank", tmp_path / "tasks"
    shutil.copytree(tiny_bank, bank)
    tasks.mkdir()
    refused = lorameta("bank", "fit", bank, "--operator", "transfer")
    assert refused.code == 2
    assert "--tasks FOLDER" in refused.err
    refused = lorameta("bank", "fit", bank, "--operator", "transfer", "--tasks", tasks)
    assert refused.code == 2
    assert "lacks the rows of 4 tasks: animal_sound.jsonl" in refused.err
    for name in ("animal_sound", "thing_colour", "number_word", "opposite"):
        rows = [{"input": f"Say {name} of {i}.", "output": f"word {i}"} for i in range(60)]
        (tasks / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lorameta("bank", "fit", bank, "--operator", "transfer", "--tasks", tasks)
    assert done.code == 0, done.err
    assert "at most 12 held-out rows of each of the 4 tasks" in done.out
    assert "Read 240 rows of 4 datasets: prompt from input, answer from output." in done.err
    assert "Worth most to the others" in done.out
    explained = lorameta("explain", tiny_rows, "--bank", bank, "--operator", "transfer", "--json").json
    assert "slope_on_distance" in explained["operator_details"]
    assert lorameta("bank", "check", bank).code == 0


def test_the_adapter_of_all_tasks_is_trained_on_the_tasks_rows(lorameta, tiny_bank, tiny_rows, tmp_path):
    bank, tasks = tmp_path / "bank", tmp_path / "tasks"
    shutil.copytree(tiny_bank, bank)
    tasks.mkdir()
    refused = lorameta("bank", "fit", bank, "--operator", "neural", "--rows", "4")
    assert refused.code == 2
    assert "--rows is for --operator transfer and multi_task alone" in refused.err
    for name in ("animal_sound", "thing_colour", "number_word", "opposite"):
        rows = [{"input": f"Say {name} of {i}.", "output": "cat"} for i in range(60)]
        (tasks / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--operator", "multi_task", "--tasks", tasks, "--rows", "24", "--json")
    done = lorameta("bank", "fit", bank, *options)
    assert done.code == 0, done.err
    assert done.json["held_out_loss"]["adapter"] < done.json["held_out_loss"]["base"]
    unlabelled = tmp_path / "unlabelled.jsonl"
    rows = [json.loads(line) for line in tiny_rows.read_text().splitlines()]
    unlabelled.write_text("".join(json.dumps({"input": row["input"]}) + "\n" for row in rows))
    explained = lorameta("explain", unlabelled, "--bank", bank)
    assert "multi-task adapter" in explained.out
    assert "4 of 4 and the multi-task adapter" in explained.out
    made = lorameta("generate", unlabelled, "--bank", bank, "-o", tmp_path / "made", "--json").json
    assert made["weights"]["multi-task adapter"] == 0.75
    assert made["auto"]["chose"] == "multi_task"
    assert lorameta("bank", "check", bank).code == 0
