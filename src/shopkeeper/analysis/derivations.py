"""From which columns the columns of each report are made, for the catalogue's lineage.

Kept beside the reports (`analysis.reports`): a report that is changed changes its line here. What is said
is held against what the step read; a test changes raw columns and looks what changes with them.
"""

from collections.abc import Collection, Mapping

from shopkeeper.assets.lineage import Column, Derivation

EVENTS, ITEMS = "clean.events", "clean.items"
_BOUGHT = "user_id kind ts"
_BASKETS = "user_id session_id item_id kind ts items.item_id items.category"
_PRICES = "item_id price_minor kind ts items.item_id items.price_minor"
_SOLD = "item_id user_id kind quantity"
_STOCK = "items.item_id items.stock more.item_id more.stock_after more.ts more.seq more.warehouse"
_MOVED = "items.item_id items.stock more.item_id more.quantity"

# report -> (column -> what it is made from, what decides which rows there are); bare names are of
# clean.events, `items.` of clean.items, `more.` of the optional table that the report tells more by
MADE: Mapping[str, tuple[Mapping[str, str], str]] = {
    "funnel": (
        {
            "day": "ts",
            "channel": "channel",
            **dict.fromkeys(
                ("viewed", "carted", "bought", "cart_rate", "purchase_rate"),
                "user_id kind ts channel",
            ),
        },
        "user_id kind ts channel",
    ),
    "retention": (
        dict.fromkeys(("cohort", "week", "users", "active", "share", "complete"), "user_id ts"),
        "user_id ts",
    ),
    "cohort_value": (
        {
            **dict.fromkeys(("cohort", "month", "users", "buyers"), _BOUGHT),
            **dict.fromkeys(
                ("cumulative_minor", "per_user_minor"), f"{_BOUGHT} price_minor quantity"
            ),
        },
        _BOUGHT,
    ),
    "basket": (
        {
            "level": "",
            **dict.fromkeys(("item_a", "item_b"), "item_id items.category"),
            **dict.fromkeys(
                ("baskets", "users", "support", "confidence_ab", "confidence_ba", "lift"), _BASKETS
            ),
        },
        _BASKETS,
    ),
    "search_terms": (
        {
            "term": "query",
            **dict.fromkeys(("searches", "users"), "query user_id kind"),
            **dict.fromkeys(
                ("followed", "unfollowed", "unfollowed_rate", "bought"), "query user_id kind ts seq"
            ),
        },
        "query user_id kind",
    ),
    "channels": (
        {
            "channel": "channel more.channel",
            "users": "channel user_id",
            "sessions": "channel user_id session_id",
            **dict.fromkeys(("buyers", "purchases", "conversion"), "channel user_id kind"),
            "revenue_minor": "channel user_id kind price_minor quantity",
            **dict.fromkeys(("reached", "joined"), "more.channel more.user_id more.kind"),
        },
        "channel user_id more.channel more.user_id more.kind",
    ),
    "price_history": (
        {
            "item_id": "item_id items.item_id more.item_id",
            "source": "",
            "price_minor": "price_minor items.price_minor more.price_minor",
            **dict.fromkeys(
                ("first_day", "last_day"), f"{_PRICES} more.item_id more.channel more.ts"
            ),
            "users": "item_id price_minor kind ts user_id",
        },
        f"user_id {_PRICES} more.item_id more.channel more.ts",
    ),
    "stock_movement": (
        {
            "item_id": "item_id items.item_id more.item_id",
            "stock": _STOCK,
            **dict.fromkeys(("risen", "fallen"), _MOVED),
            **dict.fromkeys(("sold", "returned"), _SOLD),
            "days_of_stock": f"{_SOLD} ts {_STOCK}",
        },
        "item_id kind items.item_id more.item_id",
    ),
}


def columns_of(report: str, table: str) -> tuple[str, ...]:
    """The columns of a table ("", "items" or "more", as in MADE) that a report is made of."""
    columns, rows = MADE[report]
    named = dict.fromkeys(" ".join([*columns.values(), rows]).split())
    parts = [name.rpartition(".") for name in named]
    return tuple(column for of, _, column in parts if of == table)


def derived(
    report: str, columns: Collection[str], read: Mapping[str, Collection[str]], more: str | None
) -> Derivation:
    """What a report of these columns was made from, of what was read (table -> columns).

    Args:
        more: the optional table that it tells more by, where there is one.
    """
    tables = {"": EVENTS, "items": ITEMS, "more": more}

    def of(names: str) -> list[Column]:
        found = []
        for name in names.split():
            where, _, column = name.rpartition(".")
            table = tables[where]
            if table is not None and column in read.get(table, ()):
                found.append((table, column))
        return found

    made, rows = MADE[report]
    return Derivation({name: of(made[name]) for name in columns}, of(rows))
