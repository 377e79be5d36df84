"""The zero-shot test: `python cut_outs_test.py FOLDER` writes the held-out cut-outs as a folder per label, and labels in both languages.

No prototype and no lesson was made from these pictures (`cut-outs-test.jsonl`). Then:
    npm run -s reverie -- classify --images FOLDER/pictures --labels FOLDER/labels-en.txt --json
    npm run -s reverie -- classify --images FOLDER/pictures --labels FOLDER/labels-zh.txt --language zh --json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from ingredients import TRAINING
from pictures import on_white
from prototypes import picture


def main() -> None:
    folder = Path(sys.argv[1])
    labels: dict[str, tuple[str, str]] = {}
    tests = [json.loads(line) for line in (TRAINING / "cut-outs-test.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, test in enumerate(tests):
        name = re.sub("[^a-z]+", "-", test["en"].lower())
        labels.setdefault(name, (test["en"], test["zh"]))
        target = folder / "pictures" / name
        target.mkdir(parents=True, exist_ok=True)
        on_white(picture(test["picture"])).save(target / f"{number}.png")
    for index, language in enumerate(("en", "zh")):
        lines = [f"{name}\t{both[index]}\n" for name, both in sorted(labels.items())]
        (folder / f"labels-{language}.txt").write_text("".join(lines), encoding="utf-8")
    print(f"{len(tests)} pictures of {len(labels)} labels in {folder}")


if __name__ == "__main__":
    main()
