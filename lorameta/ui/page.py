"""The page: rows, comparison, adapter, questions and downloads, from top to bottom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial, wraps
from html import escape
from queue import Empty, Queue
from typing import Any

import gradio as gr

from lorameta.bank import AdapterBank
from lorameta.errors import LorametaError, told
from lorameta.operator import OPERATORS
from lorameta.report.html import sections
from lorameta.report.html.page import STYLE as REPORT_STYLE
from lorameta.report.html.page import details, table
from lorameta.ui.work import Work

FOUND = "(found by its name)"
_COLOURS = REPORT_STYLE.partition("*{box-sizing")[0]
STYLE = (
    _COLOURS.replace("color-scheme:light dark;", "")
    + """
.lm .scroll{overflow-x:auto}.lm table{border-collapse:collapse;min-width:100%;border:0}
.lm thead,.lm tbody,.lm tr{border:0}.lm caption{text-align:left;opacity:.75;padding:.25rem 0}
.lm th,.lm td{padding:.25rem .6rem;border:0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
.lm td.n,.lm th.n{text-align:right}.lm td.text{white-space:pre-wrap}.lm svg{width:100%;min-width:32rem;height:auto}
.lm figure{margin:.5rem 0}.lm pre{white-space:pre-wrap;overflow-wrap:anywhere}.lm summary{cursor:pointer}
.lm dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}.lm dt{opacity:.75}.lm dd{margin:0}
.lm-error{border-left:.3rem solid var(--bad);padding:.5rem .8rem;white-space:pre-wrap}
.lm-done{border-left:.3rem solid var(--good);padding:.5rem .8rem;white-space:pre-wrap}
"""
)
#: Rows that are shown once they are read.
SHOWN = 3


class Visit:
    """What one visitor does, begun when it is needed: a file may be dropped before the page is done loading.

    The page's own is copied for each visitor.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self._bank, self._lock = bank, threading.Lock()
        self._work: Work | None = None

    def __deepcopy__(self, memo: object) -> Visit:
        return Visit(self._bank)

    @property
    def work(self) -> Work:
        """The visitor's own."""
        with self._lock:
            if self._work is None:
                self._work = Work(self._bank)
            return self._work

    def close(self) -> None:
        """Stop, and remove what was written."""
        if self._work is not None:
            self._work.close()


