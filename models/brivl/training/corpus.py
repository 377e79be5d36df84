"""The texts that teach the text head, and the cache of their e5 embeddings.

Embedding is the slow part of the build (about eight minutes on two cores), so each group is kept under `.cache/`, named by a
hash of the vocabulary and its texts.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np

from e5 import PREFIX, UnigramTokenizer, Weights, sentence_embeddings
from ingredients import ANNOTATIONS, CACHE, debian
from wordnet import imagenet_21k


@dataclass
class TextBackbone:
    """Everything needed to turn a text into its pooled backbone state: the pruned vocabulary and its weights."""

    tokenizer: UnigramTokenizer
    weights: Weights
    heads: int
    eps: float

    def embed(self, texts: list[str]) -> np.ndarray:
        """L2-normalised mean of the last layer: [n, 384] float32."""
        sequences = [self.tokenizer.encode(PREFIX + text) for text in texts]
        return sentence_embeddings(self.weights, sequences, self.heads, self.eps).numpy()

    def embed_cached(self, group: str, texts: list[str]) -> np.ndarray:
        """`embed`, remembered on disk."""
        digest = hashlib.sha256("\0".join([*self.tokenizer.vocabulary.pieces, *texts]).encode()).hexdigest()[:12]
        path = CACHE / "embeddings" / f"{group}-{digest}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f"embedding {len(texts)} texts ({group}) ...", flush=True)
            np.save(path, self.embed(texts))
        return np.load(path)


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


def annotation_pairs() -> list[tuple[str, str, str, str]]:
    """Unicode's bilingual picture names: (English name, English keywords, Chinese name, Chinese keywords) a symbol or emoji.

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
    (english, english_words), (chinese, chinese_words) = tables["en"], tables["zh"]
    shared = [cp for cp in english if cp in chinese and cp in english_words and cp in chinese_words]
    return [(english[cp], english_words[cp], chinese[cp], chinese_words[cp]) for cp in shared]
