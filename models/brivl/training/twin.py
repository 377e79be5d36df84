"""Twins of the official BriVL towers: the same architecture, tiny, with seeded weights under the official names.

They let the TypeScript architecture be tested against PyTorch without the 2 GB checkpoint. Facts: shared/reference/brivl.md.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from e5 import hidden_states
from efficientnet_lite import BATCH_NORM_EPS, Weights, same_conv
from mspp import pooling_matrix

IMAGE = {
    "name": "twin-image",
    "embed": 32,
    "image": {
        "backbone": "efficientnet", "batchNorm": "separate", "activation": "silu", "padding": "same", "stem": 8,
        "stages": [
            {"repeats": 2, "kernel": 3, "stride": 1, "expansion": 1, "out": 8, "squeeze": [2, 2]},
            {"repeats": 2, "kernel": 3, "stride": 2, "expansion": 4, "out": 12, "squeeze": [2, 3]},
            {"repeats": 1, "kernel": 5, "stride": 2, "expansion": 4, "out": 16, "squeeze": [3]},
            {"repeats": 2, "kernel": 3, "stride": 2, "expansion": 4, "out": 20, "squeeze": [4, 5]},
            {"repeats": 1, "kernel": 5, "stride": 1, "expansion": 4, "out": 24, "squeeze": [5]},
            {"repeats": 2, "kernel": 5, "stride": 2, "expansion": 4, "out": 32, "squeeze": [6, 8]},
            {"repeats": 1, "kernel": 3, "stride": 1, "expansion": 4, "out": 32, "squeeze": [8]},
        ],
        "size": 96, "input": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, "feature": 48,
        "pooling": "mspp", "mspp": {"grids": [6, 1], "roi": 4, "conv": True}, "tokenNorm": True,
        "attention": {"layers": 2, "heads": 4, "ffn": 64, "layerNormEps": 1e-5}, "fc": "mlp", "embed": 32,
    },
}
TEXT = {
    "name": "twin-text",
    "embed": 32,
    "text": {
        "backbone": {"type": "bert", "layers": 2, "hidden": 32, "heads": 4, "ffn": 48, "activation": "gelu", "positions": 16,
                     "vocab": 50, "typeVocab": 2, "layerNormEps": 1e-12},
        "maxLength": 12, "pad": 0, "paddingMask": False, "pooledNorm": False, "tokenNorm": True,
        "attention": {"layers": 2, "heads": 4, "ffn": 40, "layerNormEps": 1e-5}, "fc": "mlp", "embed": 32,
    },
}
FC_HIDDEN = 40


class Seeded:
    """Weights drawn in a fixed order. Every value is exact in F16, so that files can be half the size."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.weights: Weights = {}

    def normal(self, name: str, *shape: int, std: float = 1.0, mean: float = 0.0) -> None:
        self.weights[name] = (torch.randn(shape, generator=self.generator) * std + mean).half().float()

    def linear(self, name: str, out: int, into: int, kernel: tuple[int, ...] = (), bias: bool = True) -> None:
        fan = into
        for side in kernel:
            fan *= side
        self.normal(f"{name}.weight", out, into, *kernel, std=(1.5 / fan) ** 0.5)
        if bias:
            self.normal(f"{name}.bias", out, std=0.1)

    def batch_norm(self, name: str, width: int) -> None:
        self.normal(f"{name}.weight", width, std=0.1, mean=1)
        self.normal(f"{name}.bias", width, std=0.2)
        self.normal(f"{name}.running_mean", width, std=0.2)
        self.normal(f"{name}.running_var", width, std=0.1)
        self.weights[f"{name}.running_var"] = (self.weights[f"{name}.running_var"].abs() + 0.5).half().float()

    def layer_norm(self, name: str, width: int) -> None:
        self.normal(f"{name}.weight", width, std=0.1, mean=1)
        self.normal(f"{name}.bias", width, std=0.1)

    def attention(self, name: str, layers: int, width: int, ffn: int) -> None:
        """`layers` PyTorch TransformerEncoderLayers under `name.layers.i`."""
        for layer in range(layers):
            key = f"{name}.layers.{layer}"
            self.normal(f"{key}.self_attn.in_proj_weight", 3 * width, width, std=2 * width**-0.5)
            self.normal(f"{key}.self_attn.in_proj_bias", 3 * width, std=0.1)
            self.linear(f"{key}.self_attn.out_proj", width, width)
            self.linear(f"{key}.linear1", ffn, width)
            self.linear(f"{key}.linear2", width, ffn)
            self.layer_norm(f"{key}.norm1", width)
            self.layer_norm(f"{key}.norm2", width)

    def fc(self, name: str, width: int, embed: int) -> None:
        self.linear(f"{name}.fc1", FC_HIDDEN, width)
        self.linear(f"{name}.fc2", embed, FC_HIDDEN)


