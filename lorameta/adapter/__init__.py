"""LoRA adapters: low-rank updates by module, the PEFT directory that they are kept in, and its card."""

from __future__ import annotations

from lorameta.adapter.adapter import Adapter
from lorameta.adapter.lora import LoraPair

__all__ = ["Adapter", "LoraPair"]
