"""The shop.toml of the demo: every line says why it is there."""

from shopkeeper.demo.files import LEGACY, LEGACY_KINDS

HEAD = """\
# The demo marketplace: simulated shops, items, users and events, with real-world dirt in the files.
# Everything here can be changed; then run `shopkeeper run` again: only what it touches is remade.

name = "Demo marketplace 演示集市"   # stands on the pages
currency = "CNY"                     # prices are yuan ...
minor_units = 100                    # ... kept as whole fen, so that no cent is lost to rounding
timezone = "Asia/Shanghai"           # of times that carry no offset
buckets = 16                         # tables about users are cut into so many parts by user; fixed for life

# ---- where rows come from: one block a file, a folder or a pattern ----

[[sources]]                          # the web shop: one CSV a month, already in our column names
table = "events"
path = "raw/events/web-*.csv"        # a new month is read when it appears, old ones are not read again

[[sources]]                          # the app: typed columns, so Parquet; it also records what was shown
table = "events"
path = "raw/events/app.parquet"

[[sources]]                          # the mini-program's old system: other names, words, units, clock
table = "events"
path = "raw/events/legacy.csv"
encoding = "gb18030"                 # written on a Chinese Windows machine
timezone = "Asia/Shanghai"           # its times are local, without an offset
units = { ts = "%Y/%m/%d %H:%M:%S", dwell_ms = "s", price_minor = "major" }   # seconds and yuan
constants = { channel = "miniapp" }  # the file does not say so itself
"""

TAIL = """\

[[sources]]                          # the catalogue; columns we have no name for become attributes
table = "items"
path = "raw/items/items.csv"

[[sources]]                          # one shop sends JSON Lines instead
table = "items"
path = "raw/items/ink-and-paper.jsonl"

[[sources]]                          # with the consent to personalisation
table = "users"
path = "raw/users.csv"

[[sources]]                          # an Excel sheet kept by hand
table = "shops"
path = "raw/shops.xlsx"

[[sources]]                          # pictures: the file name is the item id
table = "images"
path = "raw/images"

# ---- how models learn ----

[training]                           # what every model is told; unknown words are passed over
max_epochs = 5                       # 12 make it a tenth better here; the demo stays short
patience = 2                         # epochs without gain before it stops
"""


def text() -> str:
    """The whole shop.toml."""
    names = "".join(f'{ours} = "{theirs}"\n' for ours, theirs in LEGACY.items())
    kinds = "".join(
        f'"{theirs}" = "{ours}"\n' for ours, theirs in LEGACY_KINDS.items() if ours != "hover"
    )
    return (
        HEAD
        + "\n[sources.columns]                    # our name = the old system's\n"
        + names
        + "\n[sources.kinds]                      # the old system's word = our kind of event\n"
        + kinds
        + TAIL
    )
