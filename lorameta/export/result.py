"""What an export hands back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exported:
    """An export that was written.

    Attributes
    ----------
    path : Path
        The GGUF file, or the directory of the merged model.
    format : str
    base : str
        The base that the adapter changes: a Hub id or a directory.
    dtype : str
        ``f32``, ``f16``, ``bf16``; of a merged model ``base`` where each tensor keeps the dtype it has there.
    modules : int
        Layers that the adapter changes.
    bytes : int
        Of everything that was written.
    rounding : float
        Relative error of the update by rounding to `dtype`: ‖ΔW as stored − ΔW‖ / ‖ΔW‖, Frobenius norms over all
        changed layers.
    details : dict
        JSON-able facts of the format.
    """

    path: Path
    format: str
    base: str
    dtype: str
    modules: int
    bytes: int
    rounding: float
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": str(self.path)}
