"""Record what llama.cpp's own converter makes of the tests' adapters: the oracle of `test_gguf.py`.

    python -m tests.export.record_llama_cpp PATH_OF_A_LLAMA_CPP_CHECKOUT

writes llama_cpp.json: for each architecture the shape, the dtype and the beginning of the SHA-256 of every tensor.
Recorded with the llama.cpp inside llama-cpp-python 0.3.36 (its sdist holds the converter).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.export.models import CONFIGS, linear_shapes, save_adapter, save_base, tiny_model

RECORD = Path(__file__).with_name("llama_cpp.json")


def tensors_of(path: Path) -> dict[str, list]:
    """Name -> [shape as numpy has it, dtype, beginning of the SHA-256]."""
    import gguf

    return {
        tensor.name: [
            [int(n) for n in tensor.shape[::-1]],
            tensor.tensor_type.name,
            hashlib.sha256(tensor.data.tobytes()).hexdigest()[:16],
        ]
        for tensor in sorted(gguf.GGUFReader(path).tensors, key=lambda tensor: tensor.name)
    }


def fields_of(path: Path) -> dict[str, object]:
    """The fields that llama.cpp looks at when it loads an adapter."""
    import gguf

    keys = ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha")
    fields = gguf.GGUFReader(path).fields
    return {key: fields[key].contents() for key in keys}


def main(checkout: Path) -> None:
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in CONFIGS:
            model = tiny_model(architecture)
            base = save_base(model, Path(folder) / architecture)
            adapter = save_adapter(linear_shapes(model), Path(folder) / f"{architecture}-adapter", base)
            out = Path(folder) / f"{architecture}.gguf"
            command = [
                checkout / "convert_lora_to_gguf.py",
                "--outtype",
                "f32",
                "--outfile",
                out,
                "--base",
                base,
                adapter,
            ]
            subprocess.run([sys.executable, *map(str, command)], check=True)
            record[architecture] = {"fields": fields_of(out), "tensors": tensors_of(out)}
    lines = [f"{json.dumps(name)}: {json.dumps(content)}" for name, content in record.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
