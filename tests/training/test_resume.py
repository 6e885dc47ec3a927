"""A run that is killed goes on where it was, with the same numbers; what is not its own is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")


from lorameta.errors import UsageError
from lorameta.training import finetune, prepared
from tests.training.refining import FAST, ROWS

KILLED = """
    import os, signal, sys
    import torch
    torch.set_num_threads(1)
    from lorameta.training import finetune
    import json
    folder, base, rows, kill = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
    settings = json.loads(sys.argv[5])
    def report(progress):
        if progress.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    done = finetune(rows, base, settings=settings, checkpoint=folder + "/state", report=report)
    done.save_pretrained(folder + "/out")
    print(json.dumps(done.report["refinement"]["history"]))
"""


@pytest.mark.parametrize("kill", [2, 11])
def test_killed_and_resumed_it_ends_with_the_same_weights(where, tmp_path, kill):
    settings = FAST | {"dropout": 0.2, "save_steps": 4}
    whole = finetune(ROWS, where, settings=settings)
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), where, json.dumps(ROWS)]
    killed = subprocess.run([*words, str(kill), json.dumps(settings)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "state" / "run.json").is_file()
    assert (tmp_path / "state" / "state.safetensors").is_file() == (kill > 4)
    log = tmp_path / "log.jsonl"
    resumed = finetune(ROWS, where, settings=settings, checkpoint=tmp_path / "state", log=log)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == list(range(1 if kill == 2 else 9, 21))
    assert resumed.report["refinement"]["history"] == whole.report["refinement"]["history"]
    for name, pair in whole.modules.items():
        assert np.array_equal(pair.A, resumed.modules[name].A)
        assert np.array_equal(pair.B, resumed.modules[name].B)
    assert not (tmp_path / "state").exists()


def test_a_run_with_other_settings_is_not_gone_on_with(where, tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 6:
            raise Stop

    settings = FAST | {"save_steps": 5}
    with pytest.raises(Stop):
        finetune(ROWS, where, settings=settings, checkpoint=tmp_path / "state", report=stop)
    with pytest.raises(UsageError, match="--fresh"):
        finetune(ROWS, where, settings=settings | {"seed": 3}, checkpoint=tmp_path / "state")
    with pytest.raises(UsageError, match="--fresh"):
        finetune(ROWS[:-1], where, settings=settings, checkpoint=tmp_path / "state")
    with prepared(ROWS, where, settings, checkpoint=tmp_path / "state") as job:
        assert job.plan.resumed_at == 5
    with prepared(ROWS, where, settings, checkpoint=tmp_path / "state", fresh=True) as job:
        assert job.plan.resumed_at == 0


def test_a_damaged_checkpoint_is_named(where, tmp_path):
    settings = FAST | {"save_steps": 5}
    with prepared(ROWS, where, settings, checkpoint=tmp_path / "state") as job:
        job.run()
    (tmp_path / "state" / "state.safetensors").write_bytes(b"\x08" * 40)
    with pytest.raises(UsageError, match=r"state\.safetensors cannot be read"):
        finetune(ROWS, where, settings=settings, checkpoint=tmp_path / "state")


def test_two_runs_do_not_write_to_one_place(where, tmp_path):
    with prepared(ROWS, where, FAST, checkpoint=tmp_path / "state"):
        code = (
            "import sys, json\nfrom lorameta.training import finetune\n"
            "finetune(json.loads(sys.argv[2]), sys.argv[1], settings=json.loads(sys.argv[3]), checkpoint=sys.argv[4])"
        )
        words = [sys.executable, "-c", code, where, json.dumps(ROWS), json.dumps(FAST), str(tmp_path / "state")]
        other = subprocess.run(words, capture_output=True, text=True)
    assert other.returncode != 0
    assert "another process is at work" in other.stderr
