"""A folder of datasets: which files are tasks, what the index says of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorameta.bank_builder.train.tasks import find_tasks, read_rows
from lorameta.errors import DataError

ROW = '{"input": "a", "output": "b"}\n{"input": "c", "output": "d"}\n'


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def test_files_of_known_formats_are_tasks_sorted_by_id(tmp_path):
    folder = write(tmp_path / "t", b__jsonl=ROW, a__csv="input,output\nx,y\n", notes__txt="hello", index__json="[]")
    write(folder, __hidden__jsonl=ROW)
    (folder / "folder.jsonl").mkdir()
    assert [(task.id, task.file.name) for task in find_tasks(folder)] == [("a", "a.csv"), ("b", "b.jsonl")]


def test_the_index_of_the_embedded_bank_s_data_is_understood(tmp_path):
    entry = {
        "id": "one", "family": "words", "licence": "CC0-1.0", "rows": 900, "metric": "exact_match", "n_labels": None,
        "source": {"name": "x", "repo": "o/r", "commit": "c", "path": "p"}, "definition": "Say it.",
    }  # fmt: skip
    folder = write(tmp_path / "t", one__jsonl=ROW, two__jsonl=ROW, index__json=json.dumps([entry, {"id": "absent"}]))
    one, two = find_tasks(folder)
    assert (one.family, one.licence, one.definition) == ("words", "CC0-1.0", "Say it.")
    assert one.source == entry["source"]
    assert (two.family, two.source) == ("", {})
    elsewhere = write(tmp_path / "i", by_id__json=json.dumps({"two": {"family": "other"}}))
    assert find_tasks(folder, elsewhere / "by_id.json")[1].family == "other"


def test_everything_wrong_with_the_names_is_said_at_once(tmp_path):
    folder = write(tmp_path / "t", a__csv="input,output\nx,y\n", a__jsonl=ROW)
    write(folder, **{"with space__jsonl": ROW, "nul__jsonl": ROW})
    with pytest.raises(DataError) as error:
        find_tasks(folder)
    for part in ("a.csv and a.jsonl", "'with space'", "'nul'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "cannot be read"),
        ("3", "neither a list nor an object"),
        ('[{"family": "f"}]', "entry 1 is no object with an id"),
        ('[{"id": "a"}, {"id": "a"}]', "there twice"),
        ('[{"id": "a", "licence": 3}]', "licence is 3"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, index, said):
    with pytest.raises(DataError, match=said):
        find_tasks(write(tmp_path / "t", a__jsonl=ROW, index__json=index))


def test_no_folder_no_dataset_no_index(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        find_tasks(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no dataset"):
        find_tasks(write(tmp_path / "t", notes__txt="x"))
    with pytest.raises(DataError, match="no index"):
        find_tasks(write(tmp_path / "t", a__jsonl=ROW), tmp_path / "none.json")


def test_rows_are_read_in_parts_and_bad_ones_named(tmp_path):
    folder = write(tmp_path / "t", a__jsonl=ROW, b__jsonl=ROW + '{"input": "e"}\n', c__jsonl=ROW.splitlines()[0] * 1)
    a, b, c = find_tasks(folder)
    assert read_rows(a).counts() == {"train": 1, "validation": 1, "test": 0}
    with pytest.raises(DataError, match=r"b\.jsonl:3"):
        read_rows(b)
    with pytest.warns(), pytest.raises(DataError, match=r"c\.jsonl has 1 different row"):
        read_rows(c)


def test_a_packed_dataset_has_the_name_of_what_is_in_it(tmp_path):
    import gzip

    with gzip.open(tmp_path / "colours.jsonl.gz", "wt") as file:
        file.writelines(f'{{"input": "{n}", "output": "x"}}\n' for n in range(4))
    (task,) = find_tasks(tmp_path)
    assert task.id == "colours"
    assert sum(read_rows(task).counts().values()) == 4
