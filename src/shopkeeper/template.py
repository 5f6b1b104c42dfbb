"""`shopkeeper init`: an empty workspace with a shop.toml whose comments say why."""

import json
from pathlib import Path

from shopkeeper.assets.durable import make_folder, write_bytes
from shopkeeper.errors import InputError

SHOP_TOML = """\
# Everything here has a default; delete what you do not need. 每一项都有默认值，不需要的可以删掉。

name = {name}
currency = "CNY"            # ISO 4217; shown with prices
minor_units = 100           # 100 fen are 1 yuan; 1 for currencies without decimals
timezone = "Asia/Shanghai"  # of times in your files that carry no offset

# Without any [[sources]], user_behavior.csv (user_id, item_id, ...) and item_data.csv (item_id, ...)
# are read from raw/ (also .xlsx, .parquet, .jsonl). Other names and units are mapped like this:
#
# [[sources]]
# table = "events"                       # events, items, users, shops or images
# path = "raw/orders-*.csv"              # a file, a folder or a pattern
# encoding = "gb18030"                   # of text files; default utf-8
# columns = {{ user_id = "customer", item_id = "sku", ts = "paid_at", price_minor = "price" }}
# units = {{ price_minor = "major", dwell_ms = "s", ts = "%Y/%m/%d %H:%M" }}
# kinds = {{ pv = "view", buy = "purchase" }}
# constants = {{ kind = "purchase" }}      # a value for every row
#
# [[sources]]
# table = "items"
# format = "sql"
# url = "postgresql://reader:${{SHOP_DB_PASSWORD}}@db.example/shop"   # ${{NAME}}: from the environment
# sql_table = "products"

# Which models are trained and compared. Your own class: "mypkg.mymodel:Model".
models = ["popularity", "item_knn", "sequence_knn", "ease", "transformer"]

[training]
threads = 2                 # set on purpose: more threads than cores cost time
max_minutes = 30            # a model keeps its best epoch when this is over

[serving]
exploration = 0.02          # share of answers in which one place shows something new; 0 is off

[schedule]
retrain_minutes = 1440      # `shopkeeper run --every 15m` takes new data each time, retrains daily
# stale_minutes = 180       # nothing new for longer than this is told as well
# webhook = "https://..."   # told about failures and staleness
# webhook_form = "dingtalk" # generic, dingtalk or wecom
"""


def write_workspace(folder: Path) -> Path:
    """Make `folder` a workspace; returns the path of its shop.toml. InputError: it is one already."""
    path = folder / "shop.toml"
    if path.exists():
        raise InputError(
            "there is a shop.toml here already",
            where=str(folder),
            next=f"run it with: shopkeeper run --shop {folder}",
        )
    if folder.exists() and not folder.is_dir():
        raise InputError("a file, not a folder", where=str(folder), next="name an empty folder")
    make_folder(folder / "raw")
    write_bytes(
        path, SHOP_TOML.format(name=json.dumps(folder.resolve().name, ensure_ascii=False)).encode()
    )
    return path
