"""Measure the codec on photographs it was not taught: `python models/vqgan/training/evaluate.py [--run FILE.pt]`.

PSNR and SSIM at 256 px, smooth and textured photographs apart, and how many codes are used. Without --run: what export.py wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch.nn import functional as F

import data
from codec import Codec, Shape
from export import NANO, shape_of, weights_of
from train import grid, psnr

SIZE = 256
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])


def codec_of_run(path: Path) -> Codec:
    """The averaged weights of a checkpoint of train.py."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    codec = Codec(Shape.from_dict(state["shape"]))
    codec.load_state_dict(state["mean"])
    print(f"{path}: step {state['step']} of {state['plan']['steps']}, {state['seconds'] / 3600:.2f} h")
    return codec.eval()


def codec_of_folder(folder: Path) -> Codec:
    """The weights that export.py wrote, read back."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    codec = Codec(shape_of(config))
    codec.load_state_dict(weights_of(folder, config))
    return codec.eval()


def ssim(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Wang et al. 2004 on the luminance: 11 px Gaussian window of 1.5 px, no padding. [n, 3, h, w] in [-1, 1] -> [n]."""
    a, b = (((picture + 1) / 2 * LUMINANCE[:, None, None]).sum(1, keepdim=True) for picture in (y, x))
    line = torch.exp(-((torch.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line[None]).div(line.sum() ** 2)[None, None]
    mean_a, mean_b = F.conv2d(a, window), F.conv2d(b, window)
    var_a, var_b = F.conv2d(a * a, window) - mean_a**2, F.conv2d(b * b, window) - mean_b**2
    covariance = F.conv2d(a * b, window) - mean_a * mean_b
    first, second = 0.01**2, 0.03**2
    alike = (2 * mean_a * mean_b + first) * (2 * covariance + second) / ((mean_a**2 + mean_b**2 + first) * (var_a + var_b + second))
    return alike.mean((1, 2, 3))


@torch.inference_mode()
def through(codec: Codec, pictures: torch.Tensor, quantize: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    found = [codec.reconstruct(part, quantize) for part in pictures.split(4)]
    return torch.cat([made for made, _ in found]), torch.cat([indices for _, indices in found])


def usage(codec: Codec, library: data.Library, batches: int = 64) -> tuple[float, float]:
    """Of crops of the training pictures: (share of codes that are used, perplexity as a share of all codes)."""
    crops = torch.cat([data.batch(library, 8, 96, 7, step) for step in range(batches)])
    _, indices = through(codec, crops)
    shares = torch.bincount(indices.flatten(), minlength=codec.shape.n_embed) / indices.numel()
    perplexity = torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum())
    return (shares > 0).float().mean().item(), perplexity.item() / codec.shape.n_embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a checkpoint of train.py instead of the exported files")
    parser.add_argument("--grid", type=Path, default=data.CACHE / "evaluation.png", help="where originals beside reconstructions go")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    codec = codec_of_run(arguments.run) if arguments.run else codec_of_folder(NANO)
    taught, held_out = data.load()
    names, pictures = data.squares(held_out, SIZE)
    textured = data.gradient_energy(pictures) >= data.TEXTURED
    made, indices = through(codec, pictures)
    unquantized, _ = through(codec, pictures, quantize=False)
    quality, alike, before = psnr(made, pictures), ssim(made, pictures), psnr(unquantized, pictures)
    for name, *figures, rough in zip(names, quality.tolist(), alike.tolist(), before.tolist(), textured.tolist(), strict=True):
        print("{:58s} {}  PSNR {:5.2f}  SSIM {:.3f}  not quantized {:5.2f}".format(name[:58], "textured" if rough else "smooth  ", *figures))
    for label, chosen in (("smooth", ~textured), ("textured", textured), ("all", textured | ~textured)):
        print(f"{label:9s} {int(chosen.sum()):3d}  PSNR {quality[chosen].mean():.2f}  SSIM {alike[chosen].mean():.3f}")
    used, perplexity = usage(codec, taught)
    print(f"codes used: {used:.1%} of {codec.shape.n_embed} on 512 crops, perplexity {perplexity:.1%}; {len(indices.unique())} on these pictures")
    order = data.gradient_energy(pictures).argsort()
    arguments.grid.parent.mkdir(parents=True, exist_ok=True)
    grid(pictures[order], made[order]).save(arguments.grid)
    print(f"grid: {arguments.grid}")


if __name__ == "__main__":
    main()
