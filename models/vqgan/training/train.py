"""Teach the codec: `python models/vqgan/training/train.py`. Interrupt it as you like; the same command goes on.

Phases, by step: an autoencoder without quantization; its latents' k-means become the codebook; quantized, the codes following their
latents by moving averages; at last a critic of patches joins in. All chance is drawn from (seed, step), and the checkpoint holds everything
else, so an interrupted run sees and does what an uninterrupted one would.
"""

from __future__ import annotations

import argparse
import copy
import fcntl
import json
import math
import os
import signal
import time
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import data
from codec import Codec, Shape
from export import shape_of, weights_of
from losses import Critic, Features, colour_losses, critic_loss, feature_loss

# What a run's result depends on. A checkpoint keeps its own and refuses others, but for these two: a run may be cut short or drawn out.
MOVABLE = ("steps", "critic")
PLAN = {
    "seed": (1, "seed of everything drawn"),
    "steps": (18000, "steps planned: the cosine of the learning rate ends there"),
    "batch": (8, "crops a step"),
    "size": (96, "side of a crop in pixels"),
    "rate": (5e-4, "Adam's highest learning rate (2e-3 fails)"),
    "quantize": (900, "step at which quantization begins"),
    "critic": (11000, "step at which the critic begins"),
    "codes": (4096, "size of the codebook"),
    "decay": (0.99, "of the codes' moving averages, a step: nearer 1 for small batches"),
    "begin": (0, "step counted from; with --weights, that which they were taught to"),
}
WARM_UP = 200
LAST_RATE = 0.02
FEATURES = 0.3
COMMITMENT = 0.5
KMEANS_LATENTS, KMEANS_ROUNDS = 115_200, 12
RESEED = 200
WEIGHT_DECAY = 0.999
CLIP = 1.0

# The critic's pull on the picture beside that of all other losses; it learns alone first, then its pull grows.
CRITIC_PULL, CRITIC_ALONE, CRITIC_GROWS = 0.25, 300, 1000
CRITIC_RATE = 2e-4

REPORT = 50
EVALUATED = 192

# Crops that the features' deviations are taken over.
CALIBRATED = 64


def bf16_pays(device: torch.device) -> bool:
    """Convolutions in bfloat16 take half the time where the processor multiplies it itself, several times as long where not."""
    if device.type == "cuda":
        return True
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def psnr(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Per picture, [n, 3, h, w] in [-1, 1] -> [n]."""
    return -10 * torch.log10(((y - x) / 2).square().mean((1, 2, 3)).clamp_min(1e-10))


def grid(originals: torch.Tensor, made: torch.Tensor, columns: int = 4) -> Image.Image:
    """Originals, each beside its reconstruction."""
    pairs = torch.cat([originals, made], dim=3)
    pairs = torch.cat([pairs, -torch.ones(-len(pairs) % columns, *pairs.shape[1:])])
    rows = [torch.cat(list(row), dim=2) for row in pairs.split(columns)]
    picture = ((torch.cat(rows, dim=1) + 1) * 127.5).round().clamp(0, 255).byte()
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


class Crops(Dataset):
    """A step's crops by the step: what a DataLoader's workers make ahead."""

    def __init__(self, library: data.Library, plan: dict) -> None:
        self.library, self.plan = library, plan

    def __getitem__(self, step: int) -> torch.Tensor:
        """Steps below zero are drawn apart from the run's own: for calibration."""
        seed = self.plan["seed"] if step >= 0 else self.plan["seed"] + 1_000_003
        return data.batch(self.library, self.plan["batch"], self.plan["size"], seed, abs(step))


class Averages:
    """Moving averages of how often each code is used and of the latents it stands for: the codebook is their quotient."""

    def __init__(self, codec: Codec) -> None:
        self.weight = codec.quantize.embedding.weight
        self.count = torch.ones(len(self.weight), device=self.weight.device)
        self.total = self.weight.clone()
        self.used = torch.zeros(len(self.weight), dtype=torch.long, device=self.weight.device)

    def start(self, latents: torch.Tensor, batches: int, seed: int) -> None:
        """k-means. `latents` [m, d] of so many batches."""
        order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed))
        centres = latents[order[: len(self.weight)].to(latents.device)].clone()
        for _ in range(KMEANS_ROUNDS):
            nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in latents.split(8192)])
            count = torch.bincount(nearest, minlength=len(centres))
            total = torch.zeros_like(centres).index_add_(0, nearest, latents)
            centres = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centres)
        self.count = (count / batches).clamp_min(1e-3)
        self.total = centres * self.count[:, None]
        self.weight.copy_(centres)

    def follow(self, latents: torch.Tensor, indices: torch.Tensor, decay: float) -> None:
        count = torch.bincount(indices, minlength=len(self.weight))
        self.used += count
        self.count.mul_(decay).add_(count, alpha=1 - decay)
        self.total.mul_(decay).index_add_(0, indices, latents, alpha=1 - decay)
        self.weight.copy_(self.total / self.count.clamp_min(1e-5)[:, None])

    def reseed(self, latents: torch.Tensor, seed: int) -> float:
        """Codes unused since the last call move onto latents drawn by lot; returns the share that was used."""
        dead = (self.used == 0).nonzero()[:, 0]
        drawn = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed))[: len(dead)].to(latents.device)
        dead = dead[: len(drawn)]
        self.weight[dead] = latents[drawn]
        self.count[dead] = 0.1
        self.total[dead] = latents[drawn] * 0.1
        share = (self.used > 0).float().mean().item()
        self.used.zero_()
        return share

    def state(self) -> dict:
        return {"count": self.count, "total": self.total, "used": self.used}

    def load(self, state: dict) -> None:
        for name, value in state.items():
            getattr(self, name).copy_(value)


