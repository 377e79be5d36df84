"""tokenizer.json in Node against the reference tokenizer, and the pruned vocabulary against the full one.

    python models/brivl/training/verify_tokenizer.py
"""

from __future__ import annotations

import gettext
import json
import random
import re
import subprocess
from pathlib import Path

from corpus import annotation_pairs
from e5 import UnigramTokenizer, read_e5
from ingredients import NANO, REPOSITORY
from pictures import STAMPS, read_labels
from vocabulary import keep, pruned
from wordnet import nouns

HARD = [
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。", "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。", "竹外桃花三两枝，春江水暖鸭先知。",
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。", "大漠孤烟直，长河落日圆。", "飞流直下三千尺，疑是银河落九天。", "孤舟蓑笠翁，独钓寒江雪。",
    "明月几时有？把酒问青天。不知天上宫阙，今夕是何年。", "Shall I compare thee to a summer's day? Thou art more lovely and more temperate:",
    "Two roads diverged in a yellow wood, And sorry I could not travel both", "Hope is the thing with feathers – that perches in the soul –",
    "I wandered lonely as a cloud That floats on high o'er vales and hills,", "Ｆｕｌｌｗｉｄｔｈ　ＴＥＸＴ　１２３！？",
    "全角标点：“引号”、《书名》——破折号……省略号～～波浪", "ﬁne ligatures ½ ① Ⅷ ㎏ ℃", "tabs\tand\nnew lines   and  spaces  ", "　　leading ideographic spaces",
    "100% $5.99 3:45pm 2026-11-24 #hash @me a/b\\c", "我爱你 I love you 混合 mixed文本text", "zero\u200bwidth\ufeffspace", "😀 emoji 🌋 火山", "a", "山",
]

NODE = """
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';
const [path, lines] = [process.argv[1], JSON.parse(readFileSync(0, 'utf8'))];
const tokenizer = new Tokenizer(JSON.parse(readFileSync(path, 'utf8')), {});
console.log(JSON.stringify(lines.map((line) => tokenizer.encode(line).ids)));
"""


def messages() -> tuple[list[str], list[str]]:
    """Plain sentences of the system's Chinese translations: (English, Chinese), a seeded sample of at most 2,000."""
    pairs = []
    for path in sorted(Path("/usr/share/locale/zh_CN/LC_MESSAGES").glob("*.mo")):
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog
        pairs += [(k, v) for k, v in catalogue.items() if isinstance(k, str) and isinstance(v, str)
                  and re.search("[\u4e00-\u9fff]", v) and not re.search(r"[%<\\_&\x04]|--", k + v) and len(v) < 120]
    sample = random.Random(0).sample(pairs, min(2000, len(pairs)))
    return [english for english, _ in sample], [chinese for _, chinese in sample]


def main() -> None:
    e5 = read_e5()
    full = UnigramTokenizer(e5.vocabulary, e5.normalisation)
    kept = keep(full)
    small = UnigramTokenizer(pruned(e5.vocabulary, kept), e5.normalisation)

    labels = [read_labels(path) for path in sorted(STAMPS.rglob("*.txt"))]
    english, chinese = messages()
    annotations = annotation_pairs()
    groups = {
        "concepts-dev": [entry["text"] for entry in json.loads((REPOSITORY / "test/eval/concepts-dev.json").read_text(encoding="utf-8"))],
        "poems and hard cases": HARD,
        "stamps, English": [english for english, _ in labels if english],
        "stamps, Chinese": [chinese for _, chinese in labels if chinese],
        "picture names, English": [row[0] for row in annotations],
        "picture names, Chinese": [row[2] for row in annotations],
        "software messages, English": english,
        "software messages, Chinese": chinese,
        "WordNet's example sentences": [text for synset in list(nouns().values())[::9] for text in re.findall('"([^"]+)"', synset.gloss)],
    }
    lines = [line for group in groups.values() for line in group]
    node = subprocess.run(["node", "--input-type=module", "-e", NODE, str(NANO / "tokenizer.json")], input=json.dumps(lines),
                          capture_output=True, text=True, check=True, cwd=REPOSITORY)
    theirs = iter(json.loads(node.stdout))
    print(f"{len(kept)} pieces kept")
    for name, group in groups.items():
        ours = [small.encode(line) for line in group]
        equal = sum(ids == next(theirs) for ids in ours)
        whole = sum([kept[index] for index in ids] == full.encode(line) for ids, line in zip(ours, group, strict=True))
        print(f"{name}: {len(group)} lines; Node as the reference {equal}; pruned as the full vocabulary {whole} ({whole / len(group):.1%})")


if __name__ == "__main__":
    main()