def image_weights() -> Weights:
    """The image twin's state_dict under `imgencoder.`."""
    config = IMAGE["image"]
    seeded = Seeded(20221)
    root = "imgencoder.backbone"
    seeded.linear(f"{root}.conv_stem", config["stem"], 3, (3, 3), bias=False)
    seeded.batch_norm(f"{root}.bn1", config["stem"])
    width = config["stem"]
    for stage, row in enumerate(config["stages"]):
        for block in range(row["repeats"]):
            key, out, kernel = f"{root}.blocks.{stage}.{block}", row["out"], (row["kernel"], row["kernel"])
            middle = width * row["expansion"]
            norms = iter(("bn1", "bn2", "bn3"))
            if stage > 0:
                seeded.linear(f"{key}.conv_pw", middle, width, (1, 1), bias=False)
                seeded.batch_norm(f"{key}.{next(norms)}", middle)
            seeded.linear(f"{key}.conv_dw", middle, 1, kernel, bias=False)
            seeded.batch_norm(f"{key}.{next(norms)}", middle)
            seeded.linear(f"{key}.se.conv_reduce", row["squeeze"][block], middle, (1, 1))
            seeded.linear(f"{key}.se.conv_expand", middle, row["squeeze"][block], (1, 1))
            seeded.linear(f"{key}.{'conv_pw' if stage == 0 else 'conv_pwl'}", out, middle, (1, 1), bias=False)
            seeded.batch_norm(f"{key}.{next(norms)}", out)
            width = out
    seeded.linear(f"{root}.conv_head", config["feature"], width, (1, 1), bias=False)
    seeded.batch_norm(f"{root}.bn2", config["feature"])
    feature, attention = config["feature"], config["attention"]
    seeded.linear("imgencoder.learnable.max_pool.0", feature, feature, (1, 1))
    seeded.attention("imgencoder.learnable.imgAtt", attention["layers"], feature, attention["ffn"])
    seeded.fc("imgencoder.learnable.imgFC", feature, config["embed"])
    return seeded.weights


def text_weights() -> Weights:
    """The text twin's state_dict under `textencoder.`."""
    config = TEXT["text"]
    bert, attention = config["backbone"], config["attention"]
    hidden, seeded, root = bert["hidden"], Seeded(20222), "textencoder.backbone.bert"
    seeded.normal(f"{root}.embeddings.word_embeddings.weight", bert["vocab"], hidden)
    seeded.normal(f"{root}.embeddings.position_embeddings.weight", bert["positions"], hidden, std=0.5)
    seeded.normal(f"{root}.embeddings.token_type_embeddings.weight", bert["typeVocab"], hidden, std=0.5)
    seeded.layer_norm(f"{root}.embeddings.LayerNorm", hidden)
    for layer in range(bert["layers"]):
        key = f"{root}.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            seeded.linear(f"{key}.attention.self.{part}", hidden, hidden)
        seeded.linear(f"{key}.attention.output.dense", hidden, hidden)
        seeded.layer_norm(f"{key}.attention.output.LayerNorm", hidden)
        seeded.linear(f"{key}.intermediate.dense", bert["ffn"], hidden)
        seeded.linear(f"{key}.output.dense", hidden, bert["ffn"])
        seeded.layer_norm(f"{key}.output.LayerNorm", hidden)
    seeded.attention("textencoder.learnable.textAtt", attention["layers"], hidden, attention["ffn"])
    seeded.fc("textencoder.learnable.textFC", hidden, config["embed"])
    return seeded.weights


