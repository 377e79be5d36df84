"""What each ingredient of the text head adds: `python ablation.py` trains it without one after another and prints a table for README.md.

Measured on what no lesson taught: concepts-dev.json, held-out.json in both languages, and how often a held-out translation is nearest to its
partner among 200. Minutes, once `build_nano.py` has filled the cache.
"""

from __future__ import annotations

import json

import torch
from torch.nn import functional as F

import text_head
from build_nano import NANO, stored_backbone
from concepts import concepts
from corpus import held_out_texts, normal
from ingredients import REPOSITORY
from joint_space import hit_rates
from quantised import read_weights
from text_head import corpus_lessons, learn, name_lessons, noun_lessons, ridge, translation_pairs
from wordnet import classes


def main() -> None:
    backbone, _ = stored_backbone()
    prototypes = read_weights(NANO / "concepts.safetensors")["joint"]
    index = {concept["wnid"]: row for row, concept in enumerate(concepts())}
    held = held_out_texts()

    def allowed(lessons: list) -> list:
        return [lesson for lesson in lessons if normal(lesson.text) not in held]

    nouns, names, corpus = allowed(noun_lessons()), allowed(name_lessons()), allowed(corpus_lessons())
    own, public = ([pair for pair in pairs if not held.intersection(map(normal, pair))] for pairs in translation_pairs())
    english = [lesson for lesson in nouns if lesson.text.isascii()]
    captions = [lesson for lesson in names if lesson.weight == text_head.WEIGHT["captions"]]
    plain = [lesson for lesson in names if lesson.weight != text_head.WEIGHT["captions"]]

    dev = json.loads((REPOSITORY / "test/eval/concepts-dev.json").read_text(encoding="utf-8"))
    test = json.loads((REPOSITORY / "test/eval/held-out.json").read_text(encoding="utf-8"))
    sets = {
        "dev": ([entry["text"] for entry in dev], [entry["accept"] for entry in dev]),
        "en": ([entry["texts"]["en"] for entry in test], [entry["accept"] for entry in test]),
        "zh": ([entry["texts"]["zh"] for entry in test], [entry["accept"] for entry in test]),
    }
    seen = {name: torch.from_numpy(backbone.embed_cached(texts)) for name, (texts, _) in sets.items()}

    def report(name: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        embedded = {key: F.normalize(x @ weight.T + bias, dim=-1) for key, x in seen.items()}
        cells = []
        for key, (_, accepted) in sets.items():
            scores = (embedded[key] @ prototypes[: len(classes())].T).numpy()
            cells.append(" / ".join(f"{rate:.3f}" for rate in hit_rates(scores, [{index[wnid] for wnid in each} for each in accepted], (1, 5))))
        same = (embedded["en"][:200] @ embedded["zh"][:200].T).argmax(dim=1) == torch.arange(200)
        print(f"| {name} | {' | '.join(cells)} | {same.float().mean():.3f} |", flush=True)

    print("| lessons | concepts-dev @1 / @5 | held-out en @1 / @5 | held-out zh @1 / @5 | partner first |\n|---|---|---|---|---|")
    everything = nouns + plain + captions + corpus
    report("all", *learn(backbone, prototypes, everything, own, public))
    report("without the corpus (word net, dictionary, names)", *learn(backbone, prototypes, nouns + plain, [], public))
    report("without captions", *learn(backbone, prototypes, nouns + plain + corpus, own, public))
    report("without nouns", *learn(backbone, prototypes, plain + captions + corpus, own, public))
    report("without the dictionary (Chinese nouns, pairs)", *learn(backbone, prototypes, english + plain + captions + corpus, own, []))
    report("without translation pairs", *learn(backbone, prototypes, everything, [], []))
    report("half of the corpus", *learn(backbone, prototypes, nouns + plain + captions + corpus[::2], own[::2], public))

    x = torch.from_numpy(backbone.embed_cached([lesson.text for lesson in everything]))
    shares = torch.zeros(len(everything), len(prototypes))
    for row, lesson in enumerate(everything):
        for concept, share in lesson.shows.items():
            shares[row, concept] = share
    mixtures = F.normalize(shares @ prototypes, dim=-1)
    report("all, ridge regression alone", *ridge(x, mixtures, torch.tensor([lesson.weight for lesson in everything])))


if __name__ == "__main__":
    main()
