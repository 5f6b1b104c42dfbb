"""${NAME} in shop.toml: values that are read from the environment, so that no file holds a secret."""

import os
import re
from urllib.parse import quote

from shopkeeper.errors import InputError


def filled(text: str, where: str, key: str = "url") -> str:
    """`text` with ${NAME} taken from the environment, percent-encoded where it is but a part.

    Args:
        where: which source, as errors say it.
        key: the key of shop.toml that `text` stands under.
    Raises:
        InputError: NAME is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise InputError(
                f"`{key}` takes ${{{match[1]}}} from the environment, where it is not set",
                where=where,
                next=f"export {match[1]}=… before you start shopkeeper",
            )
        return found if match[0] == text else quote(found, safe="")

    return re.sub(r"\$\{(\w+)\}", value, text)
