"""A picture as models see it: one way from bytes to pixels, for training and for a request."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from shopkeeper.errors import InputError

Pixels = npt.NDArray[np.uint8]  # (..., side, side, 3), red, green, blue


def square(content: bytes, side: int) -> Pixels:
    """(side, side, 3): the middle square of a picture, upright, made small; white where see-through.

    A JPEG is decoded at the smallest scale that is large enough (libjpeg-turbo, by Pillow).

    Raises:
        InputError: the bytes are no picture, or one of too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as opened:
                opened.draft("RGB", (side, side))
                picture = _opaque(ImageOps.exif_transpose(opened))
                return np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR))
    except Exception as error:  # Pillow's plug-ins raise whatever their bytes lead them to
        told = "an empty file" if not content else f"no picture that can be opened: {error}"
        raise InputError(
            told, where="picture", next="send a JPEG, PNG, WebP or GIF that opens in a browser"
        ) from error


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")
