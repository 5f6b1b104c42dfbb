"""Topics of librdkafka's own in-process cluster: the real protocol, kept in memory."""

import json
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.collect import kafka as ours
from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError


def event(user: str, **more: Any) -> bytes:
    return json.dumps({"user_id": user, "item_id": "i1", **more}).encode()


@pytest.fixture
def topic(kafka: Any, request: pytest.FixtureRequest) -> str:
    """A topic of the test's own; the cluster makes it of four partitions when it is asked for."""
    return "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name)[-60:]


def source(kafka: Any, topic: str, **more: Any) -> Source:
    url = f"kafka://{kafka.brokers}"
    return Source(table="events", format="kafka", url=url, stream=topic, **more)


def test_every_partition_is_read_and_a_row_says_topic_partition_and_offset(
    kafka: Any, topic: str, tmp_path: Path, collect: Any
) -> None:
    kafka.put(topic, event("a"), event("b"), partition=0)
    kafka.put(topic, event("c"), partition=2)
    got = collect(source(kafka, topic), tmp_path)
    assert got.frame.select("user_id", "source", "file", "line").rows() == [
        ("a", topic, f"kafka:{topic}/0", 0),
        ("b", topic, f"kafka:{topic}/0", 1),
        ("c", topic, f"kafka:{topic}/2", 0),
    ]
    assert got.frame["event_id"].n_unique() == 3
    assert not collect(source(kafka, topic), tmp_path, got.positions).batches
    kafka.put(topic, event("d"), partition=2)
    assert collect(source(kafka, topic), tmp_path, got.positions).frame["user_id"].to_list() == [
        "d"
    ]


def test_what_is_no_json_object_is_put_aside_with_its_offset_and_reason(
    kafka: Any, topic: str, tmp_path: Path, collect: Any
) -> None:
    kafka.put(topic, event("a"), b"{oops", None, b"", b"[1]", b'{"user_id": "\xff"}')
    kafka.put(topic, b'{\n "user_id": "b",\n "item_id": "i2"\n}', b'{"user_id": "two\nlines"}')
    got = collect(source(kafka, topic), tmp_path)
    assert got.frame.select("user_id", "line").rows() == [("a", 0), ("b", 6)]
    assert got.rejects.select("line", "rule").rows() == [
        (1, "not_json"),
        (2, "tombstone"),
        (3, "empty"),
        (4, "not_an_object"),
        (5, "encoding"),
        (7, "not_json"),
    ]
    assert got.rejects["file"].unique().to_list() == [f"kafka:{topic}/0"]


def test_key_time_and_nested_values_are_columns_where_shop_toml_names_them(
    kafka: Any, topic: str, tmp_path: Path, collect: Any
) -> None:
    order = {"customer": {"id": 7, "n": {"x": "deep"}}, "sku": "i9", "total": 1.5}
    kafka.put(topic, json.dumps(order).encode(), key="shop-3")
    columns = {"user_id": "customer.id", "item_id": "sku", "query": "customer.n.x"}
    columns |= {"shop_id": "@key", "ts": "@timestamp"}
    got = collect(source(kafka, topic, columns=columns, units={"ts": "ms"}), tmp_path)
    row = got.frame.row(0, named=True)
    assert [row[c] for c in ("user_id", "item_id", "query", "shop_id")] == [
        "7",
        "i9",
        "deep",
        "shop-3",
    ]
    assert row["ts"].startswith("20")


def test_a_message_without_a_needed_column_is_a_row_for_cleaning_once_others_had_it(
    kafka: Any, topic: str, tmp_path: Path, collect: Any
) -> None:
    kafka.put(topic, b'{"colour": "red"}')
    with pytest.raises(InputError, match="no column 'user_id'"):
        collect(source(kafka, topic), tmp_path)
    kafka.put(topic, event("a"))
    first = collect(source(kafka, topic), tmp_path)
    assert first.frame["user_id"].to_list() == [None, "a"]
    kafka.put(topic, b'{"colour": "blue"}')
    later = collect(source(kafka, topic), tmp_path, first.positions)
    assert later.frame.select("user_id", "line").rows() == [(None, 2)]


