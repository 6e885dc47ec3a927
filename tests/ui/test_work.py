"""What a visitor of the page does, without the page: the results are those of the public functions."""

from __future__ import annotations

import re
import threading
import zipfile

import pytest

pytest.importorskip("gradio")
pytest.importorskip("peft")

from lorameta import Adapter, AdapterBank, DataError, UsageError, generate_adapter, load_examples
from lorameta.ui.work import Cancelled, Work


@pytest.fixture
def work(tiny_bank):
    made = Work(AdapterBank.open(tiny_bank))
    yield made
    made.close()
    assert not made.folder.exists()


def test_from_rows_to_downloads(work, tiny_bank, tiny_rows, tmp_path):
    columns, cells = work.load(str(tiny_rows), "")
    assert columns == ["input", "output"]
    assert cells[0][1] == "bark"
    assert len(work.read(None, None)) == 12
    assert "rows.jsonl" in work.told
    assert str(tiny_rows) not in work.told
    report = work.compare()
    assert report["nearest"] == "animal_sound"
    assert len(report["map"]["points"]) == len(work.bank) + 1
    list(work.generate(operator="nearest"))
    files = work.save()
    zipfile.ZipFile(files["peft"]).extractall(tmp_path)
    expected = generate_adapter(load_examples(tiny_rows), bank=tiny_bank, operator="nearest")
    directory = expected.save_pretrained(tmp_path / "expected")
    weights = "adapter_model.safetensors"
    assert (tmp_path / "adapter" / weights).read_bytes() == (directory / weights).read_bytes()
    assert Adapter.from_pretrained(tmp_path / "adapter").report["prompt"]["suffix"] == "\n\nOutput:"
    assert files["gguf"].read_bytes()[:4] == b"GGUF"
    assert "animal_sound" in files["report"].read_text(encoding="utf-8")
    pieces: list[str] = []
    page = files["report"].read_text(encoding="utf-8")
    assert "What each model answered" in page
    assert work.report["peak_memory_mb"] > 10
    assert "lora_path='adapter.gguf'" in work.run_it
    answer = work.ask("dog farm 0", with_adapter=False, on_text=pieces.append)
    assert "".join(pieces).strip() == answer


def test_a_base_with_a_head_of_its_own_goes_with_the_gguf(work, tiny_rows, monkeypatch):
    import lorameta.export
    from lorameta.export.result import Exported

    def with_head(directory, output, **options):
        output.parent.mkdir(parents=True)
        model = output.with_name("adapter-base.gguf")
        for file in (output, model):
            file.write_bytes(b"GGUF")
        return Exported(output, "gguf", str(options["base"]), "f32", 1, 4, 0.0, {"model": str(model)})

    monkeypatch.setattr(lorameta.export, "export", with_head)
    work.load(str(tiny_rows), "")
    work.read(None, None)
    list(work.generate(operator="nearest"))
    assert sorted(zipfile.ZipFile(work.save()["gguf"]).namelist()) == ["adapter-base.gguf", "adapter.gguf"]
    assert "llama-server -m adapter-base.gguf --lora adapter.gguf" in work.run_it


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("input,output\ndog,bark\ncat,meow\n", ["input", "output"]),
        ("input\toutput\ndog\tbark\ncat\tmeow\n", ["input", "output"]),
        ('{"a": "dog", "b": "bark"}\n{"a": "cat", "b": "meow"}\n', ["a", "b"]),
        ('[{"a": "dog", "b": "bark"}, {"a": "cat", "b": "meow"}]', ["a", "b"]),
    ],
)
def test_pasted_rows_of_any_form(work, text, columns):
    found, cells = work.load(None, text)
    assert found == columns
    assert cells == [["dog", "bark"], ["cat", "meow"]]
    examples = work.read(*columns)
    assert [example.output for example in examples] == ["bark", "meow"]
    with pytest.raises(DataError, match="no column 'c'"):
        work.read("c", None)
    assert work.examples == []


def test_each_visitor_has_a_work_of_its_own_from_the_first_click(tiny_bank):
    import copy

    from lorameta.ui.page import Visit

    template = Visit(AdapterBank.open(tiny_bank))
    one, other = copy.deepcopy(template), copy.deepcopy(template)
    assert one.work is one.work
    assert one.work is not other.work
    assert one.work.bank is other.work.bank
    folder = one.work.folder
    assert folder.exists()
    for visit in (template, one, other):
        visit.close()
    assert not folder.exists()


def test_a_refused_file_is_called_by_its_name(work, tmp_path):
    place = tmp_path / "upload-7f3a" / "notes.csv"
    place.parent.mkdir()
    place.write_bytes(b"PK\x03\x04 a workbook")
    with pytest.raises(DataError, match=r"notes\.csv is a zip") as caught:
        work.load(str(place), "")
    assert "upload-7f3a" not in str(caught.value)
    with pytest.raises(UsageError, match="no rows"):
        work.load(None, "  ")


def test_a_step_that_is_too_early_says_what_is_lacking(work):
    for step in (work.compare, lambda: list(work.generate()), work.save,
                 lambda: work.ask("dog", with_adapter=True, on_text=print)):  # fmt: skip
        with pytest.raises(UsageError, match=r"drop a file|generate one first"):
            step()


def test_a_cancelled_generation_leaves_no_adapter_and_no_thread(work, tiny_rows, monkeypatch):
    import lorameta.generate

    began, threads = threading.Event(), []

    def endless(*_: object, progress, **__: object):
        threads.append(threading.current_thread())
        progress.start("running the base")
        while True:
            began.set()
            progress(1)

    monkeypatch.setattr(lorameta.generate, "generate_adapter", endless)
    work.load(str(tiny_rows), "")
    work.read(None, None)

    def run() -> None:
        for told in work.generate():
            assert re.fullmatch(r"\w.* \(\d+ s\)", told)
            began.wait(10)
            work.cancel()

    with pytest.raises(Cancelled, match="no adapter was made"):
        run()
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert work.adapter is None
