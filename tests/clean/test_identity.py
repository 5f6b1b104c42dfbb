"""Who is whom: the rule on a few users, on planted truth, and through the whole loop."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets.buckets import bucket_of
from shopkeeper.clean import identity
from shopkeeper.config import IdentityKey, IdentitySettings
from shopkeeper.demo import people
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

MAIL: dict[str, Any] = {"from": "users.attributes.mail", "normalise": "email"}
PHONE: dict[str, Any] = {"from": "users.attributes.phone", "weight": 0.5}
DEVICE: dict[str, Any] = {"from": "users.attributes.device", "weight": 0.5}


def settings(**keys: dict[str, Any]) -> IdentitySettings:
    return IdentitySettings.model_validate({"keys": keys})


def values(**users: dict[str, str]) -> pl.DataFrame:
    rows = [
        (user, key, value, "s", "users.csv", line)
        for line, (user, known) in enumerate(users.items(), start=2)
        for key, value in known.items()
    ]
    return pl.DataFrame(rows, schema=identity.VALUES, orient="row")


def persons(told: pl.DataFrame, asked: IdentitySettings, **more: Any) -> dict[str, str]:
    return dict(identity.stitch(told, asked, **more).persons.iter_rows())


def test_a_strong_key_links_alone_and_weak_ones_only_together() -> None:
    told = values(
        a={"mail": "x@y.z", "phone": "1"},
        b={"mail": "x@y.z"},
        c={"phone": "1"},
        d={"phone": "2", "device": "t"},
        e={"phone": "2", "device": "t"},
    )
    found = identity.stitch(told, settings(mail=MAIL, phone=PHONE, device=DEVICE))
    assert dict(found.persons.iter_rows()) == {"a": "a", "b": "a", "d": "d", "e": "d"}
    link = found.links.filter(pl.col("key") == "mail").row(0, named=True)
    assert (link["a"], link["b"], link["outcome"], link["score"]) == ("a", "b", "linked", 1.0)
    assert (link["a_file"], link["a_line"], link["b_line"]) == ("users.csv", 2, 3)


def test_a_value_that_more_users_share_than_may_links_nobody() -> None:
    told = values(**{f"u{n}": {"mail": "info@y.z"} for n in range(3)})
    assert persons(told, settings(mail=MAIL | {"max_users": 2})) == {}
    assert len(persons(told, settings(mail=MAIL | {"max_users": 3}))) == 3


def test_different_values_of_a_strong_key_veto_a_link_and_a_typing_error_does_not() -> None:
    card = {"from": "users.attributes.card"}
    told = values(
        a={"mail": "x@y.z", "card": "1001"},
        b={"mail": "x@y.z", "card": "2002"},
        c={"mail": "v@y.z", "card": "1234"},
        d={"mail": "v@y.z", "card": "1243"},
    )
    found = identity.stitch(told, settings(mail=MAIL, card=card))
    assert found.persons.height == 0
    assert found.links.select("outcome", "detail").unique().rows() == [("vetoed", "card")]
    assert set(persons(told, settings(mail=MAIL, card=card | {"typos": True}))) == {"c", "d"}


def test_no_chain_of_links_joins_two_that_a_key_tells_apart() -> None:
    card = {"from": "users.attributes.card"}
    told = values(
        a={"mail": "x@y.z", "card": "1001"},
        b={"mail": "x@y.z", "phone": "1", "device": "t"},
        c={"card": "2002", "phone": "1", "device": "t"},
    )
    assert persons(told, settings(mail=MAIL, card=card, phone=PHONE, device=DEVICE)) == {
        "a": "a",
        "b": "a",
    }


def test_who_was_taken_apart_does_not_meet_through_a_third() -> None:
    told = values(a={"mail": "x@y.z"}, b={"mail": "x@y.z"}, c={"mail": "x@y.z"})
    assert persons(told, settings(mail=MAIL), apart=[("a", "c")]) == {"a": "a", "b": "a"}


def test_a_person_is_called_by_the_id_that_registered_first() -> None:
    told = values(a={"mail": "x@y.z"}, b={"mail": "x@y.z"}, c={"mail": "x@y.z"})
    since = {"b": datetime(2024, 1, 1, tzinfo=UTC), "a": datetime(2025, 1, 1, tzinfo=UTC)}
    assert set(persons(told, settings(mail=MAIL), since=since).values()) == {"b"}


@pytest.mark.parametrize(
    ("how", "written", "read"),
    [
        ("email", " Li.Na+shop@Mail.CN", "li.na@mail.cn"),
        ("email", "no address", None),
        ("phone", "+86 138-0013-8000", "13800138000"),
        ("phone", "0086 138 0013 8000", "13800138000"),
        ("phone", "13800138000", "13800138000"),
        ("phone", "13800138000.0", "13800138000"),
        ("phone", "8613800138000", "13800138000"),
        ("phone", "8613800138000.0", "13800138000"),
        ("phone", "010 8613 1234", "1086131234"),
        ("phone", "8613 1234", "86131234"),
        ("phone", "12", None),
        ("name", "ＬＩ  Na", "lina"),
        ("lower", " A1 ", "a1"),
        ("exact", "无", None),
        ("exact", "000", None),
    ],
)
def test_values_are_compared_as_that_kind_of_thing_is_written(
    how: str, written: str, read: str | None
) -> None:
    key = IdentityKey.model_validate(
        {"from": "users.region", "normalise": how, "country": "86", "ignore": ["000"]}
    )
    made = pl.DataFrame({"v": [written]}).select(identity.normalised(pl.col("v"), key))
    assert made.item() == read


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [("abcd", "abdc", True), ("abcd", "abxd", True), ("abcd", "abd", True), ("abcd", "abcde", True),
     ("abcd", "badc", False), ("abcd", "ab", False), ("abcd", "dcba", False)],
)  # fmt: skip
def test_one_typo_is_a_sign_more_less_other_or_two_swapped(a: str, b: str, near: bool) -> None:
    assert identity.one_typo(a, b) is near
    assert identity.one_typo(b, a) is near


@pytest.mark.parametrize(
    ("a", "b", "linked"),
    [("wangwei", "wangwie", True), ("王小明", "王小明a", True), ("王伟", "王芳", False),
     ("王伟", "王小伟", False), ("王小明", "王明小", False), ("김민수", "김민서", False)],
)  # fmt: skip
def test_one_character_other_is_no_typing_error_that_links(a: str, b: str, linked: bool) -> None:
    name = {"from": "users.attributes.name", "weight": 0.3, "veto": True, "typos": True}
    phone = {"from": "users.attributes.phone", "weight": 0.85}
    told = values(u={"phone": "1", "name": a, "mail": "m"}, v={"phone": "1", "name": b})
    assert bool(persons(told, settings(name=name, phone=phone))) is linked
    both = values(u={"mail": "m", "name": a}, v={"mail": "m", "name": b})  # nor one that vetoes
    assert persons(both, settings(name=name, mail=MAIL))


def test_two_ids_that_count_their_events_alike_keep_both_events() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = pl.DataFrame(
        {"user_id": ["a", "b", "c"], "event_id": ["1", "1", "1"], "ts": [at, at, at], "seq": [1, 0, 2]}
    )  # fmt: skip
    who = pl.DataFrame([("a", "a"), ("b", "a")], schema=identity.PERSONS, orient="row")
    made = identity.follow(events, who)
    assert made.select("user_id", "event_id").rows() == [("a", "b/1"), ("a", "1"), ("c", "1")]


def test_on_planted_truth_precision_is_99_percent_at_a_recall_of_90() -> None:
    made = people.make(8000, seed=77)
    asked = IdentitySettings.model_validate({"keys": people.KEYS})
    frame = made.users.with_columns(source=pl.lit("u"), file=pl.lit("u"), line=pl.lit(1, pl.Int64))
    told = identity.key_values(frame, asked.keys, "users")
    found = identity.stitch(told, asked)
    figures = people.judge(dict(found.persons.iter_rows()), made.person)
    assert figures["precision"] >= 0.99
    assert figures["recall"] >= 0.9
    again = identity.stitch(told.sample(fraction=1.0, shuffle=True, seed=3), asked)
    assert again.persons.equals(found.persons)
    assert again.links.equals(found.links)


# the loop

TOML = 'models = ["popularity", "item_knn"]\nbuckets = 4\n[serving]\nexploration = 0.0\n'
KEYS = '[identity.keys.mail]\nfrom = "users.attributes.mail"\nnormalise = "email"\n'
STITCHED = ("u0", "w0")  # in different buckets of four


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Forty users; w0 is u0 on the web, w1 is u1 and wants no personalisation."""
    lines = ["event_id,user_id,item_id,ts"]
    for n in range(400):
        user = ("u" if n % 3 else "w") + str(n % 20)
        lines.append(f"e{n},{user},i{n % 30},2026-01-01T{n // 60:02}:{n % 60:02}:00Z")
    (tmp_path / "user_behavior.csv").write_text("\n".join(lines) + "\n")
    items = "".join(f"i{n},thing {n}\n" for n in range(30))
    (tmp_path / "item_data.csv").write_text("item_id,title\n" + items)
    users = ["user_id,mail,personalisation", "u0,One@x.cn,true", "w0,one@x.cn,true"]
    users += ["u1,two@x.cn,true", "w1,two@x.cn,false"]
    (tmp_path / "users.csv").write_text("\n".join(users) + "\n")
    (tmp_path / "shop.toml").write_text(TOML)
    return tmp_path


