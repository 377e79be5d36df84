"""What a reconstruction is measured by: colours, feature maps of a network that was taught on photographs, and late a critic."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

import data  # noqa: F401  (puts ../../brivl/training on the path)
from efficientnet_lite import REPEATS, STAGES, folded_weights, same_conv

BACKBONE = "efficientnet-lite0"

# Stages whose outputs are compared: strides 4, 8 and 16.
MAPS = (1, 2, 4)

# Orthonormal: light, red against blue, green against magenta.
OPPONENT = torch.tensor([[3**-0.5] * 3, [2**-0.5, 0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])

# Group normalisation hides the mean colour, and differences in hue are small beside those in light: both are weighed up.
CHROMA = 2.0
BLOCK = 16


class Features(nn.Module):
    """Feature maps of EfficientNet-Lite0, each channel divided by its standard deviation over training crops."""

    def __init__(self, crops: torch.Tensor) -> None:
        super().__init__()
        weights, _, _ = folded_weights(BACKBONE)
        wanted = ("conv_stem", *(f"blocks.{stage}." for stage in range(max(MAPS) + 1)))
        self.names = {name: name.replace(".", "_") for name in weights if name.startswith(wanted)}
        for name, attribute in self.names.items():
            self.register_buffer(attribute, weights[name], persistent=False)
        self.gains = [1.0] * len(MAPS)
        with torch.no_grad():
            self.gains = [1 / found.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-3) for found in self(crops)]

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        def conv(x: torch.Tensor, key: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
            weight, bias = (getattr(self, self.names[f"{key}.{part}"]) for part in ("weight", "bias"))
            return same_conv(x, weight, bias, stride, groups)

        found = []
        x = F.relu6(conv((pictures + 1) * (255 / 256) - 127 / 128, "conv_stem", stride=2))
        for stage, (_, stride, _) in enumerate(STAGES[: max(MAPS) + 1]):
            for block in range(REPEATS[BACKBONE][stage]):
                key = f"blocks.{stage}.{block}"
                step = stride if block == 0 else 1
                y = x if stage == 0 else F.relu6(conv(x, f"{key}.conv_pw"))
                y = F.relu6(conv(y, f"{key}.conv_dw", stride=step, groups=y.shape[1]))
                y = conv(y, f"{key}.conv_pw" if stage == 0 else f"{key}.conv_pwl")
                x = x + y if step == 1 and y.shape[1] == x.shape[1] else y
            if stage in MAPS:
                found.append(x * self.gains[len(found)])
        return found


@cache
def opponent(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(OPPONENT, the weights of its axes [3, 1, 1]), moved once: each move would make a GPU wait."""
    return OPPONENT.to(device), torch.tensor([1, CHROMA, CHROMA], device=device)[:, None, None]


def colour_losses(y: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """L1 in light and in chroma of the pixels, and of the mean colours of 16 px blocks."""
    axes, weights = opponent(x.device)
    difference = torch.einsum("oc,nchw->nohw", axes, y - x)
    blocks = F.avg_pool2d(difference, BLOCK)
    return {
        "light": difference[:, 0].abs().mean(),
        "chroma": CHROMA * difference[:, 1:].abs().sum(1).mean(),
        "blocks": (weights * blocks.abs()).sum(1).mean(),
    }


def feature_loss(y: list[torch.Tensor], x: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([F.l1_loss(a.float(), b.float()) for a, b in zip(y, x, strict=True)]).mean()


class Critic(nn.Sequential):
    """Judges overlapping patches of 34 px: positive for photographs, negative for reconstructions."""

    def __init__(self, ch: int = 32) -> None:
        super().__init__(
            nn.Conv2d(3, ch, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ch, ch * 2, 4, 2, 1),
            nn.GroupNorm(8, ch * 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ch * 2, ch * 4, 4, 1, 1),
            nn.GroupNorm(8, ch * 4),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ch * 4, 1, 4, 1, 1),
        )


def critic_loss(real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Hinge."""
    return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2