def _attended(weights: Weights, name: str, config: dict, tokens: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens [n, t, d] through PyTorch's own post-norm layers; `padding` [n, t] is True where a token is to be ignored."""
    torch.backends.mha.set_fastpath_enabled(False)
    for layer in range(config["layers"]):
        module = nn.TransformerEncoderLayer(
            tokens.shape[-1], config["heads"], config["ffn"], layer_norm_eps=config["layerNormEps"], batch_first=True
        ).eval().to(tokens.dtype)
        prefix = f"{name}.layers.{layer}."
        module.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)})
        tokens = module(tokens, src_key_padding_mask=padding)
    return tokens


def _fc(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    hidden = F.relu(F.linear(x, weights[f"{name}.fc1.weight"], weights[f"{name}.fc1.bias"]))
    return F.normalize(F.linear(hidden, weights[f"{name}.fc2.weight"], weights[f"{name}.fc2.bias"]), dim=-1)


def image_forward(weights: Weights, picture: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pictures [n, 3, 96, 96] in [0, 1] -> {"llp" [n, 48, 3, 3], "tokens" [n, 37, 48] before the token norm, "embedding" [n, 32]}."""
    config, root = IMAGE["image"], "imgencoder.backbone"

    def conv(x: torch.Tensor, key: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        return same_conv(x, weights[f"{root}.{key}.weight"], weights.get(f"{root}.{key}.bias"), stride, groups)

    def norm(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, var, gain, bias = (weights[f"{root}.{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        # Not F.batch_norm: its gradient on CPUs is wrong (torch 2.13.0) where the gradient that comes in is not contiguous, as einsum's.
        scale = gain / torch.sqrt(var + BATCH_NORM_EPS)
        return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]

    mean, std = (torch.tensor(config["input"][part], dtype=picture.dtype)[:, None, None] for part in ("mean", "std"))
    x = F.silu(norm(conv((picture - mean) / std, "conv_stem", stride=2), "bn1"))
    for stage, row in enumerate(config["stages"]):
        for block in range(row["repeats"]):
            key, stride = f"blocks.{stage}.{block}", row["stride"] if block == 0 else 1
            norms = iter((f"{key}.bn1", f"{key}.bn2", f"{key}.bn3"))
            y = x if stage == 0 else F.silu(norm(conv(x, f"{key}.conv_pw"), next(norms)))
            y = F.silu(norm(conv(y, f"{key}.conv_dw", stride, groups=y.shape[1]), next(norms)))
            squeezed = F.silu(conv(y.mean(dim=(2, 3), keepdim=True), f"{key}.se.conv_reduce"))
            y = y * torch.sigmoid(conv(squeezed, f"{key}.se.conv_expand"))
            y = norm(conv(y, f"{key}.{'conv_pw' if stage == 0 else 'conv_pwl'}"), next(norms))
            x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    llp = F.silu(norm(conv(x, "conv_head"), "bn2"))

    pooling = pooling_matrix(config["mspp"]["grids"], config["mspp"]["roi"], llp.shape[-1]).to(llp.dtype)
    # The original convolves the 4 x 4 samples and then averages them; averaging first gives the same, as both are linear.
    tokens = torch.einsum("tc,ndc->ntd", pooling, llp.flatten(2))
    kernel = weights["imgencoder.learnable.max_pool.0.weight"][:, :, 0, 0]
    tokens = F.linear(tokens, kernel, weights["imgencoder.learnable.max_pool.0.bias"])
    attended = _attended(weights, "imgencoder.learnable.imgAtt", config["attention"], F.normalize(tokens, dim=-1))
    return {"llp": llp, "tokens": tokens, "embedding": _fc(weights, "imgencoder.learnable.imgFC", attended.mean(dim=1))}


def text_forward(weights: Weights, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Ids [n, 12], 0 = padding -> {"states" [n, 12, 32] of BERT, which attends to padding too, "embedding" [n, 32]}."""
    config = TEXT["text"]
    prefix = "textencoder.backbone.bert."
    bert = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    states = hidden_states(bert, ids, torch.ones_like(ids, dtype=torch.bool), config["backbone"]["heads"], config["backbone"]["layerNormEps"])
    padding = ids == config["pad"]
    attended = _attended(weights, "textencoder.learnable.textAtt", config["attention"], F.normalize(states, dim=-1), padding)
    kept = (~padding)[..., None].to(states.dtype)
    mean = (attended * kept).sum(dim=1) / kept.sum(dim=1)
    return {"states": states, "embedding": _fc(weights, "textencoder.learnable.textFC", mean)}
