"""The catalogue: items with what a shop would print on the page, and what only the simulation knows.

Items of one good stand side by side, so that a good is a slice of every array.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.demo.goods import BRANDS, CATEGORIES, COLOURS, GOODS, PALETTES, SHOPS, STYLES, USES

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BRAND_DIM = 4
# what a taste is about: style (one-hot), brand (vector), price tier (t and its square), colour
TASTE_WIDTH = len(STYLES) + BRAND_DIM + 2 + len(COLOURS)


@dataclass(frozen=True)
class Catalogue:
    """M items. Row i of everything is item i; days count from the first simulated day."""

    page: pl.DataFrame  # (M, …) what the shop publishes: the canonical item columns and more
    good: Ints  # (M,) row of GOODS
    start: Ints  # (len(GOODS) + 1,) items of good g are rows start[g]:start[g + 1]
    style: Ints  # (M,) row of STYLES
    brand: Ints  # (M,) row of BRANDS
    colour: Ints  # (M,) row of COLOURS
    shop: Ints  # (M,) row of SHOPS
    traits: Array  # (M, TASTE_WIDTH) what tastes are multiplied with
    quality: Array  # (M,) liked by everybody
    fame: Array  # (M,) log of how prominently the shop shows it
    launched: Array  # (M,) day it came on sale; negative: before the first day
    price_minor: Ints  # (M,)


def item_id(row: int) -> str:
    return f"G{100_000 + row * 7}"


def shop_id(row: int) -> str:
    return f"S{row + 1:02d}"


def make(rng: np.random.Generator, items: int, days: int, first_day: np.datetime64) -> Catalogue:
    """`items` items, at least one of every good; a seventh of them are launched while we watch."""
    share = rng.gamma(4.0, size=len(GOODS))
    counts = np.ones(len(GOODS), dtype=np.int64)
    counts += rng.multinomial(max(items - len(GOODS), 0), share / share.sum())
    start = np.concatenate([[0], np.cumsum(counts)])
    total = int(start[-1])
    good = np.repeat(np.arange(len(GOODS)), counts)
    style = rng.integers(0, len(STYLES), total)
    colour = np.concatenate(
        [rng.choice(len(COLOURS), counts[g], p=_colour_shares(g)) for g in range(len(GOODS))]
    )
    tier = rng.beta(1.6, 2.0, total)
    brand, shop = np.zeros(total, np.int64), np.zeros(total, np.int64)
    of_category = {name: rng.choice(len(BRANDS), 9, replace=False) for name in CATEGORIES}
    for row in range(total):
        category = GOODS[good[row]].category
        brand[row] = of_category[category][rng.integers(0, 9)]
        sellers = [number for number, (_, _, sold) in enumerate(SHOPS) if category in sold]
        shop[row] = sellers[rng.integers(0, len(sellers))]
    low = np.array([GOODS[g].low for g in good], dtype=np.float64)
    high = np.array([GOODS[g].high for g in good], dtype=np.float64)
    yuan = low * (high / low) ** tier
    price_minor = _shop_price(yuan, rng)
    fame = np.zeros(total)
    for g in range(len(GOODS)):
        ranks = rng.permutation(counts[g]) + 1
        fame[start[g] : start[g + 1]] = -0.75 * np.log(ranks)
    launched = np.where(
        rng.random(total) < 1 / 7, rng.uniform(0, days, total), -rng.uniform(1, 500, total)
    )
    brand_vectors = rng.normal(size=(len(BRANDS), BRAND_DIM))
    traits = np.concatenate(
        [
            np.eye(len(STYLES))[style],
            brand_vectors[brand],
            tier[:, None],
            tier[:, None] ** 2,
            np.eye(len(COLOURS))[colour],
        ],
        axis=1,
    )
    page = _page(rng, good, style, brand, colour, shop, price_minor, launched, first_day)
    return Catalogue(
        page=page,
        good=good,
        start=start,
        style=style,
        brand=brand,
        colour=colour,
        shop=shop,
        traits=traits,
        quality=rng.normal(0.0, 0.45, total),
        fame=fame,
        launched=launched,
        price_minor=price_minor,
    )


def _colour_shares(good: int) -> Array:
    """(len(COLOURS),) how often a good comes in each colour."""
    kind = GOODS[good]
    palette = PALETTES.get(kind.name) or PALETTES.get(kind.category)
    usual = {"black", "white", "grey"}  # they sell everywhere
    shares = np.array(
        [
            0.0 if palette and paint.name not in palette else 2.0 if paint.name in usual else 1.0
            for paint in COLOURS
        ]
    )
    made: Array = shares / shares.sum()
    return made


def _shop_price(yuan: Array, rng: np.random.Generator) -> Ints:
    """Prices as shops write them: 39.90, 129.00, 2,999.00."""
    small = np.maximum(np.round(yuan) - 0.1, 1.9)
    middle = np.round(yuan / 10) * 10 - rng.choice([1, 2], len(yuan))
    large = np.round(yuan / 100) * 100 - 1
    price = np.where(yuan < 60, small, np.where(yuan < 1000, middle, large))
    return np.round(price * 100).astype(np.int64)


def _page(
    rng: np.random.Generator,
    good: Ints,
    style: Ints,
    brand: Ints,
    colour: Ints,
    shop: Ints,
    price_minor: Ints,
    launched: Array,
    first_day: np.datetime64,
) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    total = len(good)
    stock = np.where(rng.random(total) < 0.02, 0, rng.negative_binomial(2, 0.02, total))
    rating = np.clip(rng.normal(4.5, 0.25, total), 3.2, 5.0).round(1)
    edited = rng.uniform(0, 30, total)
    for row in range(total):
        kind = GOODS[good[row]]
        category_zh, *usual = CATEGORIES[kind.category]
        use, use_zh = USES.get(kind.name, usual)
        name, name_zh = BRANDS[brand[row]]
        look, look_zh = STYLES[style[row]]
        paint = COLOURS[colour[row]]
        (one, one_zh), (two, two_zh) = (
            kind.features[pick] for pick in rng.choice(len(kind.features), 2, replace=False)
        )
        material = kind.materials[rng.integers(0, len(kind.materials))] if kind.materials else None
        size = kind.sizes[rng.integers(0, len(kind.sizes))] if kind.sizes else None
        label = f" {size[0]}" if size else ""
        label_zh = f" {size[1]}" if size else ""
        first = one[:1].upper() + one[1:]
        made_of = f" Made of {material[0]}." if material else ""
        made_of_zh = f"材质：{material[1]}。" if material else ""
        called = _title_case(kind.name)
        if kind.packed:
            title = f"{name} {called}, {first}, {two}{label}"
            title_zh = f"{name_zh} {kind.zh} {one_zh} {two_zh}{label_zh}"
            opening = (
                f"{called} by {name}, {one}, {two}, in {_article(look)} {look} {paint.name} pack."
            )
            opening_zh = f"{name_zh}{kind.zh}，{one_zh}，{two_zh}，{paint.zh}{look_zh}风包装。"
        else:
            title = (
                f"{name} {look.capitalize()} {called}, {first}{label}, {_title_case(paint.name)}"
            )
            title_zh = f"{name_zh} {look_zh}{kind.zh} {one_zh}{label_zh} {paint.zh}"
            opening = (
                f"{_article(look).capitalize()} {look} {kind.name} by {name} in {paint.name}:"
                f" {one}, {two}."
            )
            opening_zh = f"{name_zh}{look_zh}风{kind.zh}，{paint.zh}，{one_zh}，{two_zh}。"
        seen = first_day + np.timedelta64(int(min(launched[row], 0.0) * 86_400), "s")
        rows.append(
            {
                "item_id": item_id(row),
                "title": title,
                "title_zh": title_zh,
                "description": f"{opening}{made_of} {use}",
                "description_zh": f"{opening_zh}{made_of_zh}{use_zh}",
                "category": kind.category,
                "category_zh": category_zh,
                "type": kind.name,
                "type_zh": kind.zh,
                "brand": name,
                "brand_zh": name_zh,
                "shop_id": shop_id(int(shop[row])),
                "price_minor": int(price_minor[row]),
                "stock": int(stock[row]),
                "image": "",
                "updated_at": str(seen + np.timedelta64(int(edited[row] * 3600), "s")) + "Z",
                "style": look,
                "colour": paint.name,
                "colour_zh": paint.zh,
                "material": material[0] if material else None,
                "size": size[0] if size else None,
                "rating": float(rating[row]),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _title_case(words: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in words.split(" "))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
