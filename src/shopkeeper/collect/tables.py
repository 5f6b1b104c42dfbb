"""The canonical tables a shop hands over: their columns, what each cannot do without, other names.

Collected frames hold text only; types, ranges and references are checked in clean/.
"""

COLUMNS: dict[str, tuple[str, ...]] = {
    "events": (
        "event_id",
        "user_id",
        "session_id",
        "item_id",
        "shop_id",
        "kind",
        "ts",
        "dwell_ms",
        "query",
        "price_minor",
        "quantity",
        "channel",
        "region",
        "position",
        "answer_id",
        "propensity",
    ),
    "items": (
        "item_id",
        "title",
        "title_zh",
        "description",
        "category",
        "brand",
        "shop_id",
        "price_minor",
        "stock",
        "image",
        "updated_at",
        "attributes",
    ),
    "users": ("user_id", "region", "personalisation", "registered_at", "attributes"),
    "shops": ("shop_id", "name", "name_zh", "region", "rating", "attributes"),
    "images": ("item_id", "file_path", "format", "width", "height", "digest"),
}

REQUIRED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id"),
    "items": ("item_id",),
    "users": ("user_id",),
    "shops": ("shop_id",),
    "images": ("item_id",),
}

TIMES = ("ts", "updated_at", "registered_at")  # become ISO 8601, UTC, microseconds

# Other names that can mean only one thing. They are compared without case, blanks, "_" and "-",
# and only where the file has no column of the canonical name and exactly one alias of it.
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "events": {
        "user_id": ("user", "uid", "customer_id", "visitor_id"),
        "item_id": ("item", "product_id", "sku", "goods_id"),
        "shop_id": ("shop", "store_id", "seller_id"),
        "session_id": ("session",),
        "kind": ("event_type", "behavior", "behavior_type", "behaviour", "behaviour_type"),
        "ts": ("time", "timestamp", "datetime", "event_time"),
        "price_minor": ("price",),
        "quantity": ("qty",),
    },
    "items": {
        "item_id": ("item", "id", "product_id", "sku", "goods_id"),
        "title": ("name", "item_name", "product_name"),
        "shop_id": ("shop", "store_id", "seller_id"),
        "price_minor": ("price",),
    },
    "users": {"user_id": ("user", "id", "uid", "customer_id", "visitor_id")},
    "shops": {"shop_id": ("shop", "id", "store_id", "seller_id"), "name": ("shop_name",)},
    "images": {},
}

# A column of one of these names, found or named in shop.toml, is delivered in this unit, unless
# `units` says otherwise.
ALIAS_UNITS: dict[str, str] = {"price": "major"}

# Event kinds as public data sets and trackers spell them; `kinds` in shop.toml comes first.
KIND_ALIASES: dict[str, str] = {
    "pv": "view",
    "click": "view",
    "page_view": "view",
    "fav": "favorite",
    "favourite": "favorite",
    "addtocart": "cart",
    "add_to_cart": "cart",
    "buy": "purchase",
}