def test_what_retention_deleted_before_it_was_read_is_told(
    kafka: Any, topic: str, tmp_path: Path, collect: Any
) -> None:
    kafka.put(topic, event("a"))
    first = collect(source(kafka, topic), tmp_path)
    kafka.put(topic, *(event(f"u{n}", query="x" * 99_000) for n in range(60)))  # of 5 MB that stay
    later = collect(source(kafka, topic), tmp_path, first.positions)
    lost = later.rejects.row(0, named=True)
    assert (lost["line"], lost["rule"]) == (1, "gap")
    assert "were deleted by the topic's retention before they were read" in lost["detail"]
    assert later.frame.height + int(lost["detail"].split()[0]) == 60
    assert not collect(source(kafka, topic), tmp_path, later.positions).batches


def test_a_topic_made_anew_is_noticed(kafka: Any, topic: str, tmp_path: Path, collect: Any) -> None:
    kafka.put(topic, event("a"), event("b"))
    part = f"kafka:{topic}/0"
    with pytest.raises(InputError, match=r"read up to offset 9, but its newest is 1: .*made anew"):
        collect(source(kafka, topic), tmp_path, {part: {"offset": 9, "crc": 1}})
    with pytest.raises(InputError, match="another message stands at offset 0 now"):
        collect(source(kafka, topic), tmp_path, {part: {"offset": 1, "crc": 1}})


def test_the_group_is_told_how_far_rows_are_saved(
    kafka: Any, topic: str, tmp_path: Path, collect: Any
) -> None:
    from confluent_kafka import Consumer, TopicPartition

    kafka.put(topic, event("a"), event("b"))
    collect(source(kafka, topic, options={"group.id": topic}), tmp_path)
    group = Consumer({"bootstrap.servers": kafka.brokers, "group.id": topic})
    committed = group.committed([TopicPartition(topic, 0)], timeout=10)
    group.close()
    assert committed[0].offset == 2


def test_an_unknown_topic_a_bad_setting_and_a_dead_broker_say_what_to_do(
    kafka: Any, topic: str, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no topic 'nowhere'.*found: .*correct `stream`"):
        collect(source(kafka, "nowhere"), tmp_path)
    with pytest.raises(InputError, match=r"does not take these settings: .*no\.such"):
        collect(source(kafka, topic, options={"no.such": "1"}), tmp_path)
    monkeypatch.setattr(ours, "ANSWER", 0.3)
    dead = Source(table="events", format="kafka", url="kafka://127.0.0.1:9", stream=topic)
    with pytest.raises(SourceError, match="Kafka did not answer as it should") as error:
        collect(dead, tmp_path)
    assert error.value.retryable


def test_secrets_stand_in_the_environment_only(
    kafka: Any, topic: str, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"sasl\.password.* holds a secret"):
        source(kafka, topic, options={"sasl.password": "hunter2"})
    with pytest.raises(ValueError, match="`url` holds a password"):
        Source(table="events", format="kafka", url="kafka://me:hunter2@h:9092", stream=topic)
    kafka.put(topic, event("a"))
    monkeypatch.setenv("BROKERS", kafka.brokers)
    named = source(kafka, topic).model_copy(update={"url": "kafka://${BROKERS}"})
    assert collect(named, tmp_path).frame.height == 1
    monkeypatch.delenv("KAFKA_PASSWORD", raising=False)
    secret = source(kafka, topic, options={"sasl.password": "${KAFKA_PASSWORD}"})
    with pytest.raises(InputError, match=r"`options.sasl.password` takes \$\{KAFKA_PASSWORD\}"):
        collect(secret, tmp_path)
