"""The network of taming-transformers in plain torch modules, under the official names: what the TypeScript one is tested against.

Written from shared/reference/vqgan.md. Weights are not stored but drawn by `hashed`, which test/models/vqgan.test.ts has too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Settings:
    """models/vqgan/config.ts, `blocks` by its parts."""

    name: str
    kind: str
    ch: int
    ch_mult: tuple[int, ...]
    encoder_blocks: int
    decoder_blocks: int
    attention: tuple[int, ...]
    middle_attention: bool
    groups: int
    z_channels: int
    embed_dim: int
    codes: int
    resolution: int = 256


def official(name: str, kind: str, ch_mult: tuple[int, ...], attention: int, codes: int) -> Settings:
    return Settings(name, kind, 128, ch_mult, 2, 3, (attention,), True, 32, 256, 256, codes)


OFFICIAL = [
    official("imagenet-f16-1024", "vq", (1, 1, 2, 2, 4), 16, 1024),
    official("imagenet-f16-16384", "vq", (1, 1, 2, 2, 4), 16, 16384),
    official("openimages-gumbel-f8-8192", "gumbel", (1, 1, 2, 4), 32, 8192),
]
# As vqgan-nano: narrow, one residual block fewer, no attention. And one whose attention is not at the lowest level.
SMALL = [
    Settings("small", "vq", 32, (1, 2, 4, 4), 1, 2, (), False, 8, 24, 16, 512),
    Settings("small-attentive", "gumbel", 16, (1, 2, 2), 1, 2, (128,), True, 4, 16, 16, 64),
]


class ResidualBlock(nn.Module):
    def __init__(self, into: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, into, eps=1e-6)
        self.conv1 = nn.Conv2d(into, out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out, eps=1e-6)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if into != out:
            self.nin_shortcut = nn.Conv2d(into, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttentionBlock(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        # One head over positions: [n, 1, h w, c].
        q, k, v = (part(h).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2)
        return x + self.proj_out(mixed.reshape(x.shape))


class Middle(nn.Module):
    def __init__(self, channels: int, s: Settings) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, s.groups)
        if s.middle_attention:
            self.attn_1 = AttentionBlock(channels, s.groups)
        self.block_2 = ResidualBlock(channels, channels, s.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.block_1(x)
        return self.block_2(self.attn_1(h) if hasattr(self, "attn_1") else h)


class Resampling(nn.Module):
    def __init__(self, channels: int, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(channels, channels, 3, stride=2) if way == "down" else nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.way == "down" else F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    def __init__(self, s: Settings, level: int, into: int, blocks: int, way: str, resamples: bool) -> None:
        super().__init__()
        out = s.ch * s.ch_mult[level]
        self.block = nn.ModuleList(ResidualBlock(into if i == 0 else out, out, s.groups) for i in range(blocks))
        attentive = s.resolution // 2**level in s.attention
        self.attn = nn.ModuleList(AttentionBlock(out, s.groups) for _ in range(blocks if attentive else 0))
        if resamples:
            self.add_module(f"{way}sample", Resampling(out, way))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        for name in ("downsample", "upsample"):
            x = getattr(self, name)(x) if hasattr(self, name) else x
        return x


class Encoder(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        widths = [s.ch, *(s.ch * m for m in s.ch_mult)]
        last = len(s.ch_mult) - 1
        self.conv_in = nn.Conv2d(3, s.ch, 3, padding=1)
        self.down = nn.ModuleList(Level(s, i, widths[i], s.encoder_blocks, "down", i < last) for i in range(last + 1))
        self.mid = Middle(widths[-1], s)
        self.norm_out = nn.GroupNorm(s.groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], s.z_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        widths = [*(s.ch * m for m in s.ch_mult), s.ch * s.ch_mult[-1]]
        self.conv_in = nn.Conv2d(s.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], s)
        self.up = nn.ModuleList(Level(s, i, widths[i + 1], s.decoder_blocks, "up", i > 0) for i in range(len(s.ch_mult)))
        self.norm_out = nn.GroupNorm(s.groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Quantizer(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.kind = s.kind
        if s.kind == "gumbel":
            self.proj = nn.Conv2d(s.embed_dim, s.codes, 1)
            self.embed = nn.Embedding(s.codes, s.embed_dim)
        else:
            self.embedding = nn.Embedding(s.codes, s.embed_dim)

    @property
    def codebook(self) -> torch.Tensor:
        return (self.embed if self.kind == "gumbel" else self.embedding).weight

    def nearness(self, z: torch.Tensor) -> torch.Tensor:
        """Of [n, d, h, w]: minus the squared distance to every code, [n, h, w, codes]."""
        return -torch.cdist(z.permute(0, 2, 3, 1).flatten(0, 2), self.codebook).square().unflatten(0, (z.shape[0], *z.shape[2:]))

    def logits(self, h: torch.Tensor) -> torch.Tensor:
        """A Gumbel quantizer's, [n, h, w, codes]."""
        return self.proj(h).permute(0, 2, 3, 1)


class Vqgan(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.encoder, self.decoder, self.quantize = Encoder(s), Decoder(s), Quantizer(s)
        self.quant_conv = nn.Conv2d(s.z_channels, s.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(s.embed_dim, s.z_channels, 1)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures [n, 3, h, w] in [0, 1] -> latent maps, not quantized."""
        return self.quant_conv(self.encoder(2 * pictures - 1))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latent maps -> pictures around [0, 1], not clamped."""
        return (self.decoder(self.post_quant_conv(z)) + 1) / 2


def hashed(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers in [-1, 1), a function of the name and the position alone: a hash of both, through the finaliser of MurmurHash3."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF  # FNV-1a
    h = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
    h = (h ^ h >> 16) * np.uint32(0x85EBCA6B)
    h = (h ^ h >> 13) * np.uint32(0xC2B2AE35)
    h ^= h >> 16
    return torch.from_numpy((h * 2.0**-31 - 1).reshape(shape))


def hashed_weight(model: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Float32: kernels of variance 1 / fan-in, gains near 1, biases near 0."""
    u = hashed(f"{model}/{name}", shape)
    if len(shape) > 1:
        # A codebook's rows are not summed over.
        return (u * (1.0 if name.startswith("quantize.emb") else (3 / np.prod(shape[1:])) ** 0.5)).float()
    return (u * 0.2 + (1 if "norm" in name and name.endswith("weight") else 0)).float()


def hashed_model(s: Settings) -> Vqgan:
    """In float64, with the float32 numbers of `hashed_weight`."""
    with torch.device("meta"):
        model = Vqgan(s)
    weights = {name: hashed_weight(s.name, name, tuple(w.shape)).double() for name, w in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)