def read(opened: Shop, name: str) -> pl.DataFrame:
    return opened.assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)


def test_events_follow_the_person_and_an_unlink_parts_them_again(shop: Path) -> None:
    assert len({bucket_of(user, 4) for user in STITCHED}) == 2
    with Shop.open(shop) as opened:
        opened.run(["collect", "clean", "features"])
        assert not opened.assets.exists(identity.IDENTITIES)
        plain = {n: opened.assets.current(n).digest for n in ("clean.events", "features.sequences")}
        apart = read(opened, "clean.events")
        raw = opened.assets.current("raw.events").digest
    (shop / "shop.toml").write_text(TOML + KEYS)
    with Shop.open(shop) as opened:
        opened.run(["clean", "features"])
        events = read(opened, "clean.events")
        assert events.height == apart.height
        assert set(STITCHED) & set(events["user_id"]) == {"u0"}
        both = apart.filter(pl.col("user_id").is_in(STITCHED)).sort("ts")["event_id"].to_list()
        assert events.filter(pl.col("user_id") == "u0")["event_id"].to_list() == both
        here = opened.assets.read(
            "clean.events", by=OWNER, purpose=Purpose.ANALYSE, buckets=[bucket_of("u0", 4)]
        )
        assert here.filter(pl.col("user_id") == "u0").height == len(both)
        assert opened.assets.current("raw.events").digest == raw
        told = opened.identities("w0")
        assert (told["person"], told["users"]) == ("u0", ["u0", "w0"])
        [link] = told["links"]
        assert (link["key"], link["outcome"]) == ("mail", "linked")
        assert {link["evidence"][side]["line"] for side in "ab"} == {2, 3}
        assert "one@x.cn" not in json.dumps(told)
        opened.unlink("w0", "u0", "a mother and her son")
    with Shop.open(shop) as opened:  # another process heeds it
        opened.run(["clean", "features"])
        assert set(STITCHED) <= set(read(opened, "clean.events")["user_id"])
        [link] = opened.identities("w0")["links"]
        assert link["outcome"] == "apart"
        [decision] = opened.identities("w0")["decisions"]
        assert (decision["why"], decision["by"]) == ("a mother and her son", OWNER.name)
        opened.relink("u0", "w0", "no, one person after all")
        opened.run(["clean"])
        assert opened.identities("w0")["person"] == "u0"
    (shop / "shop.toml").write_text(TOML)
    with Shop.open(shop) as opened:
        opened.run(["clean", "features"])
        assert plain == {n: opened.assets.current(n).digest for n in plain}


