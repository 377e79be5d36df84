"""The 1000 visual concepts: their short English names."""

from __future__ import annotations

from collections import Counter

from wordnet import classes, imagenet_21k, nouns


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


def concepts() -> list[dict]:
    """Rows of concepts.json, in the order of the networks' outputs."""
    return [{"wnid": wnid, "word": word, "zh": None} for wnid, word in zip(classes(), concept_names(), strict=True)]
