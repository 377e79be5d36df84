"""Checks every corpus file beside this script; says how many entries there are, by file and kind.

    python check_corpus.py

Python's standard library only. Every class named must be a `word` of ../../nano/concepts.json (or the wnid of a word that stands there
twice); an entry of every other kind of file shows 2 to 8 classes of weights above 0 and at most 1; no text stands twice in
one kind of file (nor a class twice in `classes-*`); no text of test/eval/concepts-dev.json appears. Each fault is printed as file:line:
what is wrong, and the exit status is then 1.
"""

import collections
import json
import pathlib
import re
import sys
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent
CONCEPTS = HERE / "../../nano/concepts.json"
DEV = HERE / "../../../../test/eval/concepts-dev.json"
LANGUAGES = ("en", "zh")
LINES = ("caption", "scene", "verse", "wish")  # kinds of lines
FIELDS = {  # kind of file: required, optional fields
    "classes": ({"class", "zh", "names", "captions"}, set()),
    "concepts": ({"en", "zh", "kind", "shows"}, set()),
    "lines": ({"en", "zh", "kind", "shows"}, set()),
    "poems": ({"text", "lang", "author", "shows"}, {"title", "en", "zh"}),  # en, zh: a translation
    "scenes": ({"en", "zh", "group", "shows"}, set()),
}


def normal(text: str) -> str:
    """One spelling for comparison: compatibility forms, case folded, letters and digits of every script only."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def once(pairs):
    """A JSON object whose keys stand once: a class weighted twice would otherwise be lost silently."""
    for name, count in collections.Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{name!r} stands twice in one object")
    return dict(pairs)


def is_text(value) -> bool:
    return isinstance(value, str) and value != "" and value == value.strip()


def shows_faults(shows, names):
    """What is wrong with an entry's mixture of classes."""
    if not isinstance(shows, dict):
        yield "shows is not an object"
        return
    if not 2 <= len(shows) <= 8:
        yield f"shows {len(shows)} classes, not 2 to 8"
    for name, weight in shows.items():
        if name not in names:
            yield f"no such class: {name!r}"
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight <= 1:
            yield f"weight of {name!r} is {weight!r}, not above 0 and at most 1"
    resolved = collections.Counter(names[name] for name in shows if name in names)
    for wnid, count in resolved.items():
        if count > 1:
            yield f"{wnid} is named {count} times"


def texts_of(sort: str, entry: dict):
    """(language, text) of everything an entry would teach."""
    if sort == "classes":
        yield "zh", entry.get("zh")
        for field in ("names", "captions"):
            lists = entry.get(field)
            for language, texts in lists.items() if isinstance(lists, dict) else [(field, lists)]:
                for text in texts if isinstance(texts, list) else [texts]:
                    yield language, text
    elif sort == "poems":
        yield entry.get("lang"), entry.get("text")
        for language in LANGUAGES:
            if language in entry:
                yield language, entry[language]
    else:
        for language in LANGUAGES:
            yield language, entry.get(language)


def main() -> int:
    concepts = json.loads(CONCEPTS.read_text("utf-8"))
    count = collections.Counter(concept["word"] for concept in concepts)
    names = {c["word"]: c["wnid"] for c in concepts if count[c["word"]] == 1}
    names |= {c["wnid"]: c["wnid"] for c in concepts if count[c["word"]] > 1}
    forbidden = {normal(item["text"]) for item in json.loads(DEV.read_text("utf-8"))}

    faults = 0
    totals: dict[str, collections.Counter] = {}
    seen: dict[tuple, str] = {}  # (sort, language, text) or ("classes", wnid): where it stood first

    for path in sorted(HERE.glob("*.jsonl")):
        match = re.fullmatch(r"(classes|concepts|lines|poems|scenes)-.+", path.stem)
        kinds = totals[path.name] = collections.Counter()
        if not match:
            print(f"{path.name}:1: not a known kind of file")
            faults += 1
            continue
        sort = match[1]
        required, optional = FIELDS[sort]
        for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
            if line == "":
                continue
            where = f"{path.name}:{number}"
            found: list[str] = []
            try:
                entry = json.loads(line, object_pairs_hook=once)
                if not isinstance(entry, dict):
                    raise ValueError("not an object")
            except ValueError as error:
                print(f"{where}: {error}")
                faults += 1
                continue
            if missing := sorted(required - entry.keys()):
                found.append(f"lacks {', '.join(missing)}")
            if unknown := sorted(entry.keys() - required - optional):
                found.append(f"unknown fields: {', '.join(unknown)}")
            for field in ("kind", "group", "author", "title"):
                if field in entry and not is_text(entry[field]):
                    found.append(f"{field} is not a text: {entry[field]!r}")
            if sort == "lines" and entry.get("kind") not in LINES:
                found.append(f"kind is {entry.get('kind')!r}, not one of {', '.join(LINES)}")
            if sort == "poems" and entry.get("lang") not in LANGUAGES:
                found.append(f"lang is {entry.get('lang')!r}, not one of {', '.join(LANGUAGES)}")

            if sort == "classes":
                wnid = names.get(entry.get("class")) if isinstance(entry.get("class"), str) else None
                if wnid is None:
                    found.append(f"no such class: {entry.get('class')!r}")
                elif (first := seen.setdefault((sort, wnid), where)) != where:
                    found.append(f"class {entry['class']!r} stands at {first} already")
            else:
                found.extend(shows_faults(entry.get("shows"), names))

            for language, text in texts_of(sort, entry):
                if not is_text(text):
                    found.append(f"{language} is not a text: {text!r}")
                    continue
                if language not in LANGUAGES:
                    found.append(f"unknown language: {language!r}")
                if normal(text) in forbidden:
                    found.append(f"{text!r} is a text of concepts-dev.json")
                # Within one class a text may be both its translation and one of its names; elsewhere a text teaches one mixture.
                if sort != "classes" and (first := seen.setdefault((sort, language, normal(text)), where)) != where:
                    found.append(f"{text!r} stands at {first} already")

            for fault in found:
                print(f"{where}: {fault}")
            faults += len(found)
            label = {"classes": "class", "poems": entry.get("lang")}.get(sort, entry.get("kind", entry.get("group")))
            kinds["scene" if sort == "scenes" else str(label)] += 1

    for name, kinds in totals.items():
        print(f"{name}: {kinds.total()} (" + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()) + ")")
    print(f"{sum(kinds.total() for kinds in totals.values())} entries, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
