"""One LoRA update of one linear layer: the unit that banks store, combiners mix and adapters hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lorameta.errors import UsageError


@dataclass(frozen=True, eq=False)
class LoraPair:
    """The update ΔW = scaling · B A of one weight of shape (d_out, d_in).

    Attributes
    ----------
    A : numpy.ndarray of shape (r, d_in)
        float32.
    B : numpy.ndarray of shape (d_out, r)
        float32.
    scaling : float
        alpha / r, or alpha / √r with rslora.
    """

    A: np.ndarray
    B: np.ndarray
    scaling: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "A", np.asarray(self.A, dtype=np.float32))
        object.__setattr__(self, "B", np.asarray(self.B, dtype=np.float32))
        object.__setattr__(self, "scaling", float(self.scaling))
        if self.A.ndim != 2 or self.B.ndim != 2 or self.A.shape[0] != self.B.shape[1]:
            raise UsageError(
                f"B {self.B.shape} times A {self.A.shape} is no product; they must be (d_out, r) and (r, d_in)"
            )

    @property
    def rank(self) -> int:
        """Inner dimension r: an upper bound of the rank of ΔW."""
        return int(self.A.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in), the shape of the weight that is updated."""
        return int(self.B.shape[0]), int(self.A.shape[1])

    def delta(self) -> np.ndarray:
        """ΔW itself, float32 of shape (d_out, d_in): for tests and merging, not for mixing."""
        return np.asarray(self.scaling * (self.B.astype(np.float64) @ self.A.astype(np.float64)), dtype=np.float32)

    def with_scaling(self, scaling: float) -> LoraPair:
        """Return the same update with another scaling, B divided by what that is larger; `scaling` is not 0."""
        return LoraPair(self.A, self.B * np.float32(self.scaling / scaling), scaling)

    def norm(self) -> float:
        """Frobenius norm of ΔW, from the two r × r Gram matrices: ‖BA‖² = ⟨BᵀB, AAᵀ⟩."""
        A, B = self.A.astype(np.float64), self.B.astype(np.float64)
        return abs(self.scaling) * float(np.sqrt(max(0.0, float(np.vdot(B.T @ B, A @ A.T)))))


def layout(modules: Mapping[str, LoraPair]) -> Mapping[str, tuple[int, int, int, float]]:
    """Module → (rank, d_out, d_in, scaling), from the header alone where the numbers are still in a file."""
    known: Mapping[str, tuple[int, int, int, float]] | None = getattr(modules, "layout", None)
    if known is not None:
        return known
    return {module: (pair.rank, *pair.shape, pair.scaling) for module, pair in modules.items()}
