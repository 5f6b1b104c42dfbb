"""Pictures: each is checked and measured.

`folder/ITEM.jpg` and `folder/ITEM/anything.jpg` belong to item ITEM.
"""

import io
import re
import warnings
from typing import Any

from PIL import Image

from shopkeeper.collect.batch import Reject


def look(item_id: str, stands: str, content: bytes, digest: str) -> tuple[Any, ...] | Reject:
    """Columns of `images`, or why the bytes are no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
            with Image.open(io.BytesIO(content)) as image:
                kind, (width, height) = (image.format or "").lower(), image.size
                image.draft("RGB", (64, 64))  # JPEG: decoded small, yet to the last byte
                image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return Reject(1, "too_many_pixels", str(error), "")
    except Exception as error:  # Pillow's plug-ins raise whatever their bytes lead them to
        told = re.sub(r" <.* at 0x[0-9a-f]+>", "", str(error))  # the same file, the same words
        what = "an empty file" if not content else f"no picture that can be opened: {told}"
        return Reject(1, "unreadable_image", what, repr(content[:40]))
    return item_id, stands, kind, str(width), str(height), digest
