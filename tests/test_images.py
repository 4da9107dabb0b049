"""Picture files: hostile ones are refused by name, odd ones converted and noted, none written
half."""

import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from advex import images
from advex.errors import ImageError, InvalidInput


def colours(height=6, width=8):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype("uint8")


def listing(folder):
    return [path.name for path in folder.iterdir()]


def png(width, height, depth, kind, rows=b""):
    """A PNG written by hand: what Pillow would not write."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# Refused.


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_bomb_is_refused_and_changes_nothing_global(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png(side, side, 8, 0))
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters), listing(tmp_path))
    with pytest.raises(ImageError, match=r"bomb.png: .*pixels.*bomb"):
        images.read(tmp_path / "bomb.png")
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters), listing(tmp_path)) == before


@pytest.mark.parametrize(
    "name", ["cut.png", "cut.jpg", "cut.gif", "cut.webp", "cut.tiff", "cut.bmp"]
)
def test_a_truncated_file_is_broken(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(colours(80, 80)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=name):
        images.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
    ],
    ids=["0 bytes", "text", "signature only", "postscript"],
)
def test_what_is_no_picture(tmp_path, content, said):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=said):
        images.read(tmp_path / "a.png")


def test_what_is_no_file(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        images.read(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="folder"):
        images.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    with pytest.raises(ImageError, match="not a regular file"):
        images.read(tmp_path / "pipe.png")
    with pytest.raises(ImageError):
        images.read("a\0b.png")


def test_floating_point_pixels_have_no_known_white(tmp_path):
    Image.fromarray(np.ones((4, 4), "float32")).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match="white is unknown"):
        images.read(tmp_path / "a.tiff")


def test_channels_are_one_or_three(tmp_path):
    with pytest.raises(InvalidInput, match="1 or 3"):
        images.read(tmp_path / "a.png", channels=4)


# Converted, with a note.


def test_plain_pictures_come_as_they_are(tmp_path):
    pixels = colours()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = images.read(tmp_path / "a.png", size=(6, 8))
    assert np.array_equal(picture.pixels, pixels)
    assert picture.notes == ()
    grey = images.read(tmp_path / "a.png", channels=1)
    assert grey.pixels.shape == (6, 8, 1)
    assert grey.notes == ("converted from RGB to grey",)


def test_a_wrong_suffix_is_noted(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "a.png", format="JPEG")
    assert images.read(tmp_path / "a.png").notes == ("is a JPEG file, whatever its name says",)
    Image.fromarray(colours()).save(tmp_path / "b.JPG", format="JPEG")
    assert images.read(tmp_path / "b.JPG").notes == ()


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_grey(tmp_path, name):
    values = np.array([[0, 100, 257, 40_000, 65_535]], "uint16")
    Image.fromarray(values).save(tmp_path / name)
    picture = images.read(tmp_path / name, channels=1)
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 1, 156, 255]
    assert picture.notes == ("16 bits cut to 8",)


def test_dark_16_bit_grey_stays_dark(tmp_path):
    Image.fromarray(np.full((2, 2), 200, "uint16")).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png", channels=1).pixels.max() == 1


def test_16_bit_colour(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, 2, b"\0" + bytes([200, 7, 100, 7, 0, 7])))
    picture = images.read(tmp_path / "a.png")
    assert picture.pixels[0, 0].tolist() == [200, 100, 0]
    assert picture.notes == ("16 bits cut to 8",)


def test_cmyk(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    picture = images.read(tmp_path / "a.jpg")
    assert picture.pixels[0, 0, 0] < 10 < 240 < picture.pixels[0, 0, 2]
    assert picture.notes == ("converted from CMYK",)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    alpha = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    alpha.putpixel((1, 0), (0, 0, 0, 0))
    alpha.convert(mode).save(tmp_path / "a.png")
    picture = images.read(tmp_path / "a.png")
    assert picture.pixels[0].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert picture.notes == ("transparency laid on white",)


def test_an_alpha_channel_that_hides_nothing_is_not_noted(tmp_path):
    Image.fromarray(colours()).convert("RGBA").save(tmp_path / "a.png")
    picture = images.read(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, colours())
    assert picture.notes == ()


def test_palette(tmp_path):
    Image.fromarray(colours()).quantize(16).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png").notes == ("converted from P",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright_as_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()).save(tmp_path / "a.png", exif=exif)
    picture = images.read(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(opened)))
    assert picture.notes == (() if orientation == 1 else ("turned upright",))


def test_garbage_in_exif_does_not_cost_the_picture(tmp_path):
    Image.fromarray(colours()).save(
        tmp_path / "a.jpg", exif=b"Exif\0\0garbage that is no TIFF header"
    )
    assert images.read(tmp_path / "a.jpg").pixels.shape == (6, 8, 3)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (10, 200, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture = images.read(tmp_path / "a.gif", channels=1)
    assert (picture.pixels == 10).all()
    assert "first of several frames" in picture.notes


def test_other_sizes_are_cropped_to_the_middle_and_resized(tmp_path):
    wide = np.zeros((20, 60, 3), "uint8")
    wide[:, 20:40] = 255  # the central square
    Image.fromarray(wide).save(tmp_path / "a.png")
    picture = images.read(tmp_path / "a.png", size=(10, 10))
    assert picture.pixels.shape == (10, 10, 3)
    assert (picture.pixels == 255).all()
    square = Image.fromarray(wide).crop((20, 0, 40, 20)).resize((7, 7), Image.Resampling.BICUBIC)
    assert np.array_equal(images.read(tmp_path / "a.png", size=(7, 7)).pixels, np.asarray(square))


@pytest.mark.parametrize(
    ("size", "note"),
    [
        ((10, 10), "cropped from 60 x 20 to the central 20 x 20 and resized to 10 x 10"),
        ((20, 20), "cropped from 60 x 20 to the central 20 x 20"),
        ((20, 40), "cropped from 60 x 20 to the central 40 x 20"),
        ((5, 15), "resized from 60 x 20 to 15 x 5"),
        ((40, 120), "resized from 60 x 20 to 120 x 40 (enlarged)"),
        ((60, 15), "cropped from 60 x 20 to the central 5 x 20 and resized to 15 x 60 (enlarged)"),
    ],
)
def test_what_another_size_costs_is_said(tmp_path, size, note):
    Image.fromarray(colours(20, 60)).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png", size=size).notes == (note,)


@pytest.mark.parametrize(
    ("mode", "channels", "notes"),
    [
        ("RGB", 1, ("converted from RGB to grey",)),
        ("CMYK", 1, ("converted from CMYK to grey",)),
        ("YCbCr", 3, ("converted from YCbCr",)),
        (
            "LAB",
            1,
            ("colour profile not applied (Lab identity built-in)", "converted from LAB to grey"),
        ),
        ("L", 1, ()),
        ("L", 3, ()),
        ("1", 1, ()),
    ],
)
def test_lost_colours_are_said(tmp_path, mode, channels, notes):
    """Also where Pillow itself knows no way, from LAB to grey."""
    Image.fromarray(colours()).convert(mode).save(tmp_path / "a.tiff")
    assert images.read(tmp_path / "a.tiff", channels=channels).notes == notes


def test_grey_stays_grey_whatever_stands_beside_it(tmp_path):
    """A file of greys loses no colour, with an alpha channel or stored as RGB."""
    grey = Image.fromarray(colours()[..., 0])
    grey.convert("LA").save(tmp_path / "la.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    for name, notes in (("la.png", ()), ("rgb.png", ("converted from RGB",))):
        picture = images.read(tmp_path / name, channels=1)
        assert picture.notes == notes
        assert np.array_equal(picture.pixels[..., 0], colours()[..., 0])


def test_colour_profiles_and_gammas_that_are_not_applied(tmp_path):
    from PIL import ImageCms, PngImagePlugin

    def profile(name):
        return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()

    image = Image.fromarray(colours())
    cases = [
        (profile("XYZ"), "colour profile not applied (XYZ identity built-in)"),
        (b"none", "colour profile not applied (unreadable)"),
    ]
    for number, (code, note) in enumerate([*cases, (profile("sRGB"), None), (None, None)]):
        path = tmp_path / f"{number}.png"
        image.save(path, icc_profile=code)
        assert images.read(path).notes == (() if note is None else (note,))
    for gamma, notes in ((1.0, ("gamma not applied (1)",)), (0.45455, ())):
        chunk = PngImagePlugin.PngInfo()
        chunk.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
        image.save(tmp_path / "g.png", pnginfo=chunk)
        assert images.read(tmp_path / "g.png").notes == notes


def test_a_transparent_grey_of_16_bits_is_said(tmp_path):
    Image.fromarray(np.array([[0, 65_535]], "uint16")).save(tmp_path / "a.png", transparency=0)
    assert images.read(tmp_path / "a.png", channels=1).notes == (
        "transparency not applied",
        "16 bits cut to 8",
    )


# Written.


def test_an_existing_file_is_left_alone(tmp_path):
    path = tmp_path / "a.png"
    images.write(path, colours())
    with pytest.raises(InvalidInput, match="exists"):
        images.write(path, colours() // 2)
    assert np.array_equal(images.read(path).pixels, colours())
    images.write(path, colours() // 2, overwrite=True)
    assert np.array_equal(images.read(path).pixels, colours() // 2)
    assert listing(tmp_path) == ["a.png"]


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "a.png"

    def meanwhile():
        with images.replacing(path, overwrite=False) as handle:
            handle.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(InvalidInput, match="exists"):
        meanwhile()
    assert path.read_bytes() == b"theirs"
    assert listing(tmp_path) == ["a.png"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        images.write(tmp_path / "a.png", colours())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        images.write(path, colours(), overwrite=True)
    assert path.read_bytes() == b"before"
    assert listing(tmp_path) == ["a.png"]


def test_a_killed_write_leaves_no_half_file(tmp_path):
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(b"before")
    program = (
        "import os, signal, sys, types, pathlib\n"
        "package = types.ModuleType('advex'); package.__path__ = [sys.argv[1]];"
        " sys.modules['advex'] = package\n"
        "from advex import images\n"
        "old, new = map(pathlib.Path, sys.argv[2:])\n"
        "with images.replacing(old, overwrite=True) as one, images.replacing(new, overwrite=False)"
        " as other:\n"
        "    one.write(b'half'); one.flush(); other.write(b'half'); other.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(Path(images.__file__).parent), str(old), str(new)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert old.read_bytes() == b"before"
    assert not new.exists()
    images.write(new, colours())  # what the killed process left is in nobody's way


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_round_trip(tmp_path, shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype("uint8")
    images.write(tmp_path / "a.png", pixels)
    back = images.read(tmp_path / "a.png", channels=shape[2] if len(shape) == 3 else 1).pixels
    assert np.array_equal(back.reshape(shape), pixels)


# Laid out.


@pytest.mark.parametrize(
    ("shape", "eight", "floats"),
    [
        ((9, 28, 28), True, True),
        ((9, 32, 100), True, True),
        ((9, 6, 6), True, False),  # (n, steps, channels)?
        ((9, 100, 12), True, False),
        ((9, 100, 1), False, False),
        ((9, 1, 100), False, False),
        ((9, 100, 3), False, False),
        ((9, 1000, 12), False, False),
        ((9, 28, 28, 1), True, True),
        ((9, 2, 2, 3), True, True),
        ((9, 32, 1024, 1), True, True),  # a line of text
        ((9, 100, 1, 1), False, False),
        ((9, 1, 100, 3), False, False),
        ((9, 1, 1, 3), False, False),
        ((9, 2, 128, 1), False, False),  # two channels of a radio signal
        ((9, 8, 500, 1), False, False),
        ((9, 28, 28, 2), False, False),
        ((9, 784), False, False),
        ((9, 4, 28, 28, 3), False, False),
        ((9, 0, 28, 1), False, False),
    ],
)
def test_what_is_taken_for_pictures(shape, eight, floats):
    for dtype, expected in (
        ("uint8", eight),
        ("float32", floats),
        ("float16", floats),
        ("float64", floats),
    ):
        x = np.zeros(shape, dtype)
        assert images.is_image(x) is expected
        assert expected or str(shape) in images.no_picture(x)


def test_difference_on_middle_grey():
    before, after = np.array([[[0, 100, 255]]], "uint8"), np.array([[[2, 100, 0]]], "uint8")
    assert images.enlarged(before, after).tolist() == [[[148, 128, 0]]]


def test_a_sheet_shows_every_pixel_of_small_pictures():
    pixels = colours(14, 14)
    sheet = np.asarray(images.sheet([[(pixels, "a")]], side=112))
    assert np.array_equal(sheet[10:122:8, 10:122:8], pixels)


def test_a_sheet_has_no_white_bands_around_flat_pictures():
    flat, square = np.zeros((8, 64), "uint8"), np.zeros((64, 64), "uint8")
    low, high = (images.sheet([[(pixels, "a")]] * 3, side=128) for pixels in (flat, square))
    assert high.height - low.height == 3 * (128 - 16)
    for sheet, rows in ((low, 3 * 16), (high, 3 * 128)):
        assert (np.asarray(sheet)[:, 100] == 0).all(axis=-1).sum() == rows  # beyond the caption


def test_a_sheet_grows_with_its_captions_and_folds_its_rows():
    row = [(colours(), "cat\n90%"), (colours(), "dog")]
    one = images.sheet([row], ("before", "after"))
    longer = images.sheet(
        [[(colours(), "a class with a long name, cut where it must be cut\n90%"), row[1]]],
        ("before", "after"),
    )
    assert longer.height > one.height
    assert longer.width == one.width
    tall, wide = images.sheet([row] * 4), images.sheet([row] * 4, across=2)
    assert wide.width > 2 * tall.width - 20
    assert wide.height < tall.height
    assert images.sheet([]).size[0] > 0
