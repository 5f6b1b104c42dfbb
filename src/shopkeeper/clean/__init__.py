"""清洗: raw text rows -> typed clean rows, merged duplicates, and quarantine with the reason.

`clean_events` works on one user-hash bucket, the others on whole tables. For every call
rows in = clean + merged + quarantined, or `Unaccounted` is raised.
"""

from shopkeeper.clean.catalogue import (
    clean_images,
    clean_items,
    clean_shops,
    clean_users,
)
from shopkeeper.clean.checks import Cleaned, Unaccounted
from shopkeeper.clean.events import clean_events
from shopkeeper.clean.report import advice, combine_checks, explain, label, report

__all__ = [
    "Cleaned",
    "Unaccounted",
    "advice",
    "clean_events",
    "clean_images",
    "clean_items",
    "clean_shops",
    "clean_users",
    "combine_checks",
    "explain",
    "label",
    "report",
]
