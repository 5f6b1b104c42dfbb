"""How a filter is written in an address: field:value, price_minor:low..high, in_stock:true."""

import re
from typing import Literal

from shopkeeper.errors import InputError

PRICES = ("price", "price_minor")  # the fields that have ranges
_RANGE = re.compile(r"(-?\d+)?\.\.(-?\d+)?")

Filters = dict[str, bool | str | list[str] | dict[str, int]]
Sort = Literal["relevance", "price", "-price", "newest"]


def parse_filters(texts: list[str]) -> Filters | None:
    """`["category:lamp", "category:desk", "price_minor:1000..5000"]` as the filters of serving/.

    The same field again means either value; `a..b` is a closed range of prices, either end may be
    left out. A brand may be called "1..2".

    Raises:
        InputError: a filter without a colon, an empty one, or a range where one was given already.
    """
    filters: Filters = {}
    for text in texts:
        field, colon, value = text.partition(":")
        if not colon or not field or not value or len(text) > 300:
            raise InputError(
                f"{text!r} is no filter; wanted field:value or price_minor:low..high",
                where="query.filter",
                next="e.g. filter=category:Lamps&filter=price_minor:1000..5000",
            )
        if field == "in_stock":
            if value not in ("true", "false"):
                raise InputError(f"in_stock is true or false, not {value!r}", where="query.filter")
            filters[field] = value == "true"
            continue
        before = filters.get(field)
        matched = _RANGE.fullmatch(value) if field in PRICES else None
        if matched is not None and value != "..":
            if before is not None:
                raise InputError(
                    f"two filters on {field!r}, one of them a range", where="query.filter"
                )
            ends = {"min": matched[1], "max": matched[2]}
            filters[field] = {end: int(number) for end, number in ends.items() if number}
        elif before is None:
            filters[field] = value
        elif isinstance(before, str):
            filters[field] = [before, value]
        elif isinstance(before, list):
            before.append(value)
        else:
            raise InputError(f"two filters on {field!r}, one of them a range", where="query.filter")
    return filters or None
