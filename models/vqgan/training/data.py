"""What the codec learns from: crops of photographs, and cut-outs pasted on them. Used, not shipped.

The pictures are brivl-nano's (../../brivl/training: `ingredients.py` says where they lie, `pictures.py` which are taken). They are
decoded once into `.cache/pictures.npz`, each in several sizes, so that a crop costs a slice; photographs of two games join them.
Everything a crop is made of is drawn from (seed, step): a run that was interrupted goes on with the very crops it would have seen.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

TRAINING = Path(__file__).resolve().parent
sys.path.append(str(TRAINING.parents[1] / "brivl/training"))

import ingredients  # noqa: E402
import pictures  # noqa: E402

CACHE = TRAINING / ".cache"

# Shorter sides that every photograph is stored in, and how often each is drawn from: reduced pictures hold the textures, and 256 px is
# the canvas the codec will be used on.
SIDES = {640: 0.15, 400: 0.25, 256: 0.35, 160: 0.25}

# At most so many powers of two is a crop larger than what it is reduced to: between the sides above there are all others too.
ZOOM = 0.75

# Photographs beside brivl-nano's, for learning only: landscapes as JPEG files, and animals, buildings and paintings as WebP inside Qt's
# uncompressed resource files.
LANDSCAPES = Path("/usr/share/games/endless-sky/images/land")
RESOURCES = Path("/usr/share/gcompris-qt/rcc")
MORE = "more:"

# Activities whose pictures are masked or drawn, and what is smaller than a photograph.
NOT_PHOTOGRAPHS = ("babyshapes", "digital_electricity", "louis")
LEAST_SIDE, LEAST_BYTES = 240, 15_000

# Longer sides of the stored cut-outs.
CUT_OUT_SIDES = (176, 112, 72)

# About every eighth family of photographs, and every eighth cut-out, is held out. Of sixteen salts this one was taken because six of the
# fourteen photographs that it holds out are textured.
HELD_OUT = 8
SALT = "vqgan-nano-6"

# Mean squared luminance gradient of the 256 px square, luminance in [0, 1]: at least this is "textured", below it "smooth".
TEXTURED = 0.004


# Share of crops with a cut-out on them, and of these the share on a plain colour.
WITH_CUT_OUT, ON_PLAIN = 0.4, 0.4

# Letters, digits and signs would be a tenth of the cut-outs.
NOT_PASTED = "symbols/"


@dataclass(frozen=True)
class Photograph:
    name: str
    sizes: dict[int, np.ndarray]

    def interest(self) -> float:
        """How often it is drawn, relative to others: many wallpapers are nearly one colour."""
        energy = gradient_energy(as_input(self.sizes[256][None] / 255)).item()
        return min(max(energy, 2e-4), 2e-2) ** 0.4


@dataclass(frozen=True)
class Library:
    """Decoded pictures, uint8: photographs [h, w, 3] by shorter side, cut-outs [h, w, 4] in three sizes."""

    photographs: list[Photograph]
    cut_outs: list[list[np.ndarray]]

    @cached_property
    def shares(self) -> np.ndarray:
        interest = np.array([photograph.interest() for photograph in self.photographs])
        return interest / interest.sum()


def family(name: str) -> str:
    """What the variants of one picture (dark, portrait, other sizes) have in common in their names: they are never split."""
    stem = re.sub(r"(\.(png|jpg|webp))+$", "", name).split("_contents_")[0]
    stem = re.sub(r"-[dl]$|_\d+x\d+$|_\d+am$", "", stem)
    return re.sub(r"(MATE-Stripes|Ubuntu-Mate).*", r"\1", stem).lower()


def is_held_out(key: str) -> bool:
    return not key.startswith(MORE) and int.from_bytes(hashlib.sha256(f"{SALT}/{key}".encode()).digest()[:4], "big") % HELD_OUT == 0


def reduced(picture: Image.Image, scale: float) -> np.ndarray:
    if scale >= 1:
        return np.asarray(picture)
    return np.asarray(picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS))


def named_photographs() -> list[tuple[str, Image.Image]]:
    """`pictures.photographs()` with the name of the file each came from: both go through the same folder in the same order."""
    taken = pictures.photographs()
    named = []
    for path in sorted((ingredients.CACHE / "photographs").iterdir()):
        if len(named) == len(taken):
            break
        with Image.open(path) as file:
            picture = file.convert("RGB")
        expected = taken[len(named)]
        if picture.size == expected.size and picture.tobytes() == expected.tobytes():
            named.append((path.name, expected))
    if len(named) < len(taken):
        raise RuntimeError("photographs and the folder they come from do not agree: delete models/brivl/training/.cache/photographs")
    return named


def more_photographs() -> list[tuple[str, Image.Image]]:
    found = []
    for path in sorted(ingredients.debian(LANDSCAPES, "endless-sky-data").glob("*.jpg")):
        with Image.open(path) as file:
            found.append((f"{MORE}{path.name}", file.convert("RGB")))
    for path in sorted(ingredients.debian(RESOURCES, "gcompris-qt-data").glob("*.rcc")):
        resource = b"" if path.stem in NOT_PHOTOGRAPHS else path.read_bytes()
        for match in re.finditer(rb"RIFF(....)WEBP", resource, re.DOTALL):
            length = struct.unpack("<I", match[1])[0] + 8
            if length < LEAST_BYTES:
                continue
            try:
                with Image.open(io.BytesIO(resource[match.start() : match.start() + length])) as file:
                    picture = file.convert("RGBA")
            except OSError:
                continue
            if min(picture.size) >= LEAST_SIDE and picture.getchannel("A").getextrema()[0] == 255:
                found.append((f"{MORE}{path.stem}-{match.start()}", picture.convert("RGB")))
    return found


def stamps() -> list[tuple[str, Image.Image]]:
    """Tuxpaint's stamps of at least 96 px with their transparency, cut to what is not transparent."""
    found = []
    for path in sorted(ingredients.debian(ingredients.STAMPS, "tuxpaint-stamps-default").rglob("*.png")):
        name = path.relative_to(ingredients.STAMPS).as_posix()
        if path.stem.endswith(("_mirror", "_flip")) or name.startswith(NOT_PASTED):
            continue
        with Image.open(path) as file:
            stamp = file.convert("RGBA")
        box = stamp.getchannel("A").getbbox()
        if box and max(box[2] - box[0], box[3] - box[1]) >= 96:
            found.append((name, stamp.crop(box)))
    return found


