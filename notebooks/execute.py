"""Run the notebooks from a clean kernel each, and store what they print: ``python notebooks/execute.py [NAME ...]``.

With ``--check`` nothing is written. The kernel is the interpreter that runs this file, so no kernel has to be
installed. What differs from run to run for no reason (timing, metadata, how a stream was cut into pieces) is left out.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
QUIET = "ignore::FutureWarning,ignore::Warning:tqdm.auto,ignore::UserWarning:peft.tuners.tuners_utils"
#: The width of tables must not depend on the terminal, and warnings of libraries to their authors are no result.
ENVIRONMENT = {"COLUMNS": "110", "PYTHONWARNINGS": QUIET}
PALETTE = 96  # colours of a stored picture: a third of the bytes, and text stays legible


class ThisPython(KernelSpecManager):
    """Knows one kernel: the running interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def notebooks() -> list[Path]:
    """All notebooks, in the order of their numbers."""
    return sorted(HERE.glob("[0-9]*.ipynb"))


def run(path: Path, *, timeout: int = 600) -> nbformat.NotebookNode:
    """The notebook at `path` as a clean kernel fills it; CellExecutionError if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=timeout,
        startup_timeout=timeout,  # a busy machine takes its time to start an interpreter
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute(cleanup_kc=True, env={**os.environ, **ENVIRONMENT, "PYTHONPATH": _python_path()})
    return tidy(notebook)


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without metadata that says nothing about its content, and with pictures of few colours."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = small_png(data["image/png"])
                data.pop("text/plain", None)  # <Figure size ...>
    return notebook


def small_png(encoded: str) -> str:
    """The same picture with a palette; base64 in, base64 out. The same picture gives the same bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(PALETTE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _python_path() -> str:
    return os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def main() -> int:
    """Run the notebooks named on the command line, or all; the exit code is 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="file names, e.g. 01_first_adapter.ipynb; all by default")
    parser.add_argument("--check", action="store_true", help="run them, write nothing")
    arguments = parser.parse_args()
    paths = [HERE / Path(name).name for name in arguments.names] or notebooks()
    if missing := [path.name for path in paths if not path.is_file()]:
        parser.error(f"there is no notebook {', '.join(missing)} in {HERE.name}/")
    failed = 0
    for path in paths:
        start = time.perf_counter()
        try:
            notebook = run(path)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: failed\n{error}", file=sys.stderr)
            continue
        if not arguments.check:
            temporary = path.with_suffix(".ipynb.new")
            nbformat.write(notebook, temporary)
            temporary.replace(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {len(nbformat.writes(notebook)) / 1024:.0f} kB")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
