"""The text head: one linear map from e5's sentence embedding to the joint space, taught what texts call up.

Three lessons at once (what each adds: README.md):
  concepts   a text's embedding, against all prototypes, gives the mixture that the text shows: cross-entropy of a softmax over cosines,
             and the cosine with the mixture itself, so that the embedding stays where pictures are;
  languages  a Chinese and an English text of the same meaning find each other among the others of a batch (InfoNCE, both ways).
Texts that are held out (`corpus.py`) are taught in no lesson, nor is any word list's text that is spelt like one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from concepts import TEMPLATES, concepts
from corpus import concept_texts, entries, held_out_texts, normal
from prototypes import more_concepts
from text_backbone import TextBackbone
from word_lists import annotation_pairs, dictionary_pairs, noun_texts
from wordnet import classes, classes_below, distances_up, imagenet_21k

# A noun's ancestor tells what it looks like when it stands above at most this many classes.
MOST_CLASSES = 80

WEIGHT = {"nouns": 0.15, "names": 1.0, "templates": 0.3, "captions": 0.3, "corpus": 2.0}
MIXTURE_WEIGHT, LANGUAGE_WEIGHT = 2.0, 0.5
EPOCHS, BATCH, RATE, DECAY, NOISE = 30, 512, 1e-3, 1e-3, 0.02
PAIRS, TEMPERATURE = 512, 40.0

# The corpus was written with the 1000 classes in mind: that a text does not name a concept of pictures counts against that concept this much
# less (a shift of its logit).
UNSAID = 2.0


@dataclass
class Lesson:
    """A text, the concepts it shows (row -> weight) and how much it counts."""

    text: str
    shows: dict[int, float]
    weight: float


def noun_lessons() -> list[Lesson]:
    """ImageNet-21k's nouns, and the dictionary's Chinese for them: each shows the classes under its nearest ancestor with few enough.

    Weight 1 / (1 + steps up) / classes^.25 (shared/reference/nano.md).
    """
    chinese: dict[str, list[str]] = {}
    for english, word in dictionary_pairs():
        chinese.setdefault(english.lower(), []).append(word)
    below = classes_below()
    lessons = []
    for wnid, first in zip(imagenet_21k(), noun_texts()["first"], strict=True):
        reach = [(steps, up) for up, steps in distances_up(wnid).items() if len(below.get(up, ())) in range(1, MOST_CLASSES + 1)]
        if reach:
            steps, ancestor = min(reach)
            shown = below[ancestor]
            weight = WEIGHT["nouns"] / (1 + steps) / len(shown) ** 0.25
            lessons += [Lesson(text, dict.fromkeys(shown, 1.0), weight) for text in [first, *chinese.get(first.lower(), [])[:3]]]
    return lessons


def name_lessons() -> list[Lesson]:
    """Every concept by its names, in templates, with its definition and by the captions that people write under its picture."""
    synsets = list(imagenet_21k())
    texts = noun_texts()
    lessons = []
    for row, wnid in enumerate(classes()):
        place = synsets.index(wnid)
        lessons += [Lesson(texts[kind][place], {row: 1.0}, WEIGHT["names"]) for kind in ("first", "lemmas", "gloss")]
    for concept in concept_texts():
        lessons += [Lesson(name, {concept.row: 1.0}, WEIGHT["names"]) for name in concept.names]
        lessons += [Lesson(caption, {concept.row: 1.0}, WEIGHT["captions"]) for caption in concept.captions]
    known = concepts()
    for row, concept in enumerate(known):
        for language, name in (("en", concept["word"]), ("zh", concept["zh"])):
            lessons += [Lesson(template.replace("{}", name), {row: 1.0}, WEIGHT["templates"]) for template in TEMPLATES[language]]
    for row, concept in enumerate(more_concepts(), len(classes())):
        lessons += [Lesson(name, {row: 1.0}, WEIGHT["names"]) for name in [concept.word, concept.zh, *concept.names]]
    return lessons


def corpus_lessons() -> list[Lesson]:
    """The corpus' entries that are not held out; one that is named like a concept of pictures shows that too."""
    named = {normal(name): row for row, concept in enumerate(concepts()) for name in (concept["word"], concept["zh"])}
    lessons = []
    for entry in entries():
        if not entry.held_out:
            for text in entry.texts.values():
                row = named.get(normal(text))
                lessons.append(Lesson(text, entry.shows | ({row: 1.0} if row is not None else {}), WEIGHT["corpus"]))
    return lessons


