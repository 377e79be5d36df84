"""The weakly correlated texts of `corpus/`, and which of them are never taught.

Held out are whole concepts, in both languages: the entries of test/eval/held-out.json, a tenth of the corpus, chosen by a hash of their texts
(not where a concept has a class's name). An entry that shares a text with one of them, in either language, is held out too.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from concepts import concepts
from ingredients import REPOSITORY

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Entry:
    """`texts` by language, and what they show: concept's row -> weight, at most 1. `sort` is the file's: concepts, lines, poems, scenes."""

    sort: str
    texts: dict[str, str]
    shows: dict[int, float]
    held_out: bool


@dataclass(frozen=True)
class ConceptTexts:
    """What a concept is called, and what people write under its picture; both languages together."""

    row: int
    names: list[str]
    captions: list[str]


def normal(text: str) -> str:
    """One spelling for comparison: compatibility forms, case folded, letters and digits only."""
    return "".join(character for character in unicodedata.normalize("NFKC", text).casefold() if character.isalnum())


def _lines(pattern: str) -> list[tuple[str, dict]]:
    return [
        (path.stem.split("-", 1)[0], json.loads(line))
        for path in sorted(CORPUS.glob(pattern)) for line in path.read_text(encoding="utf-8").splitlines()
    ]


def concept_texts() -> list[ConceptTexts]:
    """Names and captions of the visual concepts, from `classes-*`."""
    rows = {concept["word"]: row for row, concept in enumerate(concepts())}
    return [
        ConceptTexts(
            rows[entry["class"]],
            [*entry["names"]["en"], entry["zh"], *entry["names"]["zh"]],
            [*entry["captions"]["en"], *entry["captions"]["zh"]],
        )
        for _, entry in _lines("classes-*.jsonl")
    ]


@cache
def held_out_texts() -> set[str]:
    """The texts that nothing may teach, in `normal` spelling."""
    path = REPOSITORY / "test/eval/held-out.json"
    return {normal(text) for entry in json.loads(path.read_text(encoding="utf-8")) for text in entry["texts"].values()}


@cache
def entries() -> list[Entry]:
    """Every entry of `concepts-*`, `lines-*`, `poems-*` and `scenes-*`."""
    known = concepts()
    rows = {concept["word"]: row for row, concept in enumerate(known)} | {concept["wnid"]: row for row, concept in enumerate(known)}
    found = [line for pattern in ("concepts-*", "lines-*", "poems-*", "scenes-*") for line in _lines(f"{pattern}.jsonl")]
    texts = [{language: entry[language] for language in ("en", "zh") if language in entry} for _, entry in found]
    for (_, entry), spoken in zip(found, texts, strict=True):
        if "text" in entry:
            spoken[entry["lang"]] = entry["text"]

    held = held_out_texts()
    return [
        Entry(sort, spoken, {rows[name]: weight for name, weight in entry["shows"].items()}, not held.isdisjoint(map(normal, spoken.values())))
        for (sort, entry), spoken in zip(found, texts, strict=True)
    ]
