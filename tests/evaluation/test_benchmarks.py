import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopkeeper.errors import InputError, NotFound
from shopkeeper.evaluation import graph_files, sequence_files, session_files
from shopkeeper.evaluation.benchmarks import PROTOCOLS, run_benchmark
from shopkeeper.evaluation.metrics import measure
from shopkeeper.features.sequences import Examples, pack
from shopkeeper.words import KIND_CODES

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SHOPKEEPER_DATA", ROOT.parent / "shared" / "data"))
KEYS = {
    "benchmark", "model", "seed", "metrics", "epochs", "train_cpu_seconds", "peak_rss_mb",
    "published",
}  # fmt: skip


def _write(folder: Path, lines: list[str]) -> Path:
    (folder / "sequences.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def _known(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here: set SHOPKEEPER_DATA to the folder that holds it")
    return folder


def test_the_last_item_is_the_test_and_the_one_before_is_validation(tmp_path: Path) -> None:
    folder = _write(tmp_path, ["7 a b c d", "8 b a e"])
    split = sequence_files.leave_one_out(sequence_files.read(folder, first_item_column=1).sequences)
    assert split.train.users == ["7", "8"]
    assert split.train.items.tolist() == [0, 1, 1]  # a b | b
    assert split.validation.first_targets.tolist() == [2, 0]  # c | a
    assert split.test.first_targets.tolist() == [3, 4]  # d | e
    assert split.test.histories.items.tolist() == [0, 1, 2, 1, 0]


def test_another_data_set_of_the_form_runs_and_quotes_nothing(tmp_path: Path) -> None:
    lines = [f"{user} " + " ".join(str((user + i) % 30) for i in range(6)) for user in range(60)]
    made = run_benchmark("amazon_beauty", _write(tmp_path, lines), "sequence_knn", 1)
    assert set(made) == KEYS
    assert made["published"] == {}
    assert made["epochs"] == 0
    assert made["metrics"]["HR@10"] == 1.0  # the next number is always the obvious answer
    assert {"NDCG@5", "NDCG@20", "MRR@10", "accuracy", "f1_weighted"} <= set(made["metrics"])
    assert json.loads(json.dumps(made)) == made


def test_attributes_become_tags_of_the_items(tmp_path: Path) -> None:
    folder = _write(tmp_path, ["1 a b c", "2 c b a"])
    text = json.dumps({"a": [5], "c": [5, 9]})
    (folder / "item2attributes.json.gz").write_bytes(gzip.compress(text.encode()))
    items = sequence_files.read(folder, first_item_column=1).items
    assert items.vocabulary.ids == ["a", "b", "c"]
    assert items.tag_offsets.tolist() == [0, 1, 1, 3]
    assert items.tag_names == ["attribute=5", "attribute=9"]


def test_an_unknown_benchmark_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        NotFound,
        match=r"no benchmark 'beauty'; there are: amazon_beauty: .*ml1m_seq.*chorus_icecat",
    ):
        run_benchmark("beauty", tmp_path, "popularity", 1)


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no sequences\.txt\.gz here"):
        run_benchmark("amazon_beauty", tmp_path, "popularity", 1)


def test_a_line_too_short_is_named_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sequences\.txt\.gz:2: 2 items, wanted at least 3"):
        run_benchmark("amazon_beauty", _write(tmp_path, ["1 a b c", "2 a b"]), "popularity", 1)


def test_a_file_that_is_no_gzip_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "sequences.txt.gz").write_bytes(b"1 a b c\n")
    with pytest.raises(InputError, match="not a gzipped text file"):
        run_benchmark("amazon_beauty", tmp_path, "popularity", 1)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_numbers_stand_for_the_very_file_they_were_measured_on(name: str) -> None:
    cut = PROTOCOLS[name].read(_known(name))
    assert cut.digest == PROTOCOLS[name].digest
    assert cut.train.offsets[-1] == len(cut.train.items)