def build(bank: AdapterBank) -> gr.Blocks:
    """Lay out the page for a bank."""
    with gr.Blocks(title="lorameta", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        work = gr.State(Visit(bank), delete_callback=Visit.close)
        gr.Markdown(
            f"# lorameta\nRows in, a LoRA adapter out: mixed from the {len(bank)} adapters of the bank "
            f"**{bank.name}**. Everything stays on this machine."
        )
        gr.Markdown("## 1. Rows")
        with gr.Row():
            file = gr.File(label="A file: CSV, TSV, JSON, JSON Lines or Parquet", elem_id="file")
            pasted = gr.Textbox(
                label="or rows, pasted", lines=6, elem_id="pasted", placeholder="input,output\ndog,bark"
            )
        take = gr.Button("Read the rows", variant="primary", elem_id="take")
        with gr.Row(visible=False) as choice:
            inputs = gr.Dropdown([FOUND], value=FOUND, label="Column of the input", elem_id="input-column")
            outputs = gr.Dropdown([FOUND], value=FOUND, label="Column of the answer", elem_id="output-column")
        rows = gr.HTML(elem_id="rows", elem_classes="lm")

        gr.Markdown("## 2. Adapter")
        operator = gr.Dropdown(
            [("the one that measured best", ""), *((f"{name}: {one.doc}", name) for name, one in OPERATORS.items())],
            value="", label="How weights are found", elem_id="operator",
        )  # fmt: skip
        with gr.Row():
            compare = gr.Button("Compare with the bank", elem_id="compare")
            generate = gr.Button("Generate the adapter", variant="primary", elem_id="generate")
            cancel = gr.Button("Cancel", variant="stop", elem_id="cancel")
        status = gr.HTML(elem_id="status", elem_classes="lm")
        with gr.Row():
            peft = gr.DownloadButton("PEFT directory (zip)", interactive=False, elem_id="peft")
            gguf = gr.DownloadButton("GGUF for llama.cpp", interactive=False, elem_id="gguf")
            report = gr.DownloadButton("Report (HTML)", interactive=False, elem_id="report")
        found = gr.HTML(elem_id="found", elem_classes="lm")

        gr.Markdown("## 3. Questions")
        with gr.Row():
            question = gr.Textbox(label="An input, as in the rows", scale=4, elem_id="question")
            ask = gr.Button("Ask", variant="primary", scale=1, elem_id="ask")
        asked = gr.HTML(elem_id="asked", elem_classes="lm")
        with gr.Row():
            base = gr.Textbox(label="Base alone", interactive=False, elem_id="base")
            mine = gr.Textbox(label="With the adapter", interactive=False, elem_id="mine")

        shown = [inputs, outputs, choice, rows]
        take.click(_read, [work, file, pasted], shown, api_visibility="private")
        file.upload(_read_file, [work, file], shown, api_visibility="private")
        for column in (inputs, outputs):
            column.input(_choose, [work, inputs, outputs], rows, api_visibility="private")
        compare.click(_compare, [work, operator], [status, found], api_visibility="private")
        made = [status, found, peft, gguf, report]
        generate.click(_generate, [work, operator], made, api_visibility="private")
        cancel.click(_cancel, work, None, queue=False, api_visibility="private")
        answers = (_ask, [work, question], [asked, base, mine])
        ask.click(*answers, api_visibility="private")
        question.submit(*answers, api_visibility="private")
    return page


def _telling(places: int, at: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Show an error of a handler in its output number `at` of `places`, worded as in the terminal."""

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(handler)
        def called(visit: Visit, *values: Any) -> Iterator[Any]:
            try:
                yield from handler(visit.work, *values)
            except Exception as error:
                if not isinstance(error, LorametaError | OSError):
                    import traceback

                    traceback.print_exc()
                shown = [gr.skip()] * places
                shown[at] = f'<div class="lm-error" role="alert">{escape(told(error))}</div>'
                yield shown if places > 1 else shown[0]

        return called

    return decorate


def _done(text: str) -> str:
    return f'<div class="lm-done" role="status">{escape(text)}</div>'


@_telling(4, 3)
def _read(work: Work, file: str | None, pasted: str) -> Iterator[Any]:
    columns, _ = work.load(file, pasted)
    drop = gr.update(choices=[FOUND, *columns], value=FOUND)
    yield drop, drop, gr.update(visible=True), _preview(work)
    yield drop, drop, gr.update(visible=True), _understood(work, None, None)


def _read_file(visit: Visit, file: str | None) -> Iterator[Any]:
    yield from _read(visit, file, "")


@_telling(1, 0)
def _choose(work: Work, inputs: str, outputs: str) -> Iterator[Any]:
    yield _understood(work, *(None if name == FOUND else name for name in (inputs, outputs)))


def _understood(work: Work, input_column: str | None, output_column: str | None) -> str:
    """Return what was understood of the rows, or why they cannot be used, above the rows as they stand in the file."""
    try:
        said = _rows(work, input_column, output_column)
    except LorametaError as error:  # other columns may be chosen
        said = f'<div class="lm-error" role="alert">{escape(told(error))}</div>'
    return said + _preview(work)


def _preview(work: Work) -> str:
    columns, cells = work.preview
    return table(f"The first rows of {work.name}", columns, [[escape(cell[:200]) for cell in row] for row in cells])


def _rows(work: Work, input_column: str | None, output_column: str | None) -> str:
    """Return what was understood of the rows."""
    examples = work.read(input_column, output_column)
    said = _done(work.told)
    cells = [[escape(example.input[:600]), escape(example.output[:200])] for example in examples[:SHOWN]]
    return said + table("As the model will read them", ["prompt", "answer"], cells, "tt")


def _options(operator: str) -> dict[str, Any]:
    return {"operator": operator} if operator else {}


@_telling(2, 0)
def _compare(work: Work, operator: str) -> Iterator[Any]:
    yield _done("comparing with the bank ..."), gr.skip()
    report = work.compare(**_options(operator))
    yield _done("Compared; no adapter is made yet."), sections.place(report) + sections.weights(report)


@_telling(5, 0)
def _generate(work: Work, operator: str) -> Iterator[Any]:
    off = gr.update(value=None, interactive=False)
    for doing in work.generate(**_options(operator)):
        yield _done(f"{doing} ..."), gr.skip(), off, off, off
    yield _done("writing the files ..."), gr.skip(), off, off, off
    files = work.save()
    buttons, lacking = [], []
    for kind in ("peft", "gguf", "report"):
        one = files[kind]
        lacking += [f"\n{kind.upper()}: {one}"] if isinstance(one, Exception) else []
        buttons.append(off if isinstance(one, Exception) else gr.update(value=str(one), interactive=True))
    seconds = work.report["total_seconds"]
    said = f"Made an adapter of {len(work.report['weights'])} others in {seconds:.1f} s.{''.join(lacking)}"
    yield (
        _done(said),
        _how_to_run(work) + "".join(part(work.report) for part in (sections.place, sections.stages, sections.weights)),
        *buttons,
    )


def _how_to_run(work: Work) -> str:
    """Return what to do with the files, folded away."""
    load = (
        "Load it with PEFT, from the unpacked directory:\n"
        "    from peft import PeftModel\n    from transformers import AutoModelForCausalLM\n"
        f"    base = AutoModelForCausalLM.from_pretrained({work.report['base_model']!r})\n"
        '    model = PeftModel.from_pretrained(base, "adapter")'
    )
    text = "\n\n".join(part for part in (load, work.run_it) if part)
    return details("How to run the files", f"<pre>{escape(text)}</pre>")


def _cancel(visit: Visit) -> None:
    visit.work.cancel()


@_telling(3, 0)
def _ask(work: Work, question: str) -> Iterator[Any]:
    yield _done("loading the base model ..."), "", ""
    shown = {False: "", True: ""}
    for active in (False, True):
        for part in _parts(partial(work.ask, question, with_adapter=active)):
            shown[active] += part
            yield "", shown[False], shown[True]
    yield _done("Answered."), shown[False], shown[True]


def _parts(answer: Callable[..., str]) -> Iterator[str]:
    """Yield the parts of an answer as they come; its error, raised here."""
    queue: Queue[str] = Queue()
    failed: list[Exception] = []

    def work() -> None:
        try:
            answer(on_text=queue.put)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() or not queue.empty():
        try:
            yield queue.get(timeout=0.1)
        except Empty:
            continue
    if failed:
        raise failed[0]
