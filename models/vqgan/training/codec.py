"""The codec's architecture: taming-transformers' VQGAN, small, with the official key names.

Follows the description in Esser et al. 2021 (arXiv 2012.09841) and the names of its published checkpoints; trained from scratch
here. Pictures are in [-1, 1]. No attention; one residual block a level in the encoder, hence (as the original does) two in the decoder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-6


@dataclass(frozen=True)
class Shape:
    """Everything that the weights' shapes follow from; the names are taming's (`ddconfig`), in camel case in config.json."""

    ch: int = 32
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 1
    z_channels: int = 16
    embed_dim: int = 16
    n_embed: int = 4096
    groups: int = 8

    @property
    def factor(self) -> int:
        """Pixels a code stands for, along one side."""
        return 2 ** (len(self.ch_mult) - 1)

    def as_dict(self) -> dict:
        return asdict(self) | {"ch_mult": list(self.ch_mult)}

    @staticmethod
    def from_dict(values: dict) -> Shape:
        return Shape(**(values | {"ch_mult": tuple(values["ch_mult"])}))


class ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Downsample(nn.Module):
    """3 x 3, stride 2, zeros at the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest x 2, then 3 x 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class PhaseUpsample(Upsample):
    """The same function for 4/9 of the multiplications, which count on a processor; a GPU waits for memory.

    Of the nine pixels under the kernel at most four differ, so each of the four phases of the output is a 2 x 2 convolution of the
    small picture, its kernel summed from the 3 x 3 one's rows and columns: {0 | 1+2} for even outputs, {0+1 | 2} for odd ones.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_cuda:
            return super().forward(x)
        w = self.conv.weight
        rows = torch.stack([torch.stack([w[:, :, 0], w[:, :, 1] + w[:, :, 2]], 2), torch.stack([w[:, :, 0] + w[:, :, 1], w[:, :, 2]], 2)])
        even = torch.stack([rows[..., 0], rows[..., 1] + rows[..., 2]], -1)
        odd = torch.stack([rows[..., 0] + rows[..., 1], rows[..., 2]], -1)
        kernel = torch.stack([even, odd], 1)  # [row phase, column phase, out, in, 2, 2]
        n, _, height, width = x.shape
        y = F.conv2d(x, kernel.flatten(0, 2), self.conv.bias.repeat(4), padding=1)
        y = y.unflatten(1, (2, 2, -1))
        phases = [[y[:, a, b, :, a : a + height, b : b + width] for b in (0, 1)] for a in (0, 1)]
        columns = [torch.stack(row, -1).flatten(-2) for row in phases]
        return torch.stack(columns, -2).flatten(-3, -2)


class Level(nn.Module):
    """The blocks of one resolution; `downsample` or `upsample` is added where there is one."""

    def __init__(self, inputs: int, outputs: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(inputs if index == 0 else outputs, outputs, groups) for index in range(blocks))


class Middle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, groups)
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block_2(self.block_1(x))


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths = [shape.ch * mult for mult in shape.ch_mult]
        self.conv_in = nn.Conv2d(3, shape.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for index, width in enumerate(widths):
            level = Level(widths[index - 1] if index else shape.ch, width, shape.num_res_blocks, shape.groups)
            if index < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(widths[-1], shape.groups)
        self.norm_out = nn.GroupNorm(shape.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], shape.z_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                h = block(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """`up` is stored from the largest picture to the smallest and runs the other way."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths = [shape.ch * mult for mult in shape.ch_mult]
        self.conv_in = nn.Conv2d(shape.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], shape.groups)
        self.up = nn.ModuleList()
        for index, width in enumerate(widths):
            level = Level(widths[min(index + 1, len(widths) - 1)], width, shape.num_res_blocks + 1, shape.groups)
            if index > 0:
                level.upsample = PhaseUpsample(width)
            self.up.append(level)
        self.norm_out = nn.GroupNorm(shape.groups, widths[0], EPS)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            for block in level.block:
                h = block(h)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Codebook(nn.Module):
    """`quantize.embedding.weight` [n_embed, embed_dim]: not taught by gradient but by the trainer's moving averages."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.n_embed, shape.embed_dim)
        self.embedding.weight.requires_grad_(False)

    def indices(self, z: torch.Tensor) -> torch.Tensor:
        """Nearest code of every latent: [n, d, h, w] -> [n, h, w]."""
        codes = self.embedding.weight
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        nearest = torch.addmm((codes * codes).sum(1), flat, codes.T, alpha=-2).argmin(1)
        return nearest.view(z.shape[0], z.shape[2], z.shape[3])

    def codes(self, indices: torch.Tensor) -> torch.Tensor:
        """[n, h, w] -> [n, d, h, w]."""
        return F.embedding(indices, self.embedding.weight).permute(0, 3, 1, 2)


class Codec(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        self.quantize = Codebook(shape)
        self.quant_conv = nn.Conv2d(shape.z_channels, shape.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(shape.embed_dim, shape.z_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # torch's own choice, a third of this variance, loses the colours on their way: 18.7 dB instead of 21.6 after 300 steps.
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 3, h, w] in [-1, 1] -> latents [n, embed_dim, h/f, w/f], not yet quantized."""
        return self.quant_conv(self.encoder(pictures))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(z))

    def reconstruct(self, pictures: torch.Tensor, quantize: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(pictures through the codec, clamped to [-1, 1]; the indices of their codes)."""
        z = self.encode(pictures)
        indices = self.quantize.indices(z)
        return self.decode(self.quantize.codes(indices) if quantize else z).clamp(-1, 1), indices