def _gz(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def test_sessions_run_under_their_protocol_repeats_and_all(tmp_path: Path) -> None:
    sessions = [" ".join(str((n + i) % 20) for i in range(5)) for n in range(80)]
    _gz(tmp_path / "train_sessions.txt.gz", sessions)
    _gz(tmp_path / "test.txt.gz", ["3 4\t5", "7 8 7 8\t9", "11\t11"])
    made = run_benchmark("diginetica_sessions", tmp_path, "sequence_knn", 1)
    assert made["published"] == {}
    assert made["metrics"]["P@20"] == made["metrics"]["HR@20"] == 1.0  # all items are in a list
    assert made["metrics"]["accuracy"] == pytest.approx(2 / 3)


def test_the_clicks_held_out_of_sessions_are_the_last_and_always_the_same() -> None:
    sessions = pack([str(n) for n in range(50)], [4] * 50, list(range(4)) * 50)
    left, held_out = session_files.hold_out(sessions)
    assert len(held_out) == 5
    assert held_out.target_items.tolist() == [3] * 5
    assert sorted(left.lengths.tolist()) == [3] * 5 + [4] * 45
    again = session_files.hold_out(sessions)[1]
    assert again.histories.users == held_out.histories.users


def test_a_test_line_without_a_next_click_is_named(tmp_path: Path) -> None:
    _gz(tmp_path / "train_sessions.txt.gz", ["1 2"])
    _gz(tmp_path / "test.txt.gz", ["1\t2", "1 2"])
    with pytest.raises(InputError, match=r"test\.txt\.gz:2: wanted the clicks so far"):
        run_benchmark("retailrocket_sessions", tmp_path, "popularity", 1)


def test_users_and_items_run_under_their_protocol(tmp_path: Path) -> None:
    lines = [
        f"{u} " + " ".join(str(i) for i in range(u % 2, 20, 2) if (u + i) % 5) for u in range(40)
    ]
    _gz(tmp_path / "train.txt.gz", lines)
    _gz(tmp_path / "test.txt.gz", [f"{u} {next(i for i in range(u % 2, 20, 2) if not (u + i) % 5)}" for u in range(40)])  # fmt: skip
    made = run_benchmark("gowalla", tmp_path, "ease", 1)
    assert made["metrics"]["HR@5"] == 1.0  # the evens go together, and the odds
    assert {"recall@20", "NDCG@20"} <= set(made["metrics"])


def test_a_tenth_of_every_user_s_items_is_held_out_and_nothing_of_it_is_learned() -> None:
    known = pack(["a", "b", "c"], [20, 3, 2], [*range(20), 0, 1, 2, 5, 6])
    rest, held_out = graph_files.hold_out(known)
    assert rest.lengths.tolist() == [18, 2, 2]
    assert held_out.histories.users == ["a", "b"]
    for row in range(2):
        targets = held_out.target_items[
            held_out.target_offsets[row] : held_out.target_offsets[row + 1]
        ]
        mine = rest.items[rest.user(row)]
        assert not set(targets.tolist()) & set(mine.tolist())
        assert set(targets.tolist()) | set(mine.tolist()) == set(
            known.items[known.user(row)].tolist()
        )


@pytest.mark.slow
def test_sequence_knn_has_its_known_figures_on_amazon_beauty() -> None:
    made = run_benchmark("amazon_beauty", _known("amazon_beauty"), "sequence_knn", 1)
    assert abs(made["metrics"]["HR@10"] - 0.0772) < 0.001
    assert abs(made["metrics"]["NDCG@10"] - 0.0486) < 0.001
    assert made["published"]["BSARec (its repository's log)"]["HR@10"] == 0.1008


def _behaviours(folder: Path, users: int = 40) -> Path:
    """Everybody views four items, carts and buys the first, and will buy the second."""
    rows = []
    for user in range(users):
        own = [(user * 3 + step) % 50 for step in range(4)]
        rows += [(user, item, "view", "train") for item in own]
        rows += [(user, own[0], kind, "train") for kind in ("cart", "buy")]
        rows += [(user, own[3], "buy", "train")]
        rows += [(user, own[1], kind, "test") for kind in ("view", "buy")]
    columns = ["user_id", "item_id", "behavior", "split"]
    pl.DataFrame(rows, columns, orient="row").write_parquet(folder / "interactions.parquet")
    return folder


def test_purchases_among_other_behaviours_run_under_their_protocol(tmp_path: Path) -> None:
    made = run_benchmark("taobao_multibehavior", _behaviours(tmp_path), "sequence_knn", 1)
    assert made["published"] == {}
    assert made["metrics"]["HR@10"] == made["metrics"]["HR@10, seen targets"] > 0.9
    assert "HR@10, unseen targets" not in made["metrics"]  # everybody had viewed it


def test_what_was_bought_is_no_candidate_and_what_was_viewed_is() -> None:
    history = pack(["a"], [3], [0, 1, 2], kinds=[0, 0, KIND_CODES["purchase"]])
    asked = Examples(history, np.array([0, 1]), np.array([1], dtype=np.int32))
    scores = np.array([[1.0, 3.0, 9.0, 2.0]], dtype=np.float32)
    found = measure(
        lambda _: scores, asked, (1,), exclude_seen=False, exclude_kinds=(KIND_CODES["purchase"],)
    )
    assert found.metrics["HR@1"] == 1.0
    plain = measure(lambda _: scores, asked, (1,), exclude_seen=False)
    assert plain.metrics["HR@1"] == 0.0


def test_one_purchase_of_each_user_is_held_out_and_views_of_it_stay(tmp_path: Path) -> None:
    files = graph_files.read_behaviours(_behaviours(tmp_path))
    rest, held_out = graph_files.hold_out_purchase(files.train)
    assert len(held_out) == 40
    assert rest.lengths.tolist() == [6] * 40
    viewed = rest.items[rest.user(0)][rest.kinds[rest.user(0)] == KIND_CODES["view"]]
    assert held_out.first_targets[0] in viewed


def test_an_unknown_behaviour_is_named(tmp_path: Path) -> None:
    row = {"user_id": [1], "item_id": [1], "behavior": ["wave"], "split": ["train"]}
    pl.DataFrame(row).write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(InputError, match=r"behavior \['wave'\]; wanted view, cart, buy"):
        graph_files.read_behaviours(tmp_path)
