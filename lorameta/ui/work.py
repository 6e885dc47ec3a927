"""What one visitor of the page does, by the public functions of the package; nothing here knows of the page."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from lorameta.adapter import Adapter
from lorameta.ask import Answerer
from lorameta.bank import AdapterBank
from lorameta.data import Example, read_examples
from lorameta.data.preview import preview
from lorameta.errors import DataError, LorametaError, UsageError
from lorameta.machine.energy import EnergyMeter
from lorameta.machine.peak import peak_memory
from lorameta.operator.progress import Progress
from lorameta.report.html import html_report
from lorameta.report.html.bank_map import bank_map
from lorameta.report.side_by_side import ASKED, side_by_side

#: Seconds between two looks at a work in progress.
PAUSE = 0.2
NO_ADAPTER = "there is no adapter yet: generate one first"


class Cancelled(LorametaError):
    """The user asked to stop."""


class Work:
    """The state of one visitor: rows, the comparison, the adapter, and a folder that goes when the visitor does.

    Parameters
    ----------
    bank : AdapterBank
    """

    def __init__(self, bank: AdapterBank) -> None:
        self.bank = bank
        self.folder = Path(tempfile.mkdtemp(prefix="lorameta-ui-"))
        self.path: Path | None = None
        self.name = ""
        self.preview: tuple[list[str], list[list[str]]] = ([], [])
        self.examples: list[Example] = []
        self.adapter: Adapter | None = None
        self.report: dict[str, Any] = {}
        self.read_report: dict[str, Any] = {}
        self.told = ""
        #: How to run the GGUF file.
        self.run_it = ""
        self._asked: Callable[[], Answerer] | None = None
        self._stop = threading.Event()

    def close(self) -> None:
        """Stop, and remove the folder."""
        self._stop.set()
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, file: str | None, pasted: str) -> tuple[list[str], list[list[str]]]:
        """Load pasted rows, or else a file, and return their columns and first rows."""
        self.path, self.examples = None, []
        if pasted.strip():
            path = self.folder / f"pasted{_ending(pasted)}"
            path.write_text(pasted, encoding="utf-8")
        elif file:
            path = Path(file)
        else:
            raise UsageError("there are no rows: drop a file, or paste some")
        self.name = path.name
        with self._named(path):
            self.preview = preview(path)
        self.path = path
        return self.preview

    def read(self, input_column: str | None, output_column: str | None) -> list[Example]:
        """Read the rows with the chosen columns; None is what the names of the columns say."""
        if self.path is None:
            raise UsageError("there are no rows yet: drop a file, or paste some")
        self.examples = []  # those of other columns are not meant any more
        with self._named(self.path):
            self.examples, read = read_examples(
                self.path, require_output=False, input_column=input_column, output_column=output_column
            )
        self.read_report = {**read.as_dict(), "source": self.name}
        self.told = read.line().replace(str(self.path), self.name)
        return self.examples

    @contextlib.contextmanager
    def _named(self, path: Path) -> Iterator[None]:
        """Call a file by its name in errors: the place of an upload says nothing to people."""
        try:
            yield
        except DataError as error:
            raise DataError(str(error).replace(str(path), self.name)) from None

    def compare(self, **weighing: Any) -> dict[str, Any]:
        """Return what an adapter would be mixed from, with its place on the map and the gain to expect.

        By distances alone unless an operator is named: that takes no model.
        """
        from lorameta.generate import mix

        self._need_rows()
        mixture = mix(self.examples, bank=self.bank, **{"operator": "normalized", **weighing})
        report = {"data": self.name, "read": self.read_report, **mixture.report(), "bank": self.bank.name}
        return report | {"forecast": mixture.forecast(self.bank), "map": bank_map(report, self.bank)}

    def generate(self, **options: Any) -> Iterator[str]:
        """Make the adapter in a thread of its own; yield what it is doing, until it is done or cancelled."""
        from lorameta.generate import generate_adapter

        self._need_rows()
        self._stop.clear()
        heard, meter = _Heard(self._stop), EnergyMeter()
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                made = generate_adapter(self.examples, bank=self.bank, progress=heard, **options)
                heard.start("placing the dataset on the map")
                found: dict[str, Any] = {"map": bank_map(made.report, self.bank)}
                heard()
                heard.start("asking the base and the adapter", ASKED)
                # Loaded for the first question, and kept for the next.
                asked = cache(partial(Answerer, made, base=self.bank.base_model, revision=self.bank.base_revision))
                found |= side_by_side(asked, self.examples, on_row=heard)
                found |= {"energy_joules": meter.joules(), "peak_memory_mb": peak_memory()}
                outcome.update(found=found, asked=asked, adapter=made)
            except Exception as error:
                outcome["error"] = error

        begin = time.perf_counter()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(PAUSE)
            if self._stop.is_set():
                raise Cancelled("cancelled; no adapter was made")
            if thread.is_alive():
                yield f"{heard.doing} ({time.perf_counter() - begin:.0f} s)"
        if error := outcome.get("error"):
            raise error
        made, self._asked = outcome["adapter"], outcome["asked"]
        self.adapter = made
        self.report = {"data": self.name, "read": self.read_report, "base_model": made.base_model, **made.report}
        self.report |= {**outcome["found"], "total_seconds": round(time.perf_counter() - begin, 2)}

    def cancel(self) -> None:
        """Ask the generation to stop; what it makes from now on is thrown away."""
        self._stop.set()

    def save(self) -> dict[str, Path | LorametaError]:
        """Write the PEFT directory as a zip, the GGUF and the report; what cannot be written says why."""
        from lorameta.export import export
        from lorameta.export.run_it import llama_cpp

        if self.adapter is None:
            raise UsageError(NO_ADAPTER)
        place = self.folder / "downloads"
        shutil.rmtree(place, ignore_errors=True)
        directory = self.adapter.save_pretrained(place / "adapter")
        found: dict[str, Path | LorametaError] = {
            "peft": Path(shutil.make_archive(str(place / "adapter"), "zip", place, "adapter"))
        }
        self.run_it = ""
        try:
            done = export(directory, place / "gguf" / "adapter.gguf", format="gguf", base=self.bank.base_model)
            found["gguf"] = done.path
            if done.details["model"]:  # the base with a head of its own goes with it
                found["gguf"] = Path(shutil.make_archive(str(place / "adapter-gguf"), "zip", done.path.parent))
            self.run_it = llama_cpp(done, self.report, folder=Path())
        except LorametaError as error:
            found["gguf"] = error
        page = place / "report.html"
        page.write_text(html_report("generate", self.report), encoding="utf-8", errors="replace")
        return found | {"report": page}

    def ask(self, text: str, *, with_adapter: bool, on_text: Callable[[str], object]) -> str:
        """Answer with the base or the adapter; the base stays in memory for the next question."""
        if self._asked is None:
            raise UsageError(NO_ADAPTER)
        if not text.strip():
            raise UsageError("the question is empty")
        return self._asked().answer(text, with_adapter=with_adapter, on_text=on_text)

    def _need_rows(self) -> None:
        if not self.examples:
            raise UsageError("there are no rows yet: drop a file, or paste some, and read them")


class _Heard(Progress):
    """Progress that is looked at from another thread, and that ends the work when it is to stop."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self.stop, self.doing = stop, "comparing with the bank and mixing"
        self._what, self._done = "", 0
        self._total: int | None = None

    def __call__(self, done: int = 1) -> None:
        self._done += done
        if self.stop.is_set():
            raise Cancelled("cancelled; no adapter was made")
        if self._what:
            self.doing = f"{self._what}, {self._done}" + (f" of {self._total}" if self._total else "")

    def start(self, doing: str, total: int | None = None) -> None:
        self._what, self._total, self._done, self.doing = doing, total, 0, doing
        if self.stop.is_set():
            raise Cancelled("cancelled; no adapter was made")


def _ending(text: str) -> str:
    """Return the ending of a file with these rows: pasted text has no name."""
    start = text.lstrip()
    if start.startswith("["):
        return ".json"
    if start.startswith("{"):
        return ".jsonl"
    return ".tsv" if "\t" in start.partition("\n")[0] else ".csv"
