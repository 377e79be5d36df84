"""The default step of FeaVis or VQGAN in PyTorch eager, for `npm run bench`: same networks, same work, two threads.

Draws the picture from a Fourier spectrum (FeaVis), or by taming's decoder from the codes nearest to a latent map, with a straight-through
gradient (VQGAN); cuts views by the same interpolation matrices, runs EfficientNet-Lite0, takes -(dot * max(.1, cos)), back-propagates to the
spectrum or the latent map and moves it with Adam.

Usage: python pytorch_step.py image.safetensors VIEWS EYE CANVAS THREADS [FOLDER_OF_A_VQGAN]
Prints `ready`, then for each line on stdin makes one step (`step`) or one forward pass (`forward`) and prints its seconds.
Needs torch (2.13.0 was used); nothing else of the project.
"""

import json
import math
import struct
import sys
import time

import torch
from torch.nn import functional as F

path, (views, eye, size, threads) = sys.argv[1], map(int, sys.argv[2:6])
generator = sys.argv[6] if len(sys.argv) > 6 else None
torch.set_num_threads(threads)
torch.manual_seed(1)


def read_safetensors(file: str) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file as float32: F16, F32, and int8 with a scale per block of a row (X.q8 and X.scale)."""
    raw = open(file, "rb").read()
    (length,) = struct.unpack("<Q", raw[:8])
    kinds = {"F16": torch.float16, "F32": torch.float32, "I8": torch.int8}
    header = json.loads(raw[8 : 8 + length])
    shapes = json.loads(header.pop("__metadata__", {}).get("shapes", "{}"))
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = torch.frombuffer(bytearray(raw[start:end]), dtype=kinds[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).float()
    for packed in [name for name in tensors if name.endswith(".q8")]:
        name = packed.removesuffix(".q8")
        rows, scale = tensors.pop(packed), tensors.pop(f"{name}.scale")
        values = rows.reshape(len(rows), scale.shape[1], -1) * scale[:, :, None]
        tensors[name] = values.reshape(shapes.get(name, rows.shape))
    return tensors


weights = read_safetensors(path)
STAGES = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]  # (blocks, stride of the first) of EfficientNet-Lite0


def conv(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
    w, b = (weights[f"imgencoder.backbone.{name}.{part}"] for part in ("weight", "bias"))
    kernel = w.shape[-1]
    pads = []
    for n in (x.shape[3], x.shape[2]):
        total = max((math.ceil(n / stride) - 1) * stride + kernel - n, 0)
        pads += [total // 2, total - total // 2]
    if pads[0] == pads[1] and pads[2] == pads[3]:
        return F.conv2d(x, w, b, stride=stride, padding=pads[0], groups=groups)
    return F.conv2d(F.pad(x, pads), w, b, stride=stride, groups=groups)


def project(pictures: torch.Tensor) -> torch.Tensor:
    """[V, 3, S, S] in [0, 1] -> [V, 384] before the norm."""
    x = F.relu6(conv((pictures - 127 / 255) / (128 / 255), "conv_stem", 2))
    for stage, (blocks, stride) in enumerate(STAGES):
        for i in range(blocks):
            key, before = f"blocks.{stage}.{i}", x
            if stage:
                x = F.relu6(conv(x, f"{key}.conv_pw"))
            x = F.relu6(conv(x, f"{key}.conv_dw", stride if i == 0 else 1, x.shape[1]))
            x = conv(x, f"{key}.conv_pwl" if stage else f"{key}.conv_pw")
            if x.shape == before.shape:
                x = x + before
    features = F.relu6(conv(x, "conv_head")).mean((2, 3))
    head = "imgencoder.learnable.imgFC.fc1"
    return F.linear(features, weights[f"{head}.weight"], weights[f"{head}.bias"])


def crop_matrices() -> tuple[torch.Tensor, torch.Tensor]:
    """Bilinear interpolation matrices of random square crops: [V * S, H] and [V, W, S]."""
    both = []
    for _ in range(2):
        side = torch.empty(views, 1, 1).uniform_(0.25, 1) * size
        start = torch.rand(views, 1, 1) * (size - side)
        centre = start + (torch.arange(eye).view(1, eye, 1) + 0.5) * side / eye - 0.5
        both.append((1 - (torch.arange(size).view(1, 1, size) - centre).abs()).clamp(min=0))
    return both[0].reshape(views * eye, size), both[1].transpose(1, 2).contiguous()


def from_spectrum():
    """(what moves, its rate, how it is drawn [3, H, W], where it is kept)."""
    half = size // 2 + 1
    radius = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
    scale = size / radius.clamp(min=1 / size) / 4
    colour = torch.tensor([[0.562829, 0.194825, 0.043295], [0.584476, 0, -0.108236], [0.584476, -0.194825, 0.064942]])
    spectrum = torch.randn(2, 3, size, half) * 0.01

    def draw(z: torch.Tensor) -> torch.Tensor:
        plane = torch.fft.irfft2(torch.complex(z[0], z[1]) * scale, s=(size, size))
        return torch.sigmoid((colour @ plane.reshape(3, -1)).reshape(3, size, size))

    return spectrum, 0.05, draw, None


def from_tokens(folder: str):
    """As `from_spectrum`, by the decoder of taming-transformers (no attention), its names and operators."""
    config = json.load(open(f"{folder}/config.json"))
    net = read_safetensors(f"{folder}/{config.get('weights', 'vqgan.safetensors')}")
    groups, levels = config["groups"], len(config["chMult"])

    def plain(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = net[f"{name}.weight"]
        return F.conv2d(x, weight, net[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def active(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.silu(F.group_norm(x, groups, net[f"{name}.weight"], net[f"{name}.bias"], 1e-6))

    def block(x: torch.Tensor, name: str) -> torch.Tensor:
        h = plain(active(x, f"{name}.norm1"), f"{name}.conv1")
        h = plain(active(h, f"{name}.norm2"), f"{name}.conv2")
        return h + (plain(x, f"{name}.nin_shortcut") if f"{name}.nin_shortcut.weight" in net else x)

    codes = net["quantize.embedding.weight"]
    side = size // 2 ** (levels - 1)
    start = codes[torch.randint(len(codes), (side * side,))]
    low, high = codes.amin(0)[None, :, None, None], codes.amax(0)[None, :, None, None]

    def draw(z: torch.Tensor) -> torch.Tensor:
        flat = z.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
        distances = flat.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * flat @ codes.T
        near = codes[distances.argmin(1)].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        x = plain(plain(z + (near - z).detach(), "post_quant_conv"), "decoder.conv_in")
        x = block(block(x, "decoder.mid.block_1"), "decoder.mid.block_2")
        for level in reversed(range(levels)):
            for i in range(config["blocks"]["decoder"]):
                x = block(x, f"decoder.up.{level}.block.{i}")
            if level:
                x = plain(F.interpolate(x, scale_factor=2.0, mode="nearest"), f"decoder.up.{level}.upsample.conv")
        x = plain(active(x, "decoder.norm_out"), "decoder.conv_out")
        return ((x[0] + 1) / 2).clamp(0, 1)

    return start.T.reshape(1, -1, side, side).clone(), 0.15, draw, (low, high)


parameters, rate, draw, box = from_tokens(generator) if generator else from_spectrum()
parameters.requires_grad_()
optimizer = torch.optim.Adam([parameters], lr=rate)
rows, columns = crop_matrices()
noise = torch.randn(views, 3, eye, eye) * 0.05
brightness = torch.empty(views, 1, 1, 1).uniform_(-0.1, 0.1)
text = F.normalize(torch.randn(384), dim=0)


def loss() -> torch.Tensor:
    crops = ((rows @ draw(parameters)).reshape(3, views, eye, size) @ columns).transpose(0, 1)
    projected = project(crops + noise + brightness)
    dot = projected @ text
    return -(dot * (dot / projected.norm(dim=1)).clamp(min=0.1)).mean()


def step() -> None:
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    optimizer.step()
    if box:
        with torch.no_grad():
            parameters.copy_(parameters.maximum(box[0]).minimum(box[1]))


print("ready", flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    if line.strip() == "step":
        step()
    else:
        with torch.no_grad():
            loss()
    print(time.perf_counter() - begun, flush=True)
