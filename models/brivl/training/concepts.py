"""The visual concepts: their short English and Chinese names."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from prototypes import more_concepts
from wordnet import classes, imagenet_21k, nouns

# As `classify` puts names into sentences when it is not told otherwise (server/compare/templates.ts).
TEMPLATES = {"en": ["a photo of {}"], "zh": ["这是一张关于{}的图"]}


def concept_names() -> list[str]:
    """One distinct name a class: its first lemma that no other class starts with, else with its hypernym in brackets."""
    lemmas = [[lemma.strip() for lemma in imagenet_21k()[wnid][0].split(",")] for wnid in classes()]
    firsts = Counter(names[0].lower() for names in lemmas)
    found = []
    for wnid, names in zip(classes(), lemmas, strict=True):
        if firsts[names[0].lower()] == 1:
            found.append(names[0])
        else:
            parent = nouns()[nouns()[wnid].parents[0]].lemmas[0]
            found.append(next((name for name in names[1:] if firsts[name.lower()] == 0), f"{names[0]} ({parent})"))
    return found


def chinese_names() -> dict[str, str]:
    """The Chinese name of each class by its English one, as the corpus has it."""
    lines = (line for file in sorted((Path(__file__).parent / "corpus").glob("classes-*.jsonl")) for line in file.open(encoding="utf-8"))
    return {entry["class"]: entry["zh"] for entry in map(json.loads, lines)}


def concepts() -> list[dict]:
    """Rows of concepts.json: the 1000 classes in the order of the networks' outputs, then those made from pictures.

    A class without a Chinese name is an error.
    """
    chinese = chinese_names()
    rows = [{"wnid": wnid, "word": word, "zh": chinese[word]} for wnid, word in zip(classes(), concept_names(), strict=True)]
    return rows + [{"wnid": more.wnid, "word": more.word, "zh": more.zh} for more in more_concepts()]
