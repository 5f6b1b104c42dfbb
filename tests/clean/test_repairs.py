"""Repairs: quarantined rows put right by a decision, raw rows untouched, every row accounted for."""

import pytest

from shopkeeper.assets import contracts
from shopkeeper.assets.store import Assets
from shopkeeper.clean import clean_items, repairs
from shopkeeper.clean.events import clean_events
from shopkeeper.errors import InputError, NotFound


@pytest.fixture
def work(now):
    return lambda raw: clean_events(raw, now=now)


@pytest.fixture
def assets(tmp_path):
    opened = Assets(tmp_path)
    yield opened
    opened.close()


NAMES = contracts.built_in("events").names


def repair(rule: str, *assignments: str):
    return repairs.parse(rule, assignments, NAMES)


def test_what_a_repair_makes_fit_is_clean_and_counted(events, work) -> None:
    raw = events({}, {"price_minor": "-5"}, {"kind": "lend"})
    made = repairs.clean(raw, [repair("range:price_minor", "price_minor=5")], work)
    assert made.clean.sort("seq")["price_minor"].to_list() == [None, 5]
    assert made.quarantine["rule"].to_list() == ["allowed:kind"]
    assert made.repaired["repair:range:price_minor"] == 1
    assert ("repair:range:price_minor", "WARN", 1) in made.checks.select("rule", "level", "count").rows()  # fmt: skip


def test_an_expression_looks_at_the_rows_own_text(events, work) -> None:
    raw = events({"price_minor": "-500"}, {"price_minor": "-7"})
    fix = repair("range:price_minor", "price_minor:=ABS(TRY_CAST(price_minor AS BIGINT))")
    assert repairs.clean(raw, [fix], work).clean["price_minor"].to_list() == [500, 7]


def test_a_repair_may_empty_a_value(events, work) -> None:
    raw = events({"price_minor": "-5"})
    made = repairs.clean(raw, [repair("range:price_minor", "price_minor=")], work)
    assert made.clean["price_minor"].to_list() == [None]


def test_what_is_no_better_for_it_stays_as_the_source_said_it(events, work) -> None:
    raw = events({"price_minor": "-5"})
    made = repairs.clean(raw, [repair("range:price_minor", "price_minor=-6")], work)
    assert made.quarantine["price_minor"].to_list() == ["-5"]
    assert "repaired it would be: price_minor is '-6'" in made.quarantine["detail"][0]
    assert made.repaired == {}


def test_a_repair_may_lead_into_another_rule_and_be_repaired_there(events, work) -> None:
    raw = events({"kind": "lend", "quantity": "0"})
    chain = [
        repair("range:quantity", "quantity=1"),
        repair("allowed:kind", "kind=purchase"),
    ]
    made = repairs.clean(raw, chain, work)
    assert made.clean.select("kind", "quantity").rows() == [("purchase", 1)]


def test_a_repair_that_makes_a_row_another_is_merged_and_nothing_is_lost(events, work) -> None:
    raw = events({}, {"event_id": "e0", "ts": "2026-01-01T00:00:00.000000Z", "price_minor": "-5"})
    made = repairs.clean(raw, [repair("range:price_minor", "price_minor=")], work)
    assert (made.clean.height, made.merged, made.quarantine.height) == (1, 1, 0)


def test_without_decisions_cleaning_is_as_it_was(events, work) -> None:
    raw = events({"price_minor": "-5"})
    assert repairs.clean(raw, [], work).quarantine.equals(work(raw).quarantine)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("price", "is no assignment"),
        ("prize=1", "no column prize"),
        ("price_minor:=prize + 1", "no column prize"),
        ("price_minor:=MAX(price_minor)", "looks at more than its own row"),
        ("price_minor:=ROW_NUMBER() OVER ()", "looks at more than its own row"),
        ("price_minor:=1 +", "correct the expression"),
        ("user_id=u2", "decides where a row stands"),
    ],
)
def test_what_cannot_be_heeded_is_refused(assignment: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        repairs.parse("range:price_minor", [assignment], NAMES, fixed=("user_id",))
    assert says in str(caught.value)


def test_an_expression_that_fails_says_which_repair(events, work) -> None:
    fix = repair("range:price_minor", "price_minor:=CAST(item_id AS BIGINT)")
    with pytest.raises(InputError, match=f"repair {fix.id}.*TRY_CAST"):
        repairs.clean(events({"price_minor": "-5"}), [fix], work)


def test_items_are_repaired_alike(items, now) -> None:
    raw = items({"price_minor": "12.50"}, {"price_minor": "9"})
    rule = clean_items(raw, now=now).quarantine["rule"][0]
    fix = repairs.parse(
        rule, ["price_minor:=CAST(CAST(price_minor AS DOUBLE) * 100 AS BIGINT)"], raw.columns
    )
    made = repairs.clean(raw, [fix], lambda rows: clean_items(rows, now=now))
    assert made.clean["price_minor"].to_list() == [1250, 9]


def test_decisions_are_kept_with_who_and_why_and_taken_back(assets) -> None:
    fix = repair("range:price_minor", "price_minor=")
    told = repairs.decide(assets, "events", fix, repairs.MADE, "the till sent minus", "ada")
    (kept,) = repairs.decisions(assets, "events")
    assert (kept["rule"], kept["set"], kept["by"], kept["undone"]) == (
        "range:price_minor", ["price_minor="], "ada", None,
    )  # fmt: skip
    repairs.undo(assets, "events", told["repair"], "it did not", "bob")
    (kept,) = repairs.decisions(assets, "events")
    assert kept["undone"]["by"] == "bob"
    with pytest.raises(NotFound, match="that holds; there are: none"):
        repairs.undo(assets, "events", told["repair"], "again", "bob")
    with pytest.raises(InputError, match="no reason given"):
        repairs.decide(assets, "events", fix, repairs.MADE, " ", "ada")


def test_a_run_heeds_what_holds(assets) -> None:
    first, second = repair("a", "kind=view"), repair("b", "kind=cart")
    for fix in (first, second):
        repairs.decide(assets, "events", fix, repairs.MADE, "why", "ada")
    repairs.undo(assets, "events", first.id, "why", "ada")
    with assets.run("clean.events", reads=["repairs.events"]) as run:
        assert repairs.repairs_of(run, "events") == (second,)
