"""The first rows of a file, read as sources are."""

import polars as pl
import pytest

from shopkeeper.collect.look import rows_of
from shopkeeper.errors import InputError, NotFound


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_every_kind_of_table_file_is_read_as_text(tmp_path, suffix: str) -> None:
    frame = pl.DataFrame({"a": ["1", "2", "3"], "名称": ["x", "y", "z"]})
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    assert rows_of(path, 2).rows() == [("1", "x"), ("2", "y")]


def test_what_is_no_file_or_no_table_is_told(tmp_path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        rows_of(tmp_path / "none.csv", 1)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="empty"):
        rows_of(tmp_path / "empty.csv", 1)
