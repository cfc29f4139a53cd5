"""Peak memory of an audit of 4 and of 32 layers of the same shape: it must not grow with depth.

Run: .venv/bin/python tests/benchmarks/memory_by_depth.py. Linux only: it watches RssAnon in /proc. Writes
a bf16 llama of hidden size 1024 to a temporary folder (0.9 GB at 32 layers).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, FFN, HEADS, KV = 1024, 4096, 16, 4
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN * KV // HEADS, HIDDEN),
    "self_attn.v_proj": (HIDDEN * KV // HEADS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}


def write_model(folder: Path, layers: int) -> None:
    """Random weights with one spike each, so that Lanczos works as it does on trained ones."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(layers):
        for name, (out, in_) in SHAPES.items():
            weight = torch.randn(out, in_, generator=generator) / in_**0.5
            spike = torch.randn(out, 1, generator=generator) @ torch.randn(1, in_, generator=generator)
            weight += 3 * spike / (out * in_) ** 0.5
            tensors[f"model.layers.{layer}.{name}.weight"] = weight.bfloat16()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
    }
    (folder / "config.json").write_text(json.dumps(config))


def peak_anonymous(command: list[str]) -> int:
    """The most anonymous memory the command's process had, looked at every 5 ms, in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        for line in status.read_text().splitlines() if status.exists() else ():
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return peak


def main() -> None:
    """Print peaks for both depths, leading and --full, beside that of importing torch alone."""
    idle = peak_anonymous([sys.executable, "-c", "import torch; torch.ones(8, 8) @ torch.ones(8, 8)"])
    print(f"torch alone: {idle / 1e6:.0f} MB; largest projection in float32: {FFN * HIDDEN * 4 / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as place:
        for layers in (4, 32):
            write_model(Path(place) / f"{layers}", layers)
        for options in ((), ("--full", "--only", "q,v,o,ov,down")):
            peaks = {}
            for layers in (4, 32):
                out = f"{place}/out-{layers}-{len(options)}"
                command = [
                    sys.executable,
                    "-m",
                    "audit",
                    f"{place}/{layers}",
                    "--quiet",
                    "--out",
                    out,
                    *options,
                ]
                peaks[layers] = peak_anonymous(command)
                what = " ".join(options) or "leading"
                print(f"{layers:>3} layers {what:<32} {peaks[layers] / 1e6:6.0f} MB anonymous")
            print(f"    ratio 32 to 4 layers: {peaks[32] / peaks[4]:.2f}")


if __name__ == "__main__":
    main()
