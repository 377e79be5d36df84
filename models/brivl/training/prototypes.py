"""Prototypes of concepts that ImageNet's classes lack, from pictures at hand (`more-concepts.jsonl`).

A classifier's row for a class is, but for scale, what linear discriminant analysis gives: w = S^-1 (m - mu), m the mean pooled feature of the
concept's pictures, mu and S the mean and covariance over many pictures; with so few pictures only S's diagonal is known. `python
prototypes.py` measures it on classes that the network knows: how near a row made in this way comes to the classifier's own.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from efficientnet_lite import Weights
from ingredients import CACHE, STAMPS, TRAINING, debian
from joint_space import JointSpace, maps
from pictures import as_tensor, on_white, photographs, square_views


VIEWS = 6


@dataclass(frozen=True)
class MoreConcept:
    """A concept beyond the 1000 and its pictures: stamps or photographs, some only a crop (left, top, side; see README.md)."""

    wnid: str
    word: str
    zh: str
    names: list[str]
    pictures: list[str]
    crop: dict[str, list[float]]


def more_concepts() -> list[MoreConcept]:
    """The concepts of `more-concepts.jsonl`, in its order."""
    entries = map(json.loads, (TRAINING / "more-concepts.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        MoreConcept(e["wnid"], e["word"], e["zh"], [*e["names"]["en"], *e["names"]["zh"]], e["pictures"], e.get("crop", {}))
        for e in entries
    ]


def picture(name: str) -> Image.Image:
    """A picture of the corpus by its name: `stamps/...` (RGBA) or `photographs/...` (RGB)."""
    root, rest = name.split("/", 1)
    if root == "stamps":
        return Image.open(debian(STAMPS / rest, "tuxpaint-stamps-default")).convert("RGBA")
    photographs_folder = CACHE / "photographs"
    if not photographs_folder.exists():
        photographs()
    return Image.open(photographs_folder / rest).convert("RGB")


def views(name: str, crop: list[float] | None, backgrounds: list[Image.Image]) -> list[Image.Image]:
    """`VIEWS` looks at a picture, 224 px: a cut-out on white, on grey and on photographs, in turn mirrored; a photograph in square crops."""
    draw = random.Random(name)
    found = picture(name)
    if found.mode == "RGB":
        if crop:
            width, height = found.size
            left, top, side = crop[0] * width, crop[1] * height, crop[2] * min(width, height)
            found = found.crop((round(left), round(top), round(left + side), round(top + side)))
        return square_views(found, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16), count=VIEWS)
    looks = [on_white(found), on_white(found.transpose(Image.Transpose.FLIP_LEFT_RIGHT))]
    for index in range(VIEWS - len(looks)):
        canvas = Image.new("RGB", (224, 224), (128, 128, 128)) if index == 0 else draw.choice(backgrounds).copy()
        scale = draw.uniform(0.6, 0.95) * 224 / max(found.size)
        small = found.resize([max(1, round(side * scale)) for side in found.size], Image.Resampling.BICUBIC)
        canvas.paste(small, (draw.randint(0, 224 - small.width), draw.randint(0, 224 - small.height)), small)
        looks.append(canvas)
    return looks


def features(name: str, weights: Weights, pictures: list[tuple[str, list[float] | None]]) -> np.ndarray:
    """Mean pooled features of each picture's views through the network `name`, cached: [n, 1280]."""
    digest = hashlib.sha256(json.dumps(pictures).encode()).hexdigest()[:12]
    path = CACHE / "pooled" / f"{name}-{digest}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"looking at {len(pictures)} pictures with {name} ...", flush=True)
        backgrounds = [square_views(photograph, seed, count=2)[1] for seed, photograph in enumerate(photographs())]
        found = [maps(weights, name, as_tensor(views(*each, backgrounds))).mean(dim=(0, 2, 3)) for each in pictures]
        np.save(path, torch.stack(found).numpy())
    return np.load(path)


def discriminant(means: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    """Rows (m - mu) / variance for concept means [n, 1280], mu and variance over `pooled` [m, 1280]: unit rows [n, 1280]."""
    rows = (means - pooled.mean(axis=0)) / (pooled.var(axis=0) + 1e-4)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def more_prototypes(name: str, weights: Weights, space: JointSpace, pooled: np.ndarray) -> torch.Tensor:
    """Prototypes of `more_concepts()` in a joint space, L2-normalised: [n, 384]."""
    concepts = more_concepts()
    pictures = [(path, concept.crop.get(path)) for concept in concepts for path in concept.pictures]
    seen = features(name, weights, pictures)
    owner = np.repeat(np.arange(len(concepts)), [len(concept.pictures) for concept in concepts])
    means = np.stack([seen[owner == index].mean(axis=0) for index in range(len(concepts))])
    rows = torch.from_numpy(discriminant(means, pooled)).float()
    return F.normalize(rows @ space.projection.T, dim=-1)


def main() -> None:
    from build_nano import BACKBONE, pooled_pictures
    from concepts import concepts
    from efficientnet_lite import folded_weights
    from joint_space import joint_space

    weights, classifier, _ = folded_weights(BACKBONE)
    photos, cuts = pooled_pictures(BACKBONE, weights)
    space = joint_space(classifier, torch.from_numpy(photos.mean(axis=0)))
    rows = {concept["word"]: index for index, concept in enumerate(concepts())}
    tests = [json.loads(line) for line in (TRAINING / "cut-outs-test.jsonl").read_text(encoding="utf-8").splitlines()]
    known = [(test["picture"], rows[test["class"]]) for test in tests if test["class"]]
    seen = features(BACKBONE, weights, [(path, None) for path, _ in known])
    made = F.normalize(torch.from_numpy(discriminant(seen, np.concatenate([photos, cuts]))).float() @ space.projection.T, dim=-1)
    scores = made @ space.prototypes.T
    own = scores[torch.arange(len(known)), torch.tensor([row for _, row in known])]
    ranks = (scores >= own[:, None]).sum(dim=1).float()
    print(
        f"{len(known)} pictures of known classes: cos with the classifier's row {own.mean():.3f};"
        f" it is the nearest for {(ranks == 1).float().mean():.3f}, among five for {(ranks <= 5).float().mean():.3f}"
    )


if __name__ == "__main__":
    main()
