"""What PyTorch computes, for the TypeScript tests: `python models/brivl/training/make_fixtures.py` writes test/fixtures/brivl/.

Run it after build_nano.py: the nano fixtures are computed from the stored, dequantised weights.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

import twin
from build_nano import BACKBONE, SECOND, stored_backbone, text_embeddings, tower
from e5 import PREFIX
from ingredients import NANO, REPOSITORY
from quantised import read_weights

FIXTURES = REPOSITORY / "test/fixtures/brivl"
TEXTS = [
    "nature",
    "时间",
    "a castle in the clouds",
    "黑暗中总有一线光明",
    "竹外桃花三两枝，春江水暖鸭先知。",
    "Let life be beautiful like summer flowers!",
    "猫  cat　ＣＡＴ",
    "白日依山尽，黄河入海流",
]


def smooth_picture(size: int, seed: int, waves: int = 12) -> torch.Tensor:
    """A seeded sum of low waves: [3, size, size] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    picture = torch.zeros(3, size, size)
    for _ in range(waves):
        fy, fx, phase = (torch.rand(3, generator=generator) * torch.tensor([5.0, 5.0, 2 * torch.pi])).tolist()
        picture += torch.randn(3, 1, 1, generator=generator) * torch.cos(2 * torch.pi * (fy * y + fx * x) + phase)
    return torch.sigmoid(picture / waves**0.5 * 1.5)


def write(name: str, tensors: dict[str, torch.Tensor], **metadata: object) -> None:
    path = FIXTURES / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path,
              metadata={key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()})
    path.chmod(0o644)
    print(f"{path.stat().st_size / 1024:8.1f} KB  {path.name}")


def gradient(embed, picture: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """d dot(embed(picture), direction) / d picture, [3, h, w]."""
    picture = picture.clone().requires_grad_(True)
    (result,) = torch.autograd.grad((embed(picture[None])[0] * direction).sum(), picture)
    return result


def unit_direction(width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(width, generator=torch.Generator().manual_seed(seed)), dim=0)


def nano_fixtures() -> None:
    backbone, _ = stored_backbone()
    ids = {f"ids.{row}": torch.tensor(backbone.tokenizer.encode(PREFIX + text), dtype=torch.int32) for row, text in enumerate(TEXTS)}
    write("nano-text", {**ids, "embedding": text_embeddings(TEXTS)}, texts=TEXTS)

    picture = Image.fromarray((smooth_picture(224, 7) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    picture.save(FIXTURES / "smooth-224.png", optimize=True)
    pixels = torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None] / 255
    small = smooth_picture(64, 11)
    direction = unit_direction(384, 13)
    first, second = read_weights(NANO / "image.safetensors"), read_weights(NANO / "second.safetensors")
    pooled, embed = tower(first, BACKBONE)
    _, embed64 = tower(first, BACKBONE, torch.float64)
    pooled2, embed2 = tower(second, SECOND)
    logits = F.linear(pooled2(pixels), second["classifier.weight"], second["classifier.bias"])
    write("nano-image", {
        "embedding": embed(pixels)[0],
        "llp.mean": pooled(pixels)[0],
        "second.embedding": embed2(pixels)[0],
        "second.logits": logits[0],
        "small.picture": small,
        "small.embedding": embed(small[None])[0],
        "direction": direction,
        "small.gradient": gradient(embed, small, direction),
        "small.gradient64": gradient(embed64, small.double(), direction.double()),
    }, picture="smooth-224.png")


def twin_fixtures() -> None:
    weights = twin.image_weights()
    picture, direction = smooth_picture(96, 17), unit_direction(32, 19)
    doubled = {key: tensor.double() for key, tensor in weights.items()}
    found = {key: value[0] for key, value in twin.image_forward(weights, picture[None]).items()}
    write("twin-image", {key: tensor.half() for key, tensor in weights.items()}, config=twin.IMAGE)
    write("twin-image-expected", {
        "picture": picture,
        **found,
        "direction": direction,
        "gradient": gradient(lambda x: twin.image_forward(weights, x)["embedding"], picture, direction),
        "gradient64": gradient(lambda x: twin.image_forward(doubled, x)["embedding"], picture.double(), direction.double()),
    })

    weights = twin.text_weights()
    ids = torch.tensor([[2, 17, 41, 8, 3, 0, 0, 0, 0, 0, 0, 0], [2, 9, 9, 30, 22, 11, 49, 6, 27, 13, 4, 3], [2, 3] + [0] * 10])
    write("twin-text", {key: tensor.half() for key, tensor in weights.items()}, config=twin.TEXT)
    with torch.no_grad():
        write("twin-text-expected", {"ids": ids.int(), **twin.text_forward(weights, ids)})


def main() -> None:
    torch.set_num_threads(2)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    twin_fixtures()
    nano_fixtures()


if __name__ == "__main__":
    main()
