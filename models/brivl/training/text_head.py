"""The text head: one ridge regression from e5's sentence embedding to the joint space.

Taught with nothing but public word lists, in three kinds of rows (weights by measurement, see README.md):
  nouns      each ImageNet-21k noun -> the mean of the classes under its nearest ancestor that has at most 80 of them;
  classes    the 1000 classes by name, by all their names and with their definition -> their own prototype;
  languages  the difference between a Chinese and an English name of the same thing -> zero, so that both land together.
"""

from __future__ import annotations

import numpy as np

from corpus import TextBackbone, annotation_pairs, noun_texts
from wordnet import classes, classes_below, distances_up, imagenet_21k

MOST_CLASSES = 80
CLASS_WEIGHT = 3.0
LANGUAGE_WEIGHT = 3.0
PENALTY = 1.0


def noun_targets(prototypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ImageNet-21k's nouns should land: unit targets [n, 384] and weights [n] = 1 / (1 + steps up) / classes^.25.

    A noun without a near enough ancestor has weight 0.
    """
    below = classes_below()
    synsets = list(imagenet_21k())
    targets = np.zeros((len(synsets), prototypes.shape[1]))
    weights = np.zeros(len(synsets))
    for row, wnid in enumerate(synsets):
        reach = [(steps, up) for up, steps in distances_up(wnid).items() if len(below.get(up, ())) in range(1, MOST_CLASSES + 1)]
        if reach:
            steps, ancestor = min(reach)
            mean = prototypes[list(below[ancestor])].mean(axis=0)
            targets[row] = mean / np.linalg.norm(mean)
            weights[row] = 1 / (1 + steps) / len(below[ancestor]) ** 0.25
    return targets, weights


def fit(backbone: TextBackbone, prototypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The head: weight [384, 384] and bias [384], with y = weight x + bias for an L2-normalised backbone embedding x."""
    prototypes = prototypes.astype(np.float64)
    texts = noun_texts()
    synsets = list(imagenet_21k())
    class_rows = [synsets.index(wnid) for wnid in classes()]

    nouns = backbone.embed_cached("nouns", texts["first"]).astype(np.float64)
    fuller = {
        kind: backbone.embed_cached(f"classes-{kind}", [texts[kind][row] for row in class_rows]).astype(np.float64)
        for kind in ("lemmas", "gloss")
    }
    annotations = list(zip(*annotation_pairs(), strict=True))
    english, english_words, chinese, chinese_words = (
        backbone.embed_cached(f"annotations-{kind}", list(column)).astype(np.float64)
        for kind, column in zip(("en", "en-keywords", "zh", "zh-keywords"), annotations, strict=True)
    )

    mean = np.concatenate([nouns, english, chinese]).mean(axis=0)
    targets, weights = noun_targets(prototypes)
    rows = [(nouns - mean, targets, weights)]
    rows += [(x - mean, prototypes, np.full(len(x), CLASS_WEIGHT)) for x in (nouns[class_rows], *fuller.values())]
    for difference in (chinese - english, chinese_words - english_words):
        rows.append((difference, np.zeros((len(difference), prototypes.shape[1])), np.full(len(difference), LANGUAGE_WEIGHT)))

    gram = PENALTY * np.eye(nouns.shape[1]) + sum(x.T @ (x * w[:, None]) for x, _, w in rows)
    weight = np.linalg.solve(gram, sum((x * w[:, None]).T @ y for x, y, w in rows)).T
    return weight, -weight @ mean
