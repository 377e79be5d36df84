"""The pictures that brivl-nano is measured on: Debian's photographs and tuxpaint's labelled cut-outs. Used, not shipped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Iterator

import numpy as np
import torch
from PIL import Image

from ingredients import CACHE, PHOTOGRAPHS, STAMPS, debian

Image.MAX_IMAGE_PIXELS = None
SHORT_SIDE = 640


def photographs() -> list[Image.Image]:
    """Every distinct large photograph or wallpaper, RGB, its shorter side reduced to 640 px.

    Vector drawings, screenshots and pictures under 200 px are left out; so are variants (dark, portrait, other sizes) of one
    already taken, found by comparing 12 x 12 thumbnails.
    """
    for folder in PHOTOGRAPHS:
        debian(folder, "gnome-backgrounds mate-backgrounds ukui-wallpapers lomiri-wallpapers plasma-workspace-wallpapers")
    folder = CACHE / "photographs"
    if not folder.exists():
        folder.mkdir(parents=True)
        for path in sorted(p for root in PHOTOGRAPHS for p in root.rglob("*") if p.suffix in {".jpg", ".png", ".webp"}):
            if path.is_symlink() or path.stem == "screenshot":
                continue
            with Image.open(path) as file:
                picture = file.convert("RGB")
            if min(picture.size) < 200:
                continue
            scale = SHORT_SIDE / min(picture.size)
            if scale < 1:
                picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
            picture.save(folder / ("_".join(path.parts[3:]) + ".png"))
    taken, thumbnails = [], []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as file:
            picture = file.convert("RGB")
        thumbnail = np.asarray(picture.resize((12, 12), Image.Resampling.BOX), np.float32) / 255
        if all(np.abs(thumbnail - other).mean() > 0.03 for other in thumbnails):
            thumbnails.append(thumbnail)
            taken.append(picture)
    return taken


def square_views(picture: Image.Image, seed: int, count: int = 4, size: int = 224) -> list[Image.Image]:
    """The centred square of a picture and `count - 1` seeded square crops of .4 to 1 of its shorter side, antialiased to `size`."""
    draw = random.Random(seed)
    width, height = picture.size
    views = []
    for index in range(count):
        side = min(width, height) * (1 if index == 0 else draw.uniform(0.4, 1))
        left = (width - side) * (0.5 if index == 0 else draw.random())
        top = (height - side) * (0.5 if index == 0 else draw.random())
        views.append(picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))
    return views


def stamps() -> Iterator[tuple[Path, Image.Image]]:
    """Tuxpaint's labelled stamps of at least 96 px: (file, RGBA picture), by name, without mirrored copies."""
    for path in sorted(debian(STAMPS, "tuxpaint-stamps-default").rglob("*.png")):
        if not path.with_suffix(".txt").exists() or path.stem.endswith("_mirror") or path.stem.endswith("_flip"):
            continue
        with Image.open(path) as file:
            stamp = file.convert("RGBA")
        if max(stamp.size) >= 96:
            yield path, stamp


def on_white(stamp: Image.Image, size: int = 224) -> Image.Image:
    """An RGBA cut-out in the middle of a white square with a margin, RGB, `size` px."""
    side = round(max(stamp.size) * 1.15)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2))
    return canvas.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def cut_outs() -> list[tuple[str, str | None, Image.Image]]:
    """The stamps as (English label, Chinese label or None, picture on white)."""
    return [(*read_labels(path.with_suffix(".txt")), on_white(stamp)) for path, stamp in stamps()]


def read_labels(path: Path) -> tuple[str, str | None]:
    """A stamp's English label (line 1) and its Chinese one (`zh_CN.utf8=`)."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    chinese = next((line.split("=", 1)[1].strip() for line in lines if line.startswith("zh_CN.utf8=")), None)
    return lines[0].strip(), chinese or None


def as_tensor(views: list[Image.Image]) -> torch.Tensor:
    """Pictures of one size -> [n, 3, h, w] float32 in [0, 1]."""
    return torch.stack([torch.from_numpy(np.asarray(view, np.float32)).permute(2, 0, 1) / 255 for view in views])
