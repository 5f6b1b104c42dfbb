from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml

from shopkeeper.assets import contracts
from shopkeeper.collect.tables import COLUMNS
from shopkeeper.errors import InputError
from shopkeeper.words import TABLES, Grade, Purpose

HEAD = """
apiVersion: v3.1.0
kind: DataContract
id: mine
name: events
version: 2.0.0
status: active
schema:
  - name: events
    properties:
"""


def override(
    folder: Path, text: str, name: str = "events.odcs.yaml"
) -> dict[str, contracts.Contract]:
    (folder / "contracts").mkdir(exist_ok=True)
    (folder / "contracts" / name).write_text(text, encoding="utf-8")
    return contracts.load(folder)


@pytest.mark.parametrize("name", TABLES)
def test_built_in_contracts_are_valid_by_the_schema_of_the_standard(name: str) -> None:
    document = yaml.safe_load(contracts.built_in_text(name))
    jsonschema.Draft201909Validator(contracts.odcs_schema()).validate(document)
    assert document["apiVersion"] == "v3.1.0"


@pytest.mark.parametrize("name", TABLES)
def test_a_contract_names_the_columns_that_collect_hands_over(name: str) -> None:
    assert contracts.built_in(name).names == COLUMNS[name]


@pytest.mark.parametrize("name", TABLES)
def test_a_contract_says_owner_purposes_and_grade(name: str) -> None:
    contract = contracts.built_in(name)
    assert contract.owner == "local-owner"
    assert set(contract.purposes) <= set(Purpose)
    assert contract.purposes
    order = list(Grade)
    assert order.index(contract.grade) >= max(order.index(c.grade) for c in contract.columns)


def test_what_names_a_person_is_marked() -> None:
    for name in ("events", "users"):
        user = contracts.built_in(name).column("user_id")
        assert user.pii
        assert user.grade == Grade.PERSONAL


def test_rules_find_what_breaks_them_and_only_that() -> None:
    document = HEAD + "\n".join(
        [
            "      - {name: kind, required: true, quality: [{metric: invalidValues, arguments: {validValues: [view, cart]}, mustBe: 0}]}",
            "      - {name: quantity, logicalType: integer, logicalTypeOptions: {minimum: 1, exclusiveMaximum: 5}}",
            "      - {name: query, logicalType: string, logicalTypeOptions: {maxLength: 3, pattern: '^[a-z]+$'}}",
        ]
    )
    rules = contracts.rules(contracts.parse(document, "test"))
    frame = pl.DataFrame(
        {
            "kind": ["view", None, "buy", "cart", "view"],
            "quantity": [1, 0, 4, 5, None],
            "query": ["ab", "abcd", "灯", None, "A"],
        }
    )
    broken = {
        rule.name: frame.select(rule.broken.fill_null(False)).to_series().arg_true().to_list()
        for rule in rules
    }
    assert broken == {
        "required:kind": [1],
        "allowed:kind": [2],
        "range:quantity": [1, 3],
        "length:query": [1],
        "pattern:query": [2, 4],
    }


def test_an_override_replaces_the_columns_it_names_and_no_others(tmp_path: Path) -> None:
    text = HEAD + "      - {name: price_minor, logicalType: integer, required: true}\n"
    found = override(tmp_path, text)
    events, before = found["events"], contracts.built_in("events")
    assert events.version == "2.0.0"
    assert events.column("price_minor").required
    assert events.column("price_minor").minimum is None
    assert events.column("kind") == before.column("kind")
    assert events.names == before.names
    assert (events.purposes, events.grade) == (before.purposes, before.grade)
    assert events.digest != before.digest
    assert found["items"] == contracts.built_in("items")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "a contract is a mapping, found list"),
        ("kind: DataContract", "not valid ODCS 3.1 at the document: "),
        (HEAD + "      - {name: kind, logicalType: text}", "ODCS 3.1 at schema/0/properties/0/logicalType"),
        (HEAD + "      - {name: kinds}", "has no column 'kinds'; did you mean 'kind'?"),
        (HEAD + "      - {name: kind, logicalType: integer}", "column 'kind' is declared integer, it is string"),
        (HEAD + "      - {name: kind, classification: secret}", "'secret' is not one of public, internal"),
        (
            HEAD + "      - {name: kind, quality: [{metric: rowCount, mustBe: 1}]}",
            "metric rowCount stands under the table",
        ),
        (
            HEAD + "      - {name: kind, logicalType: string, logicalTypeOptions: {pattern: '(?=x)'}}",
            "column 'kind': pattern '(?=x)' cannot be read",
        ),
        (
            HEAD + "      - {name: ts, logicalType: timestamp, logicalTypeOptions: {minimum: soon}}",
            "column 'ts': 'soon' is no time",
        ),
        (
            HEAD + "      - {name: quantity, logicalType: integer, logicalTypeOptions: {multipleOf: 2}}",
            "column 'quantity': multipleOf is not checked here",
        ),
        (
            HEAD + "      - {name: user_id, relationships: [{to: users.user_id}]}",
            "column 'user_id': a reference to 'users.user_id' is not checked here",
        ),
        (
            HEAD + "      - {name: kind, customProperties: [{property: onInvalid, value: ignore}]}",
            "onInvalid 'ignore' is not quarantine, null, zero (of numbers) or false",
        ),
        (
            HEAD + "      - {name: kind, customProperties: [{property: requiredWhen, value: always}]}",
            "a condition is {column: …, in: […]}, found 'always'",
        ),
        (
            HEAD
            + "      - {name: kind, customProperties: "
            + "[{property: requiredWhen, value: {column: kin, in: [view]}}]}",
            "column 'kind': a condition on 'kin', which is no column",
        ),
    ],
)  # fmt: skip
def test_an_override_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        override(tmp_path, text)
    assert says in str(caught.value)
    assert "events.odcs.yaml" in str(caught.value)


def test_an_override_of_an_unknown_table_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table 'event'; did you mean 'events'"):
        override(tmp_path, HEAD, "event.odcs.yaml")
