"""Anonymous memory of auditing one DeepSeek-V3-shaped layer of 256 experts, beside what `plan` states.

Run: .venv/bin/python tests/benchmarks/memory_of_experts.py [PROJECTION] [--quick]

Linux only: it watches RssAnon in /proc. The layer's 22.5 GB are a sparse file: all experts but 8 are holes,
which are read as zeros (and are found dead), so that the disk holds 0.7 GB and the passes take a minute
rather than an hour. What is held in memory is the same. `--quick` takes 32 experts.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from memory_by_depth import AUDIT, peak_anonymous, stated

HIDDEN, INNER, FILLED = 7168, 2048, 8
SHAPES = {"gate_proj": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN), "down_proj": (HIDDEN, INNER)}
CONFIG = {
    "model_type": "deepseek_v3",
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "v_head_dim": 128,
}


def write_layer(folder: Path, experts: int) -> int:
    """One layer's routed experts as a sparse file; bytes by its header."""
    header, end = {}, 0
    for expert in range(experts):
        for part, shape in SHAPES.items():
            start, end = end, end + 2 * shape[0] * shape[1]
            name = f"model.layers.0.mlp.experts.{expert}.{part}.weight"
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    spike = torch.randn(HIDDEN) / 30, torch.randn(HIDDEN) / 30
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, entry in header.items():
            if int(name.split(".")[5]) % (experts // FILLED) == 0:
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
    """Print the stated and the measured peak, and the time, for one projection."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "only", metavar="PROJECTION", nargs="?", default="gate", choices=("gate", "up", "down")
    )
    parser.add_argument("--quick", action="store_true", help="32 experts")
    asked = parser.parse_args()
    experts = 32 if asked.quick else 256
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        nbytes = write_layer(folder, experts)
        print(f"experts of one layer: {nbytes / 1e9:.1f} GB in bfloat16, {experts} of them")
        said = stated(folder, "--only", asked.only)
        started = time.monotonic()
        peak = peak_anonymous([*AUDIT, place, "--only", asked.only, "--quiet", "--out", f"{place}/out"])
        seconds = time.monotonic() - started
    one = INNER * HIDDEN
    print(f"one expert in float32: {4 * one / 1e6:.0f} MB; the Gram matrix: {8 * HIDDEN**2 / 1e6:.0f} MB")
    print(f"{asked.only}: {peak / 1e6:.0f} MB anonymous, stated {said / 1e6:.0f} MB, ratio {peak / said:.2f}")
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
