"""The command line says what happened in one line, and what to do next where it cannot."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from shopkeeper import cli
from shopkeeper.cli.answers import moves
from shopkeeper.cli.assets import listing

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shopkeeper(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process: (exit code, standard output, standard error)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shopkeeper", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "shop.toml").write_text('models = ["popularity", "item_knn"]\nbuckets = 2\n')
    events = [f"u{n % 9},i{n * 7 % 11}" for n in range(99)]
    (folder / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *events]) + "\n")
    items = [f"i{n},lamp {n}" for n in range(11)]
    (folder / "item_data.csv").write_text("\n".join(["item_id,title", *items]) + "\n")
    return folder


def test_the_loop_and_what_can_be_asked_after_it(
    shopkeeper: Run, workspace: Path, tmp_path: Path
) -> None:
    here = ("--shop", str(workspace))
    code, told, error = shopkeeper("recommend", "--user", "u1", *here)
    assert code == 3
    assert "shopkeeper run" in error
    code, told, _ = shopkeeper("run", *here, "--json")
    assert code == 0
    result = json.loads(told)
    assert {"run_id", "assets", "leaderboard", "release"} <= set(result)
    assert {"model", "metrics", "train_seconds"} <= set(result["leaderboard"][0])
    assert {"HR@10", "NDCG@10", "recall@20", "precision@10", "f1@10"} <= set(
        result["leaderboard"][0]["metrics"]
    )
    assert set(result["assets"]["raw.events"]) == {"version", "rows", "seconds"}
    for words in (
        ("status",), ("leaderboard",), ("quality",), ("quality", "events"), ("quarantine", "ls"),
        ("assets", "ls"), ("assets", "show", "clean.events"), ("assets", "history", "clean.events"),
        ("assets", "preview", "clean.events"), ("assets", "lineage", "models.item_knn"),
        ("lineage", "models.item_knn"), ("lineage", "features.sequences", "--column", "item_id"),
        ("lineage", "raw.events", "--columns", "--down", "--rows"), ("trace", "row", "user_behavior.csv", "2"),
        ("release", "ls"), ("release", "show"), ("recommend", "--user", "u1"), ("search", "lamp"),
        ("clients", "ls"), ("quarantine", "show", "events"),
    ):  # fmt: skip
        code, _, error = shopkeeper(*words, *here)
        assert code == 0, (words, error)
        code, as_json, _ = shopkeeper(*words, *here, "--json")
        assert code == 0
        json.loads(as_json)
    code, told, _ = shopkeeper("recommend", "--user", "u1", "-k", "3", *here, "--json")
    assert len(json.loads(told)["items"]) == 3
    out = tmp_path / "all.csv"
    code, told, _ = shopkeeper("recommend", "--all", "--out", str(out), "-k", "2", *here)
    assert code == 0
    assert len(out.read_text().splitlines()) == 1 + 9 * 2
    code, told, _ = shopkeeper(
        "assets", "export", "clean.events", "--out", str(tmp_path / "e.parquet"), *here
    )
    assert code == 0
    code, told, _ = shopkeeper("clients", "add", "backend", *here, "--json")
    assert json.loads(told)["key"].startswith("sk_")
    assert shopkeeper("clients", "revoke", "backend", *here)[0] == 0


def test_assets_are_listed_in_lines_that_fit_the_terminal() -> None:
    row = {"kind": "table", "grade": "internal", "number": 12, "rows": 1_234_567, "bytes": 9_876_543,
           "created_at": "2026-11-24T05:28:14.000000+00:00"}  # fmt: skip
    told = [
        {**row, "name": "clean.events", "description": "events, checked and repaired " * 5},
        {**row, "name": "reports.每日渠道汇总", "description": "按渠道和日期汇总的订单、退货与成交总额" * 3},
        {**row, "name": "models.ease", "description": "a model", "number": None, "rows": None,
         "bytes": None, "created_at": None},
    ]  # fmt: skip
    for width in (80, 120):
        lines = listing(told, width)
        assert max(map(cell_len, lines)) <= width
        assert all(any(one["name"] in line for line in lines) for one in told)
    assert len(listing(told, 120)) == 1 + 3
    narrow = listing(told, 80)
    assert narrow[0] == "clean.events @12"
    assert narrow[1].startswith("    table, 1,234,567 rows, 9.9 MB, internal, 2026-11-24: events, ")
    assert narrow[1].endswith("…")
    assert narrow[2] == "reports.每日渠道汇总 @12"
    whole = listing(told, None)
    assert all(line.endswith(one["description"].strip()) for one, line in zip(told, whole[1:], strict=True))  # fmt: skip
    assert len({cell_len(line.partition("2026")[0]) for line in whole[1:3]}) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("run",), 2, "make one with: shopkeeper init"),
        (("status",), 2, "shop.toml"),
        (("search", "x"), 2, "shop.toml"),
        (("clients", "ls"), 2, "shopkeeper init"),
    ],
)
def test_an_empty_folder_is_told_with_the_next_step(
    shopkeeper: Run, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    found, _, error = shopkeeper(*words, "--shop", str(tmp_path))
    assert (found, error.count("\n")) == (code, 1)
    assert says in error


def test_init_makes_a_workspace_once(shopkeeper: Run, tmp_path: Path) -> None:
    assert shopkeeper("init", str(tmp_path / "new"))[0] == 0
    code, _, error = shopkeeper("init", str(tmp_path / "new"))
    assert code == 2
    assert "there is a shop.toml here already" in error
    (tmp_path / "file").touch()
    code, _, error = shopkeeper("init", str(tmp_path / "file"))
    assert (code, "a file, not a folder; name an empty folder" in error) == (2, True)
    code, _, error = shopkeeper("run", "--shop", str(tmp_path / "new"))
    assert code == 2
    assert "no data found" in error


def test_an_error_as_json_has_the_one_shape(shopkeeper: Run, tmp_path: Path) -> None:
    _, told, _ = shopkeeper("status", "--shop", str(tmp_path), "--json")
    assert set(json.loads(told)["error"]) == {"code", "message", "where", "next"}


def test_an_unknown_key_names_the_nearest_known_one(shopkeeper: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[trainin]\nseed = 1\n")
    assert (
        "unknown key; did you mean 'training'?" in shopkeeper("status", "--shop", str(tmp_path))[2]
    )
    (tmp_path / "shop.toml").write_text("[[sources]]\ntable='events'\npath='x'\nencodng='gbk'\n")
    assert "did you mean 'encoding'?" in shopkeeper("status", "--shop", str(tmp_path))[2]


def test_an_explained_answer_is_a_table_with_what_moved_each_item(
    shopkeeper: Run, workspace: Path
) -> None:
    here = ("--shop", str(workspace))
    assert shopkeeper("run", *here)[0] == 0
    code, told, _ = shopkeeper("recommend", "--user", "u1", "-k", "3", "--explain", *here)
    assert code == 0
    for part in ("fused", "moved by", "models.item_knn@1, weight", "snapshot  release", "policy "):
        assert part in told
    assert "{" not in told
    _, told, _ = shopkeeper("recommend", "--user", "u1", "--explain", "--json", *here)
    assert "candidates" in json.loads(told)["trace"]


def test_a_run_that_was_stopped_is_no_failure(
    shopkeeper: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    here = ("--shop", str(workspace))
    monkeypatch.setattr("shopkeeper.pipeline.land_events", stop)
    code, _, error = shopkeeper("run", *here)
    assert code == 130
    assert "stopped; what was finished is kept: the same command goes on from there" in error
    code, told, _ = shopkeeper("status", *here)
    assert code == 0
    assert "failed" not in told
    assert "bring it up to date with: shopkeeper run" in told
    monkeypatch.undo()


def test_what_moved_an_item_is_told_from_ranks_and_scores() -> None:
    trace = {
        "items": ["a", "c", "z", "d"],
        "scores": [0.9, 0.7, 0.0, 0.4],
        "positions": [1, 2, 3, 4],
        "propensity": [1.0, 0.99, 0.001, 0.99],
        "policy": {"explored": 2},
        "candidates": {
            "item_ids": ["a", "d", "b", "c", "e"],
            "fused": [0.9, 0.8, 0.75, 0.7, 0.6],
            "models": {"ease": [1.0, 2.0, 3.0, 4.0, None]},
        },
    }
    assert [(row["item_id"], row["position"], row["moved_by"]) for row in moves(trace)] == [
        ("a", 1, ""),
        ("d", 4, "viewed"),
        ("b", None, "viewed or variety"),
        ("c", 2, "others"),
        ("e", None, ""),
        ("z", 3, "exploration"),
    ]


def test_quarantine_is_told_whole_with_the_next_step(shopkeeper: Run, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,price_minor\na,NaN\nb,[/red]\nc,5\n")
    here = ("--shop", str(tmp_path))
    (tmp_path / "shop.toml").write_text("")
    assert shopkeeper("run", "collect", "clean", *here)[0] == 0
    _, told, _ = shopkeeper("quarantine", "ls", *here)
    assert "items  impossible:price_minor  1 row: items.csv:2\n" in told
    assert (
        "    price_minor is 'NaN', wanted a number, or an empty cell where it is unknown\n" in told
    )
    assert "    next: correct the calculation at the source; an unknown value is an empty" in told
    _, told, _ = shopkeeper("quarantine", "show", "items", *here)
    assert "price_minor is '[/red]', wanted a whole number of minor units" in told
    assert shopkeeper("quality", "items", *here)[0] == 0


def test_options_that_do_not_go_together_are_refused_not_dropped(
    shopkeeper: Run, workspace: Path
) -> None:
    every = ("run", "--shop", str(workspace), "--every", "1s", "--rounds", "1")
    for option in ("--force", "--json"):
        code, _, error = shopkeeper(*every, option)
        assert code == 2
        assert f"{option} does not go with --every; leave it out" in error
    code, _, error = shopkeeper("run", "--shop", str(workspace), "--rounds", "3")
    assert code == 2
    assert "--rounds counts the rounds of --every; add e.g. --every 15m" in error


def test_a_preview_takes_n_rows_and_a_table_goes_out_into_a_new_folder(
    shopkeeper: Run, workspace: Path, tmp_path: Path
) -> None:
    here = ("--shop", str(workspace))
    assert shopkeeper("run", "collect", *here)[0] == 0
    code, told, _ = shopkeeper("assets", "preview", "raw.events", "-n", "2", "--json", *here)
    assert code == 0
    assert len(json.loads(told)["rows"]) == 2
    code, _, error = shopkeeper("assets", "preview", "raw.events", "-n", "-1", *here)
    assert code == 2
    assert "greater than or equal to 1" in error
    out = tmp_path / "new" / "folder" / "events.csv"
    assert shopkeeper("assets", "export", "raw.events", "--out", str(out), *here)[0] == 0
    assert len(out.read_text().splitlines()) == 100
    blocked = out / "events.csv"  # a file stands where a folder is wanted
    code, _, error = shopkeeper("assets", "export", "raw.events", "--out", str(blocked), *here)
    assert code == 2
    assert "cannot write here" in error


def test_a_server_that_may_not_start_says_only_why(shopkeeper: Run, workspace: Path) -> None:
    here = ("--shop", str(workspace))
    assert shopkeeper("run", *here)[0] == 0
    code, told, error = shopkeeper("serve", "--host", "0.0.0.0", "--port", "18931", *here)
    assert code == 2
    assert "storefront" not in told + error
    assert "clients" in error


def test_versions_are_compared_restored_and_given_up_and_sql_asks_them(
    shopkeeper: Run, tmp_path: Path
) -> None:
    (tmp_path / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    behaviour = tmp_path / "user_behavior.csv"
    behaviour.write_text("user_id,item_id\n" + "".join(f"u{n % 9},i{n % 7}\n" for n in range(60)))
    here = ("--shop", str(tmp_path))
    assert shopkeeper("run", *here)[0] == 0
    with behaviour.open("a") as file:
        file.write("u1,i3\nu2,i4\n")
    assert shopkeeper("run", "collect", "clean", *here)[0] == 0
    counted = ("sql", "SELECT count(*) AS n FROM clean.events", "--json", *here)
    assert json.loads(shopkeeper(*counted)[1])["rows"] == [{"n": 62}]
    told = json.loads(shopkeeper("assets", "diff", "clean.events", "1", "--json", *here)[1])
    assert (told["rows"]["added"], told["rows"]["removed"]) == (2, 0)
    assert "added 2" in shopkeeper("assets", "diff", "clean.events", "1", *here)[1]
    assert shopkeeper("assets", "restore", "clean.events", "1", *here)[0] == 0
    assert json.loads(shopkeeper(*counted)[1])["rows"] == [{"n": 60}]
    at = ("sql", 'SELECT count(*) AS n FROM "clean.events@2"', "--json", *here)
    assert json.loads(shopkeeper(*at)[1])["rows"] == [{"n": 62}]
    keep = ("assets", "tidy", "--keep-last", "1", "--days", "0", "--json", *here)
    dry = json.loads(shopkeeper(*keep, "--dry-run")[1])
    assert json.loads(shopkeeper(*at)[1])["rows"] == [{"n": 62}]
    gone = json.loads(shopkeeper(*keep)[1])
    assert "clean.events@2" in [one["version"] for one in gone["removed"]]
    assert "clean.events@1" not in [one["version"] for one in gone["removed"]]  # the release's
    assert {one["version"] for one in dry["removed"]} == {one["version"] for one in gone["removed"]}
    code, _, error = shopkeeper(*at)
    assert (code, "given up" in error) == (2, True)
    assert shopkeeper("recommend", "--user", "u1", *here)[0] == 0
    code, _, error = shopkeeper("sql", "SELECT knd FROM clean.events", *here)
    assert (code, "did you mean 'kind'?" in error) == (2, True)
