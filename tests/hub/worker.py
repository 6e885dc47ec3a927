"""The command line in a process of its own, for many calls: one JSON object a line in, one out.

`HF_ENDPOINT` and its like are read when the Hub's client is imported, so this process is started with them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings

from lorameta.cli import common, main
from lorameta.errors import LorametaWarning


def call(words: list[str]) -> int:
    """What the entry point does; its exit code."""
    common.debugging = False
    sys.argv = ["lorameta", *words]
    try:
        main()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    return 0


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        for name, value in asked["env"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        os.chdir(asked["cwd"])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("always", LorametaWarning)
            code = call(asked["words"])
        print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