def decode_everything() -> dict[str, np.ndarray]:
    arrays = {}
    for name, picture in named_photographs() + more_photographs():
        for side in SIDES:
            arrays[f"photograph/{side}/{name}"] = reduced(picture, side / min(picture.size))
    for name, stamp in stamps():
        # Resampled with premultiplied colours, else the colour hidden under transparency bleeds in at the edges.
        for side in CUT_OUT_SIDES:
            scale = min(1.0, side / max(stamp.size))
            size = [max(1, round(length * scale)) for length in stamp.size]
            arrays[f"cut-out/{side}/{name}"] = np.asarray(stamp.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA"))
    return arrays


def load() -> tuple[Library, Library]:
    """(training pictures, held-out pictures), decoded once into the cache."""
    path = CACHE / "pictures.npz"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **decode_everything())
        part.replace(path)
    split = {False: Library([], []), True: Library([], [])}
    with np.load(path) as file:
        for key in sorted(name for name in file.files if name.startswith(f"photograph/{next(iter(SIDES))}/")):
            name = key.split("/", 2)[2]
            split[is_held_out(family(name))].photographs.append(Photograph(name, {side: file[f"photograph/{side}/{name}"] for side in SIDES}))
        for key in sorted(name for name in file.files if name.startswith(f"cut-out/{CUT_OUT_SIDES[0]}/")):
            name = key.split("/", 2)[2]
            split[is_held_out(name)].cut_outs.append([file[f"cut-out/{side}/{name}"] for side in CUT_OUT_SIDES])
    return split[False], split[True]


def crop(array: np.ndarray, size: int, draw: np.random.Generator) -> np.ndarray:
    """A square of `size` px; a picture that is smaller is mirrored at its edges first."""
    short = [max(0, size - length) for length in array.shape[:2]]
    if any(short):
        array = np.pad(array, [(0, short[0]), (0, short[1]), (0, 0)], mode="symmetric")
    top, left = (draw.integers(length - size + 1) for length in array.shape[:2])
    return array[top : top + size, left : left + size]


def photograph_crop(library: Library, size: int, draw: np.random.Generator) -> np.ndarray:
    """Of two crops from one photograph the less plain one, reduced to `size`."""
    photograph = library.photographs[draw.choice(len(library.photographs), p=library.shares)]
    array = photograph.sizes[int(draw.choice(list(SIDES), p=list(SIDES.values())))]
    extent = max(size, min(round(size * 2 ** draw.uniform(0, ZOOM)), *array.shape[:2]))
    taken = max((crop(array, extent, draw) for _ in range(2)), key=lambda found: found[::4, ::4].std())
    return taken if extent == size else np.asarray(Image.fromarray(taken).resize((size, size), Image.Resampling.BICUBIC))