class Trainer:
    def __init__(self, plan: dict, device: torch.device, bf16: bool, folder: Path) -> None:
        self.plan, self.device, self.bf16, self.folder = plan, device, bf16, folder
        torch.manual_seed(plan["seed"])
        self.library, held_out = data.load()
        _, self.held_out = data.squares(held_out, EVALUATED)
        self.textured = data.gradient_energy(data.squares(held_out, 256)[1]) >= data.TEXTURED

        shape = Shape(n_embed=plan["codes"])
        self.codec = Codec(shape).to(device)
        self.mean = copy.deepcopy(self.codec).requires_grad_(False).eval()
        self.critic = Critic().to(device)
        self.codes = Averages(self.codec)
        taught = [parameter for parameter in self.codec.parameters() if parameter.requires_grad]
        fused = device.type == "cuda"
        self.optimizer = torch.optim.Adam(taught, lr=plan["rate"], betas=(0.9, 0.99), fused=fused)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=CRITIC_RATE, betas=(0.5, 0.9), fused=fused)
        self.crops = Crops(self.library, plan)
        self.features = Features(torch.cat([self.crops[-step] for step in range(1, 9)])[:CALIBRATED])
        self.features.gains = [gain.to(device) for gain in self.features.gains]
        self.features.to(device)
        self.encode, self.decode, self.see, self.judge = self.codec.encode, self.codec.decode, self.features, self.critic
        self.step, self.seconds, self.usage = plan["begin"], 0.0, 0.0

    def compile(self) -> None:
        """Fewer, larger kernels in the layout of the tensor cores: an H200 then takes three quarters of the time."""
        torch.backends.cudnn.benchmark = True
        for network in (self.codec, self.features, self.critic):
            network.to(memory_format=torch.channels_last)
        self.encode, self.decode, self.see, self.judge = map(torch.compile, (self.encode, self.decode, self.see, self.judge))

    def half(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def rate(self) -> float:
        done = min(self.step / self.plan["steps"], 1)
        cosine = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
        return self.plan["rate"] * cosine * min(1, (self.step - self.plan["begin"] + 1) / WARM_UP)

    # -- one step

    @torch.no_grad()
    def sample(self) -> list[torch.Tensor]:
        """Latents [n, d, h, w] of batches apart from the run's own, before quantization."""
        a_batch = self.plan["batch"] * (self.plan["size"] // self.codec.shape.factor) ** 2
        with self.half():
            return [self.codec.encode(self.crops[-index].to(self.device)).float() for index in range(1, math.ceil(KMEANS_LATENTS / a_batch) + 1)]

    def begin_quantization(self) -> None:
        found = self.sample()
        self.codes.start(torch.cat([self.rows(z) for z in found]), len(found), self.plan["seed"])

    def begin_from(self, folder: Path) -> None:
        """Weights that export.py wrote; what the optimizers remembered is not in them. Quantization goes on from the step after."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if shape_of(config) != self.codec.shape:
            raise SystemExit(f"{folder} holds a network of another shape: {shape_of(config)}")
        for codec in (self.codec, self.mean):
            codec.load_state_dict(weights_of(folder, config))
        found = self.sample()
        met = torch.cat([self.codec.quantize.indices(z).flatten() for z in found])
        self.codes.count = (torch.bincount(met, minlength=len(self.codes.weight)) / len(found)).clamp_min(1e-3)
        self.codes.total = self.codes.weight * self.codes.count[:, None]

    @staticmethod
    def rows(z: torch.Tensor) -> torch.Tensor:
        return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])

    def learn(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step on pictures [batch, 3, size, size]."""
        if self.step == self.plan["quantize"]:
            self.begin_quantization()
        quantized = self.step >= self.plan["quantize"]
        with self.half():
            z = self.encode(x).float()
            commitment = z.new_zeros(())
            entering = z
            if quantized:
                indices = self.codec.quantize.indices(z.detach())
                codes = self.codec.quantize.codes(indices)
                commitment = F.mse_loss(z, codes)
                entering = z + (codes - z).detach()
            y = self.decode(entering).float()

        # The losses' pulls are taken where they act, on the picture; one backward pass through the codec carries their sum.
        shown = y.detach().requires_grad_()
        with torch.no_grad(), self.half():
            expected = self.see(x)
        with self.half():
            seen = self.see(shown)
        losses = colour_losses(shown, x) | {"features": FEATURES * feature_loss(seen, expected)}
        (pull,) = torch.autograd.grad(sum(losses.values()), shown)
        if self.step >= self.plan["critic"]:
            losses["critic"], against = self.criticise(x, shown)
            grown = min(max((self.step - self.plan["critic"] - CRITIC_ALONE) / CRITIC_GROWS, 0), 1)
            pull = pull + against * (CRITIC_PULL * grown * pull.norm() / against.norm().clamp_min(1e-12))
        ((y * pull).sum() + COMMITMENT * commitment).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), CLIP)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

        with torch.no_grad():
            if quantized:
                self.codes.follow(self.rows(z), indices.flatten(), self.plan["decay"])
                if (self.step - max(self.plan["quantize"], self.plan["begin"]) + 1) % RESEED == 0:
                    self.usage = self.codes.reseed(self.rows(z), self.step)
            keep = min(WEIGHT_DECAY, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.codec.parameters()), 1 - keep)
            self.mean.quantize.embedding.weight.copy_(self.codec.quantize.embedding.weight)
        self.step += 1
        return {name: loss.detach() for name, loss in losses.items()} | {"commitment": commitment.detach(), "norm": norm}

    def criticise(self, x: torch.Tensor, shown: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(the critic's own loss, after which it has learnt a step; the gradient of its displeasure at the pictures)."""
        with self.half():
            displeasure = -self.judge(shown).float().mean()
        (against,) = torch.autograd.grad(displeasure, shown)
        with self.half():
            loss = critic_loss(self.judge(x).float(), self.judge(shown.detach()).float())
        loss.backward()
        self.critic_optimizer.step()
        self.critic_optimizer.zero_grad(set_to_none=True)
        return loss.detach(), against

    # -- looking

    @torch.no_grad()
    def evaluate(self) -> str:
        """PSNR of the averaged weights on the held-out photographs at 192 px; also writes preview.png."""
        made = []
        for x in self.held_out.split(4):
            with self.half():
                z = self.mean.encode(x.to(self.device)).float()
                if self.step > self.plan["quantize"]:
                    z = self.mean.quantize.codes(self.mean.quantize.indices(z))
                made.append(self.mean.decode(z).float().clamp(-1, 1).cpu())
        y = torch.cat(made)
        found = psnr(y, self.held_out)
        part = self.folder / "preview.part.png"
        grid(self.held_out, y).save(part)
        part.replace(self.folder / "preview.png")
        return f"PSNR {found.mean():.2f}, smooth {found[~self.textured].mean():.2f}, textured {found[self.textured].mean():.2f}"

    # -- keeping

    def save(self, name: str) -> None:
        part = self.folder / f"{name}.part"
        state = {
            "plan": self.plan, "step": self.step, "seconds": self.seconds, "usage": self.usage, "shape": self.codec.shape.as_dict(),
            "codec": self.codec.state_dict(), "mean": self.mean.state_dict(), "critic": self.critic.state_dict(), "codes": self.codes.state(),
            "optimizer": self.optimizer.state_dict(), "critic_optimizer": self.critic_optimizer.state_dict(),
        }  # fmt: skip
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / name)

    def load(self, state: dict) -> None:
        for name in ("codec", "mean", "critic", "optimizer", "critic_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.codes.load(state["codes"])
        self.step, self.seconds, self.usage = state["step"], state["seconds"], state["usage"]


def chosen_plan(given: dict, saved: dict | None) -> dict:
    """The checkpoint's plan, or the defaults, and what the command line says; a checkpoint's plan moves only in what is MOVABLE."""
    plan = {name: default for name, (default, _) in PLAN.items()} | (saved or {})
    said = {name: value for name, value in given.items() if name in PLAN and value is not None}
    different = [name for name, value in said.items() if saved and plan[name] != value and name not in MOVABLE]
    if different:
        raise SystemExit(f"the checkpoint was begun with other values of {', '.join(different)}: leave them out, or name another --out")
    return plan | said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, (default, meaning) in PLAN.items():
        parser.add_argument(f"--{name}", type=type(default), help=f"{meaning} (default {default})")
    parser.add_argument("--out", type=Path, default=data.CACHE / "run", help="folder of the checkpoint (default .cache/run)")
    parser.add_argument("--weights", type=Path, help="folder of weights to begin with, as export.py writes it; --begin says at which step")
    parser.add_argument("--hours", type=float, default=math.inf, help="stop after so many hours; the same command goes on")
    parser.add_argument("--every", type=float, default=5, help="minutes between checkpoints (default 5)")
    parser.add_argument("--evaluate", type=int, default=400, help="steps between looks at the held-out photographs (default 400)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default 2)")
    parser.add_argument("--workers", type=int, default=0, help="processes that cut crops ahead: a GPU wants them (default none)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["auto", "bf16", "f32"], default="auto", help="auto: bf16 where the processor multiplies it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    bf16 = bf16_pays(device) if arguments.precision == "auto" else arguments.precision == "bf16"

    arguments.out.mkdir(parents=True, exist_ok=True)
    lock = open(arguments.out / "lock", "w")  # noqa: SIM115  (held as long as the process lives)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another run is at work in {arguments.out}") from None

    checkpoint = arguments.out / "checkpoint.pt"
    state = torch.load(checkpoint, map_location=device, weights_only=True) if checkpoint.exists() else None
    trainer = Trainer(chosen_plan(vars(arguments), state["plan"] if state else None), device, bf16, arguments.out)
    if state:
        trainer.load(state)
    elif arguments.weights:
        if trainer.step <= trainer.plan["quantize"]:
            raise SystemExit(f"--begin is the step that --weights were taught to, after {trainer.plan['quantize']}, at which quantization began")
        trainer.begin_from(arguments.weights)
    del state
    if device.type == "cuda":
        trainer.compile()
    plan = trainer.plan
    print(f"{'resumed' if trainer.step else 'begun'} at step {trainer.step} of {plan['steps']}, {'bf16' if bf16 else 'f32'}, plan {plan}", flush=True)

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    signal.signal(signal.SIGINT, lambda *_: stopping.append(True))
    until = time.monotonic() + arguments.hours * 3600
    saved = reported = time.monotonic()
    window: list[dict[str, torch.Tensor]] = []
    steps = range(trainer.step, plan["steps"])
    ahead = {"num_workers": arguments.workers, "prefetch_factor": 4} if arguments.workers else {}
    for x in DataLoader(trainer.crops, batch_size=None, sampler=steps, pin_memory=device.type == "cuda", **ahead):
        if stopping or time.monotonic() > until:
            break
        if trainer.step == plan["critic"]:
            trainer.save("before-critic.pt")
        began, worked = time.monotonic(), time.process_time()
        window.append(trainer.learn(x.to(device, non_blocking=True)))
        # Not the time that it stood still for other work: processor time, shared among the threads.
        trainer.seconds += min(time.monotonic() - began, (time.process_time() - worked) if device.type == "cpu" else math.inf)
        if trainer.step % REPORT == 0:
            means = {name: torch.stack([entry[name] for entry in window if name in entry]).mean() for name in window[-1]}
            print(
                f"{trainer.step:6d}  {' '.join(f'{name} {value:.4f}' for name, value in means.items())}  "
                f"codes {trainer.usage:.3f}  rate {trainer.rate():.2e}  {(time.monotonic() - reported) / len(window):.2f} s  {trainer.seconds / 3600:.2f} h",
                flush=True,
            )
            window, reported = [], time.monotonic()
        if trainer.step % arguments.evaluate == 0:
            print(f"{trainer.step:6d}  {trainer.evaluate()}", flush=True)
        if time.monotonic() - saved > arguments.every * 60:
            trainer.save("checkpoint.pt")
            saved = time.monotonic()
    trainer.save("checkpoint.pt")
    print(f"{'finished' if trainer.step >= plan['steps'] else 'stopped'} at step {trainer.step}: {trainer.evaluate()}", flush=True)


if __name__ == "__main__":
    main()
