"""WordNet 3.0 (Debian `wordnet-base`): how its nouns stand above the 1000 classes, and which words are English.

A synset is named as in ImageNet: `n` and its eight-digit offset.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass
from functools import cache
from typing import Iterator

from ingredients import WORDNET, class_table, debian

WORD = re.compile("[A-Za-z]+")


@dataclass(frozen=True)
class Synset:
    """One meaning. `parents` are hypernyms, of classes and of instances alike."""

    wnid: str
    lemmas: tuple[str, ...]
    gloss: str
    parents: tuple[str, ...]


def _entries(part: str) -> Iterator[tuple[list[str], str]]:
    """(fields, gloss with examples) of each line of `data.noun` and its like; the format is man 5 wndb."""
    with debian(WORDNET / f"data.{part}", "wordnet-base").open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith(" "):
                head, gloss = line.split(" | ", 1)
                yield head.split(" "), gloss.strip()


def _lemmas(fields: list[str]) -> list[str]:
    return [fields[4 + 2 * index].replace("_", " ") for index in range(int(fields[3], 16))]


@cache
def nouns() -> dict[str, Synset]:
    """Every noun synset by wnid."""
    found = {}
    for fields, gloss in _entries("noun"):
        start = 5 + 2 * int(fields[3], 16)
        pointers = [fields[start + 4 * index : start + 4 * index + 4] for index in range(int(fields[start - 1]))]
        parents = tuple(f"n{offset}" for symbol, offset, kind, _ in pointers if symbol in ("@", "@i") and kind == "n")
        found[f"n{fields[0]}"] = Synset(f"n{fields[0]}", tuple(_lemmas(fields)), gloss, parents)
    return found


def english_word_counts() -> Counter[str]:
    """Word, as spelt -> the number of entries of all parts of speech whose lemmas, gloss or examples use it."""
    counts: Counter[str] = Counter()
    for part in ("noun", "verb", "adj", "adv"):
        for fields, gloss in _entries(part):
            counts.update(set(WORD.findall(gloss)) | {word for lemma in _lemmas(fields) for word in WORD.findall(lemma)})
    return counts


@cache
def lemmas_of_all_parts() -> set[str]:
    """Every lemma of every part of speech, lower case."""
    return {lemma.lower() for part in ("noun", "verb", "adj", "adv") for fields, _ in _entries(part) for lemma in _lemmas(fields)}


@cache
def classes() -> list[str]:
    """The 1000 wnids in the order of the networks' outputs."""
    return [line.strip() for line in class_table("imagenet_synsets.txt")]


@cache
def classes_below() -> dict[str, tuple[int, ...]]:
    """wnid -> indices of the classes at or under it, for every ancestor of a class."""
    below: dict[str, set[int]] = {}
    for index, wnid in enumerate(classes()):
        for ancestor in distances_up(wnid):
            below.setdefault(ancestor, set()).add(index)
    return {wnid: tuple(sorted(found)) for wnid, found in below.items()}


def distances_up(wnid: str) -> dict[str, int]:
    """The synset and all its ancestors -> least number of hypernym steps to them, nearest first."""
    steps = {wnid: 0}
    queue = deque([wnid])
    while queue:
        current = queue.popleft()
        for parent in nouns()[current].parents:
            if parent not in steps:
                steps[parent] = steps[current] + 1
                queue.append(parent)
    return steps


@cache
def imagenet_21k() -> dict[str, tuple[str, str]]:
    """wnid -> (lemmas, comma-separated; definition) of the synsets of ImageNet-21k that WordNet 3.0 has."""
    lemmas = dict(line.split("\t", 1) for line in class_table("imagenet_synset_to_lemma.txt"))
    definitions = dict(line.split("\t", 1) for line in class_table("imagenet_synset_to_definition.txt"))
    return {wnid: (lemmas[wnid], definitions[wnid]) for wnid in sorted(lemmas) if wnid in nouns()}
