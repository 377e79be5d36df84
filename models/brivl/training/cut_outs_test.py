"""The zero-shot test: `python cut_outs_test.py FOLDER` writes the held-out cut-outs as a folder per label, and labels in both languages.

FOLDER/classes holds those that show one of the 1000 classes, FOLDER/all also things that are none. No prototype and no lesson was made from
these pictures (`cut-outs-test.jsonl`). Then, for each:
    npm run -s reverie -- classify --images FOLDER/all/pictures --labels FOLDER/all/labels-en.txt --json
    npm run -s reverie -- classify --images FOLDER/all/pictures --labels FOLDER/all/labels-zh.txt --language zh --json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from ingredients import TRAINING
from pictures import on_white
from prototypes import picture


def write(folder: Path, tests: list[dict]) -> None:
    """`pictures/LABEL/N.png` and `labels-en.txt`, `labels-zh.txt` with a line `LABEL<tab>text` each."""
    labels: dict[str, tuple[str, str]] = {}
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


def main() -> None:
    tests = [json.loads(line) for line in (TRAINING / "cut-outs-test.jsonl").read_text(encoding="utf-8").splitlines()]
    write(Path(sys.argv[1]) / "classes", [test for test in tests if test["class"]])
    write(Path(sys.argv[1]) / "all", tests)


if __name__ == "__main__":
    main()