def test_an_alias_is_answered_as_the_person_and_one_no_is_the_no_of_all(shop: Path) -> None:
    (shop / "shop.toml").write_text(TOML + KEYS)
    with Shop.open(shop) as opened:
        opened.run()
        live = opened.service._live.histories  # what an answer is computed from
        assert live.of("w0").acts == live.of("u0").acts
        assert len(live.of("w0").acts) > 0
        opened.service.record([{"user_id": "w0", "item_id": "i29", "kind": "cart"}])
        assert live.of("u0").acts[-1].item_id == "i29"
        assert {"u1", "w1"} <= opened.service._live.release.opted_out


@pytest.mark.parametrize(
    ("stands", "told"),
    [
        ("users.mail", r'other columns of users are attributes: from = "users.attributes.mail"'),
        ("events.device_id", r"events has no column 'device_id'; it has: event_id, user_id"),
        ("users.region.city", r"users.region is one value and has no part 'city'"),
    ],
)
def test_a_key_in_a_column_that_is_not_there_is_told(shop: Path, stands: str, told: str) -> None:
    (shop / "shop.toml").write_text(TOML + f'[identity.keys.k]\nfrom = "{stands}"\n')
    with Shop.open(shop) as opened, pytest.raises(InputError, match=told):
        opened.run(["collect", "clean"])


def test_a_decision_needs_a_reason_and_two_ids_that_are_one_person(shop: Path) -> None:
    (shop / "shop.toml").write_text(TOML + KEYS)
    with Shop.open(shop) as opened:
        opened.run(["collect", "clean"])
        with pytest.raises(InputError, match="no reason given"):
            opened.unlink("u0", "w0", " ")
        with pytest.raises(NotFound, match="are not one person"):
            opened.unlink("u0", "u1", "never were")
        with pytest.raises(NotFound, match="were not taken apart"):
            opened.relink("u0", "w0", "by mistake")


@pytest.mark.parametrize("name", ["a\\b", "ends in \\", 'says "so"', "电话", "a.b"])
def test_an_attribute_may_have_any_name_that_shop_toml_can_say(name: str) -> None:
    key = IdentityKey.model_validate({"from": f"users.attributes.{name}"})
    told = [{name: "v"}, {name: None}, {"other": 1}, {name: 7}, [1]]
    frame = pl.DataFrame(
        {"user_id": list("abcde"), "attributes": [json.dumps(one, ensure_ascii=False) for one in told],
         "source": "s", "file": "f", "line": [1, 2, 3, 4, 5]}
    )  # fmt: skip
    made = identity.key_values(frame, {"k": key}, "users")
    assert made.sort("user_id").select("user_id", "value").rows() == [("a", "v"), ("d", "7")]
