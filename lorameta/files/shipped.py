"""Where the banks of lorameta are: `tiny` inside the package, the others in distributions of their own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lorameta.errors import BankError

TINY = "tiny"
#: Bank → the package that holds it, and what pip installs. They are found, never imported.
DISTRIBUTED = {"smollm2": ("lorameta_bank_smollm2", "lorameta-bank-smollm2")}


def shipped_path(name: str) -> Path:
    """Return the directory of a bank of lorameta's own: ``tiny``, or one of :data:`DISTRIBUTED`.

    It is inside an installed package, or in ``adapter_bank`` beside the package in a clone.

    Raises
    ------
    BankError
        It is in neither place; with the command that installs it.
    """
    package = Path(__file__).resolve().parent.parent
    candidates = [package / "adapter_bank" / name, package.parent / "adapter_bank" / name]
    module, distribution = DISTRIBUTED.get(name, ("", ""))
    if module and (spec := importlib.util.find_spec(module)) is not None:
        candidates += [Path(folder) for folder in spec.submodule_search_locations or ()]
    for path in candidates:
        if (path / "bank.json").is_file():
            return path
    if module:
        raise BankError(
            f"the bank {name!r} is not on this machine; install it with\n    pip install {distribution}\n"
            f"or, in a clone of lorameta, with\n    pip install ./adapter_bank/{name}"
        )
    raise BankError(
        f"this copy of lorameta has no bank {name!r} (looked for bank.json in {' and '.join(map(str, candidates))}); "
        "install lorameta from a wheel or a full clone, or give the directory of a bank"
    )


def embedded_path() -> Path:
    """Return the directory of the bank ``tiny``, which comes with lorameta; see :func:`shipped_path`."""
    return shipped_path(TINY)
