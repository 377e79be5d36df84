"""The frozen half of the text tower, and its memory: e5's sentence embeddings are the slow part of the build, so they are kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from e5 import PREFIX, UnigramTokenizer, Weights, sentence_embeddings
from ingredients import CACHE


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

    def embed_cached(self, texts: list[str]) -> np.ndarray:
        """`embed`, each text only once in a machine's life (`.cache/embeddings`, one store a vocabulary)."""
        digest = hashlib.sha256("\0".join(self.tokenizer.vocabulary.pieces).encode()).hexdigest()[:12]
        folder = CACHE / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        names, rows = folder / f"{digest}.json", folder / f"{digest}.f32"
        known: list[str] = json.loads(names.read_text(encoding="utf-8")) if names.exists() else []
        place = {text: index for index, text in enumerate(known)}
        missing = [text for text in dict.fromkeys(texts) if text not in place]
        for start in range(0, len(missing), PART):
            part = missing[start : start + PART]
            print(f"embedding texts: {start} of {len(missing)} ...", flush=True)
            embeddings = self.embed(part)
            with rows.open("ab") as file:
                file.truncate(len(known) * embeddings.shape[1] * 4)
                file.write(embeddings.tobytes())
            place |= {text: len(known) + index for index, text in enumerate(part)}
            known += part
            names.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
        stored = np.memmap(rows, np.float32, "r").reshape(len(known), -1)
        return np.array(stored[[place[text] for text in texts]])


# So that a build that is stopped loses little.
PART = 8192
