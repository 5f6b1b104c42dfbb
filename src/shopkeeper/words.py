"""The words we use everywhere. Instants are UTC and aware; money is in minor units.

user, item, shop, event, answer, asset, version, run, contract, quarantine, release, floor: the
glossary is in ARCHITECTURE.md. Outside ids are strings exactly as the shop sends them; inside ids
(rows of an embedding table) are `ItemIndex` and never leave features/, models/ and serving/.
"""

from enum import StrEnum
from typing import NewType

UserId = NewType("UserId", str)
ItemId = NewType("ItemId", str)
ShopId = NewType("ShopId", str)
EventId = NewType("EventId", str)
AnswerId = NewType("AnswerId", str)
ItemIndex = NewType("ItemIndex", int)  # a row of an embedding table, 0 <= index < number of items


class Kind(StrEnum):
    """What a user did. Order is the code stored in sequences (`KIND_CODES`): append only."""

    VIEW = "view"
    IMPRESSION = "impression"
    SEARCH = "search"
    FAVORITE = "favorite"
    CART = "cart"
    PURCHASE = "purchase"
    RETURN = "return"
    REVIEW = "review"
    SHARE = "share"
    FOLLOW = "follow"
    LEAVE = "leave"
    COUPON_CLAIM = "coupon_claim"
    COUPON_USE = "coupon_use"
    CAMPAIGN_VIEW = "campaign_view"
    CAMPAIGN_JOIN = "campaign_join"
    MESSAGE = "message"


KIND_CODES: dict[str, int] = {kind.value: code for code, kind in enumerate(Kind)}

# Kinds that say something about what a user wants; only these enter behaviour sequences.
INTEREST_KINDS = (Kind.VIEW, Kind.FAVORITE, Kind.CART, Kind.PURCHASE, Kind.REVIEW, Kind.SHARE)


class Grade(StrEnum):
    """Data grade of a column or an asset, least protected first."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    SENSITIVE = "sensitive"


class Purpose(StrEnum):
    """Why data is read; every read of the lake names one."""

    OPERATE = "operate"
    TRAIN = "train"
    SERVE = "serve"
    ANALYSE = "analyse"
    AUDIT = "audit"


class Scene(StrEnum):
    """Where a recommendation is shown."""

    HOME = "home"
    ITEM = "item"
    CART = "cart"


MONEY_LIMIT = 2**62  # minor units; no index takes a price beyond
SITTING_MS = 1_800_000  # a longer pause between two events ends a sitting
VISIT = "session:"  # a visitor whom nobody knows is a user of this prefix and the session's id
CORE = ("events", "items", "users", "shops", "images")  # what the loop itself is made of
# What a shop may hand over besides, in an order in which each finds what it refers to; docs/data-kinds.md.
KINDS = (
    "regions",
    "campaigns",
    "coupons",
    "price_history",
    "stock_movements",
    "shop_stats",
    "reviews",
    "user_tags",
    "follows",
    "campaign_participation",
    "dialogues",
    "knowledge",
    "audio",
)
TABLES = (*CORE, *KINDS)  # what a shop hands over
ABOUT_USERS = (  # tables that are split by user
    "events",
    "users",
    "reviews",
    "user_tags",
    "follows",
    "campaign_participation",
    "dialogues",
)
WHOLE_FILES = ("images", "audio")  # tables of files taken whole, bytes and all
