"""What goes wrong is told with the next step, and the next step mends it; docs/troubles.md says the same."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from shopkeeper.api.server import check_port
from shopkeeper.assets import durable
from shopkeeper.errors import InputError, NotReady, ShopkeeperError
from shopkeeper.governance.clients import Clients, may_bind
from shopkeeper.models import registry
from shopkeeper.shop import Shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    lines = [f"u{n % 7},i{n % 5}" for n in range(70)]
    (tmp_path / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\ni1\ni2\ni3\ni4\n")
    with Shop.open(tmp_path) as shop:
        shop.run()
    return tmp_path


def test_a_damaged_data_file_is_named_and_made_anew(folder: Path) -> None:
    damaged = next((folder / "store" / "lake" / "clean" / "events").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:30])
    with Shop.open(folder) as shop:
        with pytest.raises(NotReady, match=r"is damaged: it has 30 bytes.*shopkeeper run --force"):
            shop.preview("clean.events")
        shop.run(force=True)
        assert len(shop.preview("clean.events", 100)["rows"]) == 70


def test_an_unreadable_pointer_is_told_and_mended(folder: Path) -> None:
    pointer = folder / "store" / "releases" / "current.json"
    pointer.write_text("{")
    with Shop.open(folder) as shop, pytest.raises(NotReady, match=r"delete this file, then"):
        shop.service.recommend(user_id="u1")
    pointer.unlink()
    with Shop.open(folder) as shop:
        shop.run(["release"], force=True)
        assert shop.service.recommend(user_id="u1", k=3).items


def test_events_without_rows_are_told_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "user_behavior.csv").write_text("user_id,item_id\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\n")
    with (
        Shop.open(tmp_path) as shop,
        pytest.raises(InputError, match=r"no rows below the header in user_behavior\.csv; export"),
    ):
        shop.run()


def test_events_that_are_all_in_quarantine_are_told_with_the_way_there(tmp_path: Path) -> None:
    (tmp_path / "user_behavior.csv").write_text("user_id,item_id\nu1,gone\nu2,gone\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\n")
    with Shop.open(tmp_path) as shop:
        with pytest.raises(InputError, match=r"no event is left to learn from.*quarantine ls"):
            shop.run()
        assert shop.quarantine()[0]["rule"] == "reference:item_id"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_wherever_it_is_met(tmp_path: Path) -> None:
    says = "the disk is full, so this could not be written; free some space and run again"
    with (
        pytest.raises(InputError, match=says),
        durable.full_disk_told(tmp_path),
        open("/dev/full", "w") as file,
    ):
        file.write("a")
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(InputError, match=says), durable.full_disk_told(tmp_path):
            connection.exec_driver_sql("CREATE TABLE a (b)")
    engine.dispose()
    with pytest.raises(ValueError, match="else"), durable.full_disk_told(tmp_path):
        raise ValueError("something else")


def test_a_shop_without_events_is_told_what_to_put_where(tmp_path: Path) -> None:
    (tmp_path / "item_data.csv").write_text("item_id\ni0\n")
    with Shop.open(tmp_path) as shop:
        with pytest.raises(
            NotReady, match=r"no model to compare.*put user_behavior\.csv into raw/"
        ):
            shop.run()
        shop.run(["collect", "clean"])


def test_a_wrong_model_is_told_before_anything_is_collected(folder: Path) -> None:
    for wrong, says in (("populrity", "did you mean 'popularity'?"), ("no.such:Mine", "no module")):
        (folder / "shop.toml").write_text(f'models = ["popularity", "{wrong}"]\nbuckets = 2\n')
        with Shop.open(folder) as shop:
            before = shop.assets.catalog.runs(limit=1)
            with pytest.raises(InputError, match=re.escape(says)):
                shop.run()
            assert shop.assets.catalog.runs(limit=1) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'name = "a"\nmodels popularity\n', "shop.toml:2: no valid TOML: Expected '='"),
        (b'name = "a"\nmodels popularity\n', "the line is: models popularity; correct it, then"),
        (b'models = ["ease"', "shop.toml:1: no valid TOML: Unclosed array, where the file ends"),
        (
            'buckets = 2\nname = "掌柜"'.encode("gb18030"),
            "shop.toml:2: this line is not utf-8; save",
        ),
        (b'currency = "EURO"', 'currency = "EURO": string should have at most 3 characters; cor'),
        (
            b'timezone = "Asia/Shangai"',
            "no time zone 'Asia/Shangai'; did you mean 'Asia/Shanghai'?",
        ),
    ],
)
def test_a_broken_shop_toml_is_told_with_its_line(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "shop.toml").write_bytes(text)
    with pytest.raises(InputError, match=re.escape(says)):
        Shop.open(tmp_path)


def test_a_users_model_that_is_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "brokenmodel.py").write_text("class Mine:\n    def (\n")
    with pytest.raises(
        InputError, match=r"brokenmodel\.py:2: the module of model .* no valid Python"
    ):
        registry.resolve("brokenmodel:Mine", tmp_path)


# docs/troubles.md: what is read there is what is read here


def behaviour(folder: Path, *rows: str, name: str = "user_behavior.csv") -> Path:
    """A file of 70 good events (user, item, time, price), with `rows` below them."""
    good = [f"u{n % 7},i{n % 5},2026-01-01 00:{n % 60:02}:{n % 7:02},5" for n in range(70)]
    path = folder / name
    path.write_text("\n".join(["user_id,item_id,ts,price_minor", *good, *rows]) + "\n")
    (folder / "item_data.csv").write_text(
        "item_id,title\n" + "".join(f"i{n},lamp\n" for n in range(5))
    )
    (folder / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    return path


def ran(folder: Path, *steps: str) -> str:
    """What a run says: its error, or else what went to quarantine."""
    try:
        with Shop.open(folder) as shop:
            shop.run(steps)
            return "\n".join(f"{row['rule']} {row['detail']}" for row in shop.quarantine())
    except ShopkeeperError as error:
        return str(error)


def in_quarantine(row: str) -> Callable[[Path], str]:
    def happens(folder: Path) -> str:
        behaviour(folder, row)
        return ran(folder, "collect", "clean")

    return happens


def wrong_column(folder: Path) -> str:
    path = behaviour(folder)
    path.write_text(path.read_text().replace("user_id", "visitor"))
    return ran(folder)


def wrong_encoding(folder: Path) -> str:
    behaviour(folder)
    (folder / "item_data.csv").write_bytes("item_id,title\ni0,台灯\ni1,吊灯\n".encode("gb18030"))
    return ran(folder)


def empty_file(folder: Path) -> str:
    behaviour(folder).write_text("")
    return ran(folder)


def only_a_header(folder: Path) -> str:
    behaviour(folder).write_text("user_id,item_id\n")
    return ran(folder)


def no_events(folder: Path) -> str:
    behaviour(folder).unlink()
    return ran(folder)


def all_in_quarantine(folder: Path) -> str:
    behaviour(folder).write_text("user_id,item_id\nu1,gone\n")
    return ran(folder)


def truncated_parquet(folder: Path) -> str:
    path = behaviour(folder)
    table = pl.read_csv(path)
    path.unlink()
    table.write_parquet(folder / "user_behavior.parquet")
    whole = (folder / "user_behavior.parquet").read_bytes()
    (folder / "user_behavior.parquet").write_bytes(whole[: len(whole) // 2])
    return ran(folder)


def unreadable_picture(folder: Path) -> str:
    behaviour(folder)
    (folder / "images").mkdir()
    (folder / "images" / "i1.jpg").write_bytes(b"no picture")
    return ran(folder, "collect", "clean")


def rewritten(folder: Path) -> str:
    path = behaviour(folder)
    ran(folder, "collect")
    path.write_text(path.read_text().replace("u1", "u2"))
    return ran(folder, "collect")


def deleted(folder: Path) -> str:
    path = behaviour(folder, name="clicks.csv")
    (folder / "shop.toml").write_text('[[sources]]\ntable = "events"\npath = "clicks.csv"\n')
    ran(folder, "collect")
    path.unlink()
    return ran(folder, "collect")


def two_runs(folder: Path) -> str:
    behaviour(folder)
    with durable.lock(folder / "store" / "run.lock", wait=False):
        return ran(folder)


def no_release(folder: Path) -> str:
    behaviour(folder)
    with Shop.open(folder) as shop, pytest.raises(NotReady) as told:
        shop.service.recommend(user_id="u1")
    return str(told.value)


def port_taken(folder: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError) as told:
        check_port("127.0.0.1", taken.getsockname()[1])
    return str(told.value)


def open_port(folder: Path) -> str:
    with Clients.of(folder) as clients, pytest.raises(InputError) as told:
        may_bind("0.0.0.0", clients)
    return str(told.value)


def settings(text: str) -> Callable[[Path], str]:
    def happens(folder: Path) -> str:
        behaviour(folder)
        (folder / "shop.toml").write_text(text)
        return ran(folder)

    return happens


HAPPENS: dict[str, Callable[[Path], str]] = {
    "wrong column": wrong_column,
    "wrong encoding": wrong_encoding,
    "empty file": empty_file,
    "events file with only a header": only_a_header,
    "no events at all": no_events,
    "all events in quarantine": all_in_quarantine,
    "truncated Parquet": truncated_parquet,
    "NaN price": in_quarantine("u1,i1,2026-01-02 00:00:00,NaN"),
    "event from the future": in_quarantine("u1,i1,2099-01-02 00:00:00,5"),
    "unreadable picture": unreadable_picture,
    "ragged line": in_quarantine("u1,i1"),
    "line of 1 GB": in_quarantine("u1,i1,2026-01-02 00:00:00," + "5" * 17_000_000),
    "events file rewritten": rewritten,
    "file of a `[[sources]]` block deleted": deleted,
    "two runs at once": two_runs,
    "no release yet": no_release,
    "port taken": port_taken,
    "open port without a key": open_port,
    "wrong folder": ran,
    "wrong key in shop.toml": settings("[trainin]\nseed = 1\n"),
    "shop.toml is no TOML": settings('name = "a"\nmodels ease\n'),
    "wrong model in shop.toml": settings('models = ["popularty"]\n'),
}
# shown by tests of their own, here and in test_cli.py, test_kill.py
ELSEWHERE = {
    "disk full", "Ctrl-C in a run", "killed run or server, power cut", "damaged data file",
    "unreadable `current.json`",
}  # fmt: skip


def written() -> dict[str, list[str]]:
    """Each case of docs/troubles.md with the messages it shows."""
    text = (Path(__file__).parents[1] / "docs" / "troubles.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    return {row[0].removeprefix("| "): re.findall(r"`([^`]+)`", row[1]) for row in rows}


def test_every_written_trouble_is_made_to_happen() -> None:
    assert set(written()) == set(HAPPENS) | ELSEWHERE


@pytest.mark.parametrize("case", HAPPENS)
def test_what_is_written_of_a_trouble_is_what_is_read(case: str, tmp_path: Path) -> None:
    read = HAPPENS[case](tmp_path)
    for message in written()[case]:
        pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
        assert re.search(pattern, read, re.DOTALL), f"{message}\n--- is not what is read:\n{read}"
