"""Anonymous memory of auditing one DeepSeek-V3-shaped layer of 256 experts, beside what `plan` states.

Run: .venv/bin/python tests/benchmarks/memory_of_experts.py. Linux only: it watches RssAnon in /proc. The
layer's 22.5 GB are a sparse file: all experts but 8 are holes, which are read as zeros (and are found dead),
so that the disk holds 0.7 GB and the Gram matrix takes minutes rather than an hour. What is held in memory is
the same.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from memory_by_depth import peak_anonymous

HIDDEN, INNER, EXPERTS, FILLED = 7168, 2048, 256, 8
SHAPES = {"gate_proj": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN), "down_proj": (HIDDEN, INNER)}
CONFIG = {
    "model_type": "deepseek_v3",
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "v_head_dim": 128,
}


def write_layer(folder: Path) -> int:
    """One layer's routed experts as a sparse file; bytes by its header."""
    header, end = {}, 0
    for expert in range(EXPERTS):
        for part, shape in SHAPES.items():
            start, end = end, end + 2 * shape[0] * shape[1]
            name = f"model.layers.0.mlp.experts.{expert}.{part}.weight"
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    spike = torch.randn(HIDDEN) / 30, torch.randn(HIDDEN) / 30
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, entry in header.items():
            if int(name.split(".")[5]) % (EXPERTS // FILLED) == 0:
                file.seek(8 + len(text) + entry["data_offsets"][0])
                weight = torch.randn(entry["shape"]) / HIDDEN**0.5
                weight += 2 * torch.outer(
                    *(side[:size] for side, size in zip(spike, entry["shape"], strict=True))
                )
                file.write(weight.bfloat16().view(torch.int16).numpy().tobytes())
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return end


def main() -> None:
    """Print the stated and the measured peak, and the time, for one projection or all three."""
    only = sys.argv[1] if len(sys.argv) > 1 else "gate"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        print(f"experts of one layer: {write_layer(folder) / 1e9:.1f} GB in bfloat16, {EXPERTS} of them")
        command = [sys.executable, "-m", "audit"]
        plan = subprocess.run(
            [*command, "plan", place, "--only", only, "--json"], capture_output=True, check=True, text=True
        )
        stated = json.loads(plan.stdout)["memory_bytes"]
        started = time.monotonic()
        peak = peak_anonymous([*command, place, "--only", only, "--quiet", "--out", f"{place}/out"])
        seconds = time.monotonic() - started
    one = INNER * HIDDEN
    print(f"one expert in float32: {4 * one / 1e6:.0f} MB; the Gram matrix: {8 * HIDDEN**2 / 1e6:.0f} MB")
    print(f"{only}: {peak / 1e6:.0f} MB anonymous, stated {stated / 1e6:.0f} MB, ratio {peak / stated:.2f}")
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
