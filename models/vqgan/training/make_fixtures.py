"""What PyTorch computes, for test/models/vqgan.test.ts: `python models/vqgan/training/make_fixtures.py` writes test/fixtures/vqgan/.

Only results are stored: weights and inputs are hashes of their names (twin.py). Computed in float64.
"""

from __future__ import annotations

import json
import pathlib

import torch
from safetensors.torch import save_file

import twin

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "test/fixtures/vqgan"
SAMPLES = 3000


def config(s: twin.Settings) -> dict:
    """As models/vqgan/config.ts has it."""
    return {
        "name": s.name, "kind": s.kind, "ch": s.ch, "chMult": s.ch_mult,
        "blocks": {"encoder": s.encoder_blocks, "decoder": s.decoder_blocks},
        "resolution": s.resolution, "attention": s.attention, "middleAttention": s.middle_attention, "groups": s.groups,
        "zChannels": s.z_channels, "embedDim": s.embed_dim, "codes": s.codes,
    }


def sampled(tensor: torch.Tensor) -> torch.Tensor:
    """Every k-th number of the flat tensor, k the least odd number that leaves at most SAMPLES: odd, so that it meets every column."""
    flat = tensor.detach().flatten()
    step = -(-len(flat) // SAMPLES)
    return flat[:: step + 1 - step % 2].float()


def value_and_gradient(name: str, f, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """f(x), and the gradient by x of its dot product with hashed numbers."""
    x = x.double().requires_grad_(True)
    y = f(x)
    (gradient,) = torch.autograd.grad((y * twin.hashed(f"{name}.direction", tuple(y.shape)).float()).sum(), x)
    return {name: sampled(y), f"{name}.gradient": sampled(gradient)}


def chosen(scores: torch.Tensor) -> torch.Tensor:
    """The best code of every position; by a margin that float32 cannot bridge."""
    best, second = scores.topk(2, dim=-1).values.unbind(-1)
    margin = (best - second).min() / scores.abs().max()
    assert margin > 1e-5, f"two codes are equally good ({margin:.1e}): change the input's name"
    return scores.argmax(-1).int()


def fixture(s: twin.Settings, latent: tuple[int, int, int]) -> None:
    """`latent` is [n, h, w]."""
    n, h, w = latent
    model = twin.hashed_model(s)
    f = 2 ** (len(s.ch_mult) - 1)
    z = twin.hashed(f"{s.name}/z", (n, s.embed_dim, h, w)).float().double()
    pictures = ((twin.hashed(f"{s.name}/pictures", (n, 3, h * f, w * f)) + 1) / 2).float()
    tensors = {
        **value_and_gradient("decoder", model.decode, z),
        **value_and_gradient("encoder", model.encode, pictures),
        "codes": chosen(model.quantize.nearness(z)),
    }
    if s.kind == "gumbel":
        tensors["likeliest"] = chosen(model.quantize.logits(z))
    count = {part: sum(w.numel() for w in getattr(model, part).parameters()) for part in ("encoder", "decoder")}
    count["all"] = sum(w.numel() for w in model.parameters())
    path = FIXTURES / f"{s.name}.safetensors"
    metadata = {key: json.dumps(value) for key, value in {"config": config(s), "latent": latent, "parameters": count}.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata)
    path.chmod(0o644)
    print(f"{path.stat().st_size / 1024:6.1f} KiB  {path.name}  {count}")


def main() -> None:
    torch.set_num_threads(2)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for s in twin.OFFICIAL:
        fixture(s, (1, 2, 3) if len(s.ch_mult) == 5 else (1, 3, 4))
    for s in twin.SMALL:
        fixture(s, (2, 3, 5))


if __name__ == "__main__":
    main()
