"""The joint space of texts and pictures, from a classifier's own weights (shared/reference/nano.md).

e(x) = P (pooled LLP - mu): P [384, 1280] holds the leading right singular vectors of the centred class weights, mu [1280] is the
mean pooled feature over photographs. A class is its unit weight row through P.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from efficientnet_lite import Weights, llp

EMBEDDING = 384


@dataclass
class JointSpace:
    """`projection` [384, 1280], `bias` [384] (= -P mu) and `prototypes` [1000, 384], L2-normalised."""

    projection: torch.Tensor
    bias: torch.Tensor
    prototypes: torch.Tensor

    def embed(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled LLP features [n, 1280] -> L2-normalised embeddings [n, 384]."""
        return torch.nn.functional.normalize(pooled @ self.projection.T + self.bias, dim=-1)


def joint_space(classifier: torch.Tensor, mean_feature: torch.Tensor) -> JointSpace:
    """The space of a classifier's weight [1000, 1280]. Singular vectors are signed so that their largest entry is positive."""
    weight = classifier.double()
    _, _, right = torch.linalg.svd(weight - weight.mean(dim=0), full_matrices=False)
    right = right[:EMBEDDING]
    right = right * torch.sign(right.gather(1, right.abs().argmax(dim=1, keepdim=True)))
    prototypes = torch.nn.functional.normalize(weight, dim=-1) @ right.T
    return JointSpace(
        right.float(), -(right @ mean_feature.double()).float(), torch.nn.functional.normalize(prototypes, dim=-1).float()
    )


def bridge(source: torch.Tensor, target: torch.Tensor, penalty: float = 1.0) -> torch.Tensor:
    """The ridge map B [384, 384] from one space to another, over the class prototypes: target ~ source @ B.T."""
    x, y = source.double(), target.double()
    return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y).T.float()


def maps(weights: Weights, name: str, pictures: torch.Tensor, batch: int = 16) -> torch.Tensor:
    """LLP maps of many pictures: [n, 3, s, s] -> [n, 1280, s/32, s/32]."""
    with torch.inference_mode():
        return torch.cat([llp(weights, name, part) for part in pictures.split(batch)])


def pooling_vector(pooling: str, cells: int, grids: list[int], roi: int) -> torch.Tensor:
    """What "mean" or "mspp" amounts to on a `cells` x `cells` map without token norm and attention: weights [cells * cells]."""
    if pooling == "mean":
        return torch.full((cells * cells,), 1 / cells**2)
    from mspp import pooling_matrix

    return pooling_matrix(grids, roi, cells).mean(dim=0)


def hit_rates(scores: np.ndarray, accepted: list[set[int]], ranks: tuple[int, ...]) -> list[float]:
    """The share of rows of `scores` [n, classes] with an accepted class among the `k` best, for each k of `ranks`."""
    order = np.argsort(-scores, axis=1)
    return [float(np.mean([bool(good & set(row[:k].tolist())) for good, row in zip(accepted, order, strict=True)])) for k in ranks]
