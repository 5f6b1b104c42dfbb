"""Rows -> files as shops really hand them over, and the list of what was dirtied, by file and line."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl

from shopkeeper.demo.behaviour import COLUMNS, UTC_OFFSET_MS
from shopkeeper.demo.dirt import OUTCOME

DIRT = pl.Schema(
    {
        "kind": pl.String,
        "outcome": pl.String,
        "table": pl.String,
        "file": pl.String,  # relative to the workspace
        "line": pl.Int64,  # 1-based line of text files (a header is line 1), row of others
        "id": pl.String,  # event_id, item_id or user_id; null where the row has none
    }
)

# The old mini-program system: its own words, local time, seconds and yuan, no event ids.
LEGACY: dict[str, str] = {
    "user_id": "会员号",
    "session_id": "访问号",
    "item_id": "商品编号",
    "shop_id": "店铺",
    "kind": "行为",
    "ts": "时间",
    "dwell_ms": "停留秒数",
    "query": "搜索词",
    "price_minor": "金额",
    "quantity": "件数",
    "region": "地区",
    "position": "位置",
}
LEGACY_KINDS: dict[str, str] = {
    "view": "浏览",
    "impression": "曝光",
    "search": "搜索",
    "favorite": "收藏",
    "cart": "加购",
    "purchase": "下单",
    "return": "退货",
    "review": "评价",
    "share": "分享",
    "hover": "悬停",
}
INTEGERS = ("dwell_ms", "price_minor", "quantity", "position")


def web_month(frame: pl.DataFrame, path: Path, file: str) -> pl.DataFrame:
    """One month of web events as CSV under canonical names. Returns its dirt."""
    iso = pl.from_epoch("ms", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    out = frame.select(
        "event_id",
        *(
            pl.col(name) if name != "ms" else pl.coalesce("ts_text", iso).alias("ts")
            for name in COLUMNS
        ),
    )
    path.write_bytes(_broken(out.write_csv().encode(), frame["dirt"], b"\xff\xfe\xfa"))
    return dirt_of(frame, "events", file, 2, "event_id")


def app_events(frame: pl.DataFrame, path: Path, file: str) -> pl.DataFrame:
    """App events as Parquet with typed columns. Returns its dirt."""
    out = frame.select(
        "event_id",
        *(
            pl.from_epoch("ms", time_unit="ms").dt.replace_time_zone("UTC").alias("ts")
            if name == "ms"
            else pl.col(name).cast(pl.Int64)
            if name in INTEGERS
            else pl.col(name)
            for name in COLUMNS
        ),
    )
    out.write_parquet(path, compression="zstd", statistics=False)
    return dirt_of(frame, "events", file, 1, "event_id")


def legacy_events(frame: pl.DataFrame, path: Path, file: str) -> pl.DataFrame:
    """Events of the old system as GB18030 CSV; returns come with pieces below 0. Returns its dirt."""
    back = (pl.col("kind") == "return") & pl.col("quantity").is_not_null()
    frame = frame.with_columns(
        quantity=pl.when(back).then(pl.lit("-") + pl.col("quantity")).otherwise("quantity"),
        dirt=pl.when(back & pl.col("dirt").is_null())
        .then(pl.lit("return_below_zero"))
        .otherwise("dirt"),
    )
    local = pl.from_epoch(pl.col("ms") + UTC_OFFSET_MS, time_unit="ms")
    seconds = (pl.col("dwell_ms").cast(pl.Float64, strict=False) / 1000).round(1).cast(pl.String)
    yuan = (pl.col("price_minor").cast(pl.Float64, strict=False) / 100).round(2)
    yuan_text = pl.when(yuan.is_finite()).then(yuan.cast(pl.String))
    values = {
        "ts": pl.coalesce("ts_text", local.dt.strftime("%Y/%m/%d %H:%M:%S")),
        "kind": pl.col("kind").replace(LEGACY_KINDS),
        "dwell_ms": pl.coalesce(seconds, "dwell_ms"),
        "price_minor": pl.coalesce(yuan_text, "price_minor"),
    }
    out = frame.select(
        values.get(name, pl.col(name if name != "ts" else "ms")).alias(theirs)
        for name, theirs in LEGACY.items()
    )
    data = out.write_csv().encode("gb18030")
    path.write_bytes(_broken(data, frame["dirt"], b"\xff\xff"))
    return dirt_of(
        frame.with_columns(event_id=pl.lit(None, pl.String)), "events", file, 2, "event_id"
    )


def items_csv(frame: pl.DataFrame, path: Path, file: str) -> pl.DataFrame:
    """Items as CSV. Returns its dirt."""
    frame.drop("dirt").write_csv(path)
    return dirt_of(frame, "items", file, 2, "item_id")


def items_jsonl(frame: pl.DataFrame, path: Path, file: str) -> pl.DataFrame:
    """Items as JSON Lines, numbers as numbers, empty fields left out. Returns its dirt."""
    lines = []
    for row in frame.drop("dirt").iter_rows(named=True):
        known = {name: value for name, value in row.items() if value not in (None, "")}
        for name, read in (("price_minor", int), ("stock", int), ("rating", float)):
            known[name] = _number(known[name], read)
        lines.append(json.dumps(known, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return dirt_of(frame, "items", file, 1, "item_id")


def users_csv(frame: pl.DataFrame, path: Path, file: str) -> pl.DataFrame:
    """Users as CSV. Returns its dirt."""
    frame.drop("dirt").write_csv(path)
    return dirt_of(frame, "users", file, 2, "user_id")


def dirt_of(frame: pl.DataFrame, table: str, file: str, first: int, key: str) -> pl.DataFrame:
    """The rows of `frame` with a `dirt`, as DIRT; `first` is the line of its first row."""
    return (
        frame.with_row_index("row")
        .filter(pl.col("dirt").is_not_null())
        .select(
            kind="dirt",
            outcome=pl.col("dirt").replace_strict(OUTCOME, return_dtype=pl.String),
            table=pl.lit(table),
            file=pl.lit(file),
            line=pl.col("row").cast(pl.Int64) + first,
            id=pl.col(key),
        )
    )


def xlsx(frame: pl.DataFrame, path: Path) -> None:
    """A workbook of one sheet, all cells text or numbers: the smallest that Excel opens."""
    rows = []
    for number, values in enumerate([tuple(frame.columns), *frame.iter_rows()], start=1):
        cells = "".join(
            f'<c r="{chr(65 + at)}{number}"><v>{value}</v></c>'
            if isinstance(value, int | float)
            else f'<c r="{chr(65 + at)}{number}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
            for at, value in enumerate(values)
            if value is not None
        )
        rows.append(f'<row r="{number}">{cells}</row>')
    office = "http://schemas.openxmlformats.org"
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    main = f"{office}/spreadsheetml/2006/main"
    of_package = f"{office}/package/2006"
    of_office = f"{office}/officeDocument/2006/relationships"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{of_package}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{of_package}/relationships"><Relationship Id="r1" '
        f'Type="{of_office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{of_office}"><sheets>'
        '<sheet name="shops" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{of_package}/relationships">'
        f'<Relationship Id="r1" Type="{of_office}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{"".join(rows)}'
        "</sheetData></worksheet>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            entry = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))  # same bytes every time
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, head + text)
    path.write_bytes(out.getvalue())


def _number(text: str, read: Callable[[str], float]) -> float | str:
    try:
        return read(text)
    except ValueError:
        return text


def _broken(data: bytes, dirt: pl.Series, junk: bytes) -> bytes:
    """Break the lines of a CSV that are to be broken: `dirt` stands per row, the header is first."""
    lines = data.split(b"\n")
    for row, kind in enumerate(dirt.to_list(), start=1):
        if kind == "too_many_fields":
            lines[row] += b",,1"
        elif kind == "too_few_fields":
            lines[row] = b",".join(lines[row].split(b",")[:5])
        elif kind == "bad_bytes":
            lines[row] = lines[row].replace(b",", b"," + junk, 1)
    return b"\n".join(lines)
