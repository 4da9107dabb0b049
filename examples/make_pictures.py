"""Draw the pictures of the documentation from the model and the images that ship with advex.

    python examples/make_pictures.py
    python examples/make_pictures.py --only boundary --language zh --out my-folder
    python examples/make_pictures.py --only cat_to_toaster --imagenet ../shared/imagenet

Everything is computed here, by the same calls that a user makes; Pillow and NumPy draw it. The
modules are in ``examples/pictures``. Each picture is drawn twice: in English and, as
``NAME.zh.png``, in Chinese. The latter takes a font that has the characters. The cat becomes a
toaster only if a folder with a network and a photo is named: neither ships with advex.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pictures import fashion, network, photo, slopes, toy

PICTURES = {**toy.PICTURES, **slopes.PICTURES, **network.PICTURES, **fashion.PICTURES}
ALL = {**PICTURES, **photo.PICTURES}
LANGUAGES = {"en": ".png", "zh": ".zh.png"}


def say_in(language: str):
    """The function that chooses between the English words and the Chinese ones."""
    return lambda english, chinese: chinese if language == "zh" else english


def main() -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/pictures"),
        help="folder for the pictures (default docs/pictures)",
    )
    parser.add_argument("--only", choices=ALL, help="draw just this one")
    parser.add_argument("--language", choices=LANGUAGES, help="draw in this one only")
    parser.add_argument(
        "--imagenet",
        type=Path,
        help="folder with efficientnet_lite0.keras, imagenet_classes.json and chelsea.png",
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only in photo.PICTURES and not arguments.imagenet:
        parser.error(f"{arguments.only} needs --imagenet")
    photo.FOLDER = arguments.imagenet
    facts = {}
    for name, draw in (ALL if arguments.imagenet else PICTURES).items():
        for language, ending in LANGUAGES.items():
            if arguments.only not in (None, name) or arguments.language not in (None, language):
                continue
            canvas, facts[name] = draw(say_in(language))
            canvas.save(arguments.out / f"{name}{ending}", 0 if name in photo.PICTURES else 255)
    return facts


if __name__ == "__main__":
    main()
