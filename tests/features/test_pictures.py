import io

import numpy as np
import pytest
from PIL import Image

from shopkeeper.errors import InputError
from shopkeeper.features.pictures import square


def _bytes(picture: Image.Image, form: str = "PNG", **more: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **more)
    return out.getvalue()


def _halves(wide: int = 80, high: int = 40) -> Image.Image:
    picture = Image.new("RGB", (wide, high), "red")
    picture.paste("blue", (0, high // 2, wide, high))
    return picture


def test_the_middle_square_is_cut_and_made_small() -> None:
    picture = Image.new("RGB", (80, 40), "red")
    picture.paste("lime", (20, 0, 60, 40))
    seen = square(_bytes(picture), 16)
    assert seen.shape == (16, 16, 3)
    assert seen.dtype == np.uint8
    assert (seen[:, 1:-1] == [0, 255, 0]).all()  # the outermost pixels see over the edge


def test_a_small_picture_is_made_large() -> None:
    assert square(_bytes(Image.new("RGB", (3, 5), "red")), 16).shape == (16, 16, 3)


def test_a_jpeg_and_a_png_look_alike() -> None:
    one = square(_bytes(_halves(), "JPEG", quality=95), 16).astype(int)
    other = square(_bytes(_halves()), 16).astype(int)
    assert np.abs(one - other).mean() < 8


def test_a_picture_that_was_taken_upside_down_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: turned by 180 degrees
    seen = square(_bytes(_halves(), "JPEG", exif=exif), 16)
    assert seen[0, 0, 2] > 200  # blue above
    assert seen[-1, 0, 0] > 200


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_what_is_see_through_is_white(mode: str) -> None:
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    data = _bytes(picture, transparency=0) if mode == "P" else _bytes(picture)
    assert (square(data, 8) == 255).all()


@pytest.mark.parametrize("mode", ["L", "CMYK", "1"])
def test_every_kind_of_colour_is_read(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert square(_bytes(Image.new(mode, (8, 8)), form), 8).shape == (8, 8, 3)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", _bytes(_halves())[:40]])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"empty file|no picture"):
        square(data, 8)
