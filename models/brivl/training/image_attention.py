"""Would attention over patches help brivl-nano's image tower? `python image_attention.py` trains one layer and prints the comparison.

The question is whether a composite (several cut-outs on a photograph) embeds as its parts do. Tokens are the 37 patches of MSPP (6 x 6 and 1),
projected into the joint space (the paper's 1x1 convolution); one post-norm encoder layer of 384 runs over them, then mean and L2. It learns,
with InfoNCE and cosine, to give a composite the normalised sum of what the plain mean sees in each part alone, and a cut-out alone what the
plain mean sees in it. What measures are the cut-outs of cut-outs-test.jsonl, alone and in composites on other photographs. Result: README.md.
"""

from __future__ import annotations

import json
import random

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from build_nano import BACKBONE
from concepts import concepts
from efficientnet_lite import folded_weights, llp
from ingredients import CACHE, STAMPS, TRAINING
from joint_space import EMBEDDING, JointSpace, hit_rates, joint_space
from mspp import pooling_matrix
from pictures import as_tensor, on_white, photographs, square_views, stamps
from prototypes import picture

SIZE, GRIDS, ROI = 224, [6, 1], 4
COMPOSITES, MEASURING = 3000, 400


def composite(draw: random.Random, layers: list[Image.Image], backgrounds: list[Image.Image]) -> tuple[Image.Image, list[int]]:
    """Two to four cut-outs, each in its own quarter of a photograph: (picture, indices of the cut-outs)."""
    canvas = draw.choice(backgrounds).copy()
    chosen = draw.sample(range(len(layers)), draw.randint(2, 4))
    for index, corner in zip(chosen, draw.sample(range(4), len(chosen)), strict=True):
        layer = layers[index]
        scale = draw.uniform(0.35, 0.5) * SIZE / max(layer.size)
        small = layer.resize([max(1, round(side * scale)) for side in layer.size], Image.Resampling.BICUBIC)
        left, top = (corner % 2) * SIZE // 2, (corner // 2) * SIZE // 2
        canvas.paste(small, (left + (SIZE // 2 - small.width) // 2, top + (SIZE // 2 - small.height) // 2), small)
    return canvas, chosen


def tokens_of(weights: dict[str, torch.Tensor], space: JointSpace, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(patch tokens in the joint space [n, 37, 384], embeddings by the plain mean [n, 384])."""
    pooling = pooling_matrix(GRIDS, ROI, SIZE // 32)
    patches, plain = [], []
    with torch.inference_mode():
        for part in pictures.split(16):
            cells = llp(weights, BACKBONE, part).flatten(2)
            patches.append(F.linear((cells @ pooling.T).transpose(1, 2), space.projection, space.bias).half())
            plain.append(space.embed(cells.mean(dim=2)))
    return torch.cat(patches), torch.cat(plain)


def made(name: str, count: int, layers: list[Image.Image], backgrounds: list[Image.Image], weights: dict, space: JointSpace) -> dict:
    """`count` composites, looked at: tokens, plain embeddings, targets (what their parts are alone) and parts."""
    path = CACHE / f"composites-{name}-{count}.pt"
    if not path.exists():
        _, alone = tokens_of(weights, space, as_tensor([on_white(layer) for layer in layers]))
        draw = random.Random(name)
        drawn = [composite(draw, layers, backgrounds) for _ in range(count)]
        tokens, plain = tokens_of(weights, space, as_tensor([picture for picture, _ in drawn]))
        parts = [chosen for _, chosen in drawn]
        targets = torch.stack([F.normalize(alone[chosen].sum(dim=0), dim=0) for chosen in parts])
        torch.save({"tokens": tokens, "plain": plain, "targets": targets, "parts": parts, "alone": alone}, path)
    return torch.load(path)


def recall(embeddings: torch.Tensor, found: dict, prototypes: torch.Tensor) -> tuple[float, float]:
    """(share of parts whose own best concept is among the composite's ten best, mean cosine with the parts' sum)."""
    best = (found["alone"] @ prototypes.T).argmax(dim=1)
    top = (embeddings @ prototypes.T).topk(10).indices
    hits = [float((row == best[index]).any()) for row, parts in zip(top, found["parts"], strict=True) for index in parts]
    return float(np.mean(hits)), float((embeddings * found["targets"]).sum(dim=1).mean())


def class_rates(embeddings: torch.Tensor, classes: list[int | None], prototypes: torch.Tensor) -> tuple[float, float]:
    """Zero-shot by prototype: (top-1, top-5) of the pictures that show one of the 1000 classes."""
    known = [index for index, row in enumerate(classes) if row is not None]
    accepted = [{classes[index]} for index in known]
    top1, top5 = hit_rates((embeddings[known] @ prototypes.T).numpy(), accepted, (1, 5))
    return top1, top5


def main() -> None:
    torch.manual_seed(0)
    rows = {concept["word"]: row for row, concept in enumerate(concepts())}
    tests = [json.loads(line) for line in (TRAINING / "cut-outs-test.jsonl").read_text(encoding="utf-8").splitlines()]
    test_pictures = {STAMPS / test["picture"].removeprefix("stamps/") for test in tests}
    weights, classifier, _ = folded_weights(BACKBONE)
    views = [square_views(picture, seed, count=2)[1] for seed, picture in enumerate(photographs())]
    pooled = torch.from_numpy(np.load(CACHE / "pooled" / f"{BACKBONE}-photographs.npy"))
    space = joint_space(classifier, pooled.mean(dim=0))
    taught = [stamp for path, stamp in stamps() if path not in test_pictures]
    tested = [picture(test["picture"]) for test in tests]
    learning = made("training", COMPOSITES, taught, views[::2], weights, space)
    held = made("measuring", MEASURING, tested, views[1::2], weights, space)
    alone_tokens, alone = tokens_of(weights, space, as_tensor([on_white(one) for one in taught]))
    tokens = torch.cat([learning["tokens"], alone_tokens, alone_tokens])
    targets = torch.cat([learning["targets"], alone, alone])

    layer = nn.TransformerEncoderLayer(EMBEDDING, 4, 1024, dropout=0.1, batch_first=True)
    steps = 600
    optimizer = torch.optim.AdamW(layer.parameters(), lr=3e-4, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, steps)
    scale = tokens.float().std()

    def embed(tokens: torch.Tensor) -> torch.Tensor:
        return F.normalize(layer(tokens.float() / scale).mean(dim=1), dim=-1)

    for _ in range(steps):
        chosen = torch.randint(len(tokens), (64,))
        y, target = embed(tokens[chosen]), targets[chosen]
        loss = F.cross_entropy(y @ target.T * 20, torch.arange(64)) + (1 - (y * target).sum(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layer.eval()

    single_tokens, single_plain = tokens_of(weights, space, as_tensor([on_white(one) for one in tested]))
    known = [rows.get(test["class"]) for test in tests]

    def mean(tokens: torch.Tensor) -> torch.Tensor:
        return F.normalize(tokens.float().mean(dim=1), dim=-1)

    def attended(tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([embed(part) for part in tokens.split(64)])

    with torch.inference_mode():
        for name, composites, singles in (
            ("plain mean", held["plain"], single_plain),
            ("37 patches, mean", mean(held["tokens"]), mean(single_tokens)),
            ("37 patches, attention, mean", attended(held["tokens"]), attended(single_tokens)),
        ):
            print(
                "{:28} composites: parts among the ten best {:.3f}, cos with the parts' sum {:.3f}; cut-outs alone: top-1 {:.3f}, top-5 {:.3f}".format(
                    name, *recall(composites, held, space.prototypes), *class_rates(singles, known, space.prototypes)
                )
            )


if __name__ == "__main__":
    main()