def translation_pairs() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(pairs of the corpus, pairs of the word lists), (English, Chinese) each, without what is held out."""
    own = [(entry.texts["en"], entry.texts["zh"]) for entry in entries() if not entry.held_out and len(entry.texts) == 2]
    return own, annotation_pairs() + dictionary_pairs()


class Head(nn.Module):
    """y = L2(W x + b)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(*weight.shape[::-1])
        self.linear.weight.data = weight
        self.linear.bias.data = bias
        self.log_scale = nn.Parameter(torch.tensor(math.log(15.0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.linear(x), dim=-1)


def ridge(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where training starts: the weighted ridge regression (lambda 1) of y [n, e] on centred x [n, h]."""
    x, y, weights = x.double(), y.double(), weights.double()[:, None]
    mean = x.mean(dim=0)
    centred = x - mean
    gram = torch.eye(x.shape[1], dtype=x.dtype) + centred.T @ (centred * weights)
    weight = torch.linalg.solve(gram, (centred * weights).T @ y).T
    return weight.float(), -(weight @ mean).float()


def fit(backbone: TextBackbone, prototypes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The head: weight [384, 384] and bias [384], for L2-normalised backbone embeddings. Deterministic on a machine."""
    held = held_out_texts()
    lessons = [lesson for lesson in noun_lessons() + name_lessons() + corpus_lessons() if normal(lesson.text) not in held]
    own, public = ([pair for pair in pairs if not held.intersection(map(normal, pair))] for pairs in translation_pairs())
    return learn(backbone, prototypes, lessons, own, public)


def learn(
    backbone: TextBackbone,
    prototypes: torch.Tensor,
    lessons: list[Lesson],
    own: list[tuple[str, str]],
    public: list[tuple[str, str]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Trains a head on lessons and on translation pairs of the corpus and of word lists, in equal parts."""
    generator = torch.Generator().manual_seed(0)
    x = torch.from_numpy(backbone.embed_cached([lesson.text for lesson in lessons]))
    weights = torch.tensor([lesson.weight for lesson in lessons])
    shares = torch.zeros(len(lessons), len(prototypes))
    for row, lesson in enumerate(lessons):
        for concept, weight in lesson.shows.items():
            shares[row, concept] = weight
    shares /= shares.sum(dim=1, keepdim=True)
    mixtures = F.normalize(shares @ prototypes, dim=-1)
    silent = torch.zeros(len(lessons), len(prototypes), dtype=torch.bool)
    silent[:, len(classes()) :] = ~(shares[:, len(classes()) :] > 0).any(dim=1, keepdim=True)
    pairs = [[torch.from_numpy(backbone.embed_cached(list(side))) for side in zip(*each, strict=True)] for each in (own, public) if each]

    head = Head(*ridge(x, mixtures, weights))
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    batches = len(lessons) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * batches)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(lessons), generator=generator).split(BATCH)[:batches]:
            y = head(x[rows] + NOISE * torch.randn(BATCH, x.shape[1], generator=generator))
            share = weights[rows] / weights[rows].sum()
            logits = (y @ prototypes.T * head.log_scale.exp()) - UNSAID * silent[rows]
            loss = -((shares[rows] * logits.log_softmax(dim=1)).sum(dim=1) @ share)
            loss = loss + MIXTURE_WEIGHT * ((1 - (y * mixtures[rows]).sum(dim=1)) @ share)
            if pairs:
                chosen = [torch.randint(len(each[0]), (PAIRS // len(pairs),), generator=generator) for each in pairs]
                english, chinese = (head(torch.cat([each[side][rows] for each, rows in zip(pairs, chosen, strict=True)])) for side in (0, 1))
                similar = english @ chinese.T * TEMPERATURE
                same = torch.arange(len(similar))
                loss = loss + LANGUAGE_WEIGHT * (F.cross_entropy(similar, same) + F.cross_entropy(similar.T, same)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.linear.weight.detach(), head.linear.bias.detach()