def plain_colour(size: int, draw: np.random.Generator) -> np.ndarray:
    """One colour, or every other time a passage from one colour to another in some direction. uint8 [size, size, 3]."""
    first, second = draw.integers(256, size=(2, 3)).astype(np.float32)
    if draw.random() < 0.5:
        second = first
    angle = draw.uniform(0, 2 * np.pi)
    along = np.linspace(-0.7, 0.7, size, dtype=np.float32)
    ramp = np.clip(0.5 + along[:, None] * np.sin(angle) + along[None, :] * np.cos(angle), 0, 1)[..., None]
    return (first + (second - first) * ramp).astype(np.uint8)


def with_cut_out(ground: np.ndarray, library: Library, draw: np.random.Generator) -> np.ndarray:
    """A cut-out in one of its sizes on a ground; it may reach over the edges, but its middle lies inside."""
    sizes = library.cut_outs[draw.integers(len(library.cut_outs))]
    cut_out = sizes[draw.integers(len(sizes))]
    if draw.random() < 0.5:
        cut_out = cut_out[:, ::-1]
    result = ground.astype(np.float32)
    spans = []
    for extent, length in zip(ground.shape, cut_out.shape[:2]):
        start = draw.integers(extent) - length // 2
        spans.append((slice(max(0, start), min(extent, start + length)), slice(max(0, -start), min(length, extent - start))))
    (rows, source_rows), (columns, source_columns) = spans
    piece = cut_out[source_rows, source_columns].astype(np.float32)
    alpha = piece[..., 3:] / 255
    result[rows, columns] += alpha * (piece[..., :3] - result[rows, columns])
    return result


def jittered(picture: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Flip, brightness, contrast, saturation; one crop in seven swaps its colour channels, so that every hue has textures. -> [0, 1]"""
    x = picture.astype(np.float32) / 255
    if draw.random() < 0.5:
        x = x[:, ::-1]
    if draw.random() < 1 / 7:
        x = x[..., draw.permutation(3)]
    grey = x.mean(axis=2, keepdims=True)
    x = grey + (x - grey) * draw.uniform(0.7, 1.6)
    middle = x.mean()
    return np.clip(middle + (x - middle) * draw.uniform(0.85, 1.15) + draw.uniform(-0.08, 0.08), 0, 1)


def batch(library: Library, count: int, size: int, seed: int, step: int) -> torch.Tensor:
    """The crops of one training step: [count, 3, size, size] in [-1, 1]."""
    draw = np.random.default_rng([seed, step])
    made = []
    for _ in range(count):
        pasted = draw.random() < WITH_CUT_OUT
        ground = plain_colour(size, draw) if pasted and draw.random() < ON_PLAIN else photograph_crop(library, size, draw)
        if pasted:
            ground = with_cut_out(ground, library, draw)
        made.append(jittered(ground, draw))
    return as_input(np.stack(made))


def as_input(x: np.ndarray) -> torch.Tensor:
    """[n, h, w, 3] in [0, 1] -> [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32)) * 2 - 1


def squares(library: Library, size: int) -> tuple[list[str], torch.Tensor]:
    """The centred square of every photograph at `size` px (names, [n, 3, size, size] in [-1, 1])."""
    made = []
    for photograph in library.photographs:
        array = photograph.sizes[max(SIDES)]
        side = min(array.shape[:2])
        top, left = ((length - side) // 2 for length in array.shape[:2])
        square = Image.fromarray(array[top : top + side, left : left + side]).resize((size, size), Image.Resampling.LANCZOS)
        made.append(np.asarray(square, np.float32) / 255)
    return [photograph.name for photograph in library.photographs], as_input(np.stack(made))


def gradient_energy(x: torch.Tensor) -> torch.Tensor:
    """Mean squared gradient of the luminance, [n, 3, h, w] in [-1, 1] -> [n], luminance taken in [0, 1]."""
    luminance = ((x + 1) / 2 * torch.tensor([0.299, 0.587, 0.114], device=x.device)[:, None, None]).sum(1)
    return luminance.diff(dim=2).square().mean((1, 2)) + luminance.diff(dim=1).square().mean((1, 2))
