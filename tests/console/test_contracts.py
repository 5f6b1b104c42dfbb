"""The contract editor: checked as one types, saved only when valid, never by a foreign page."""

import re
import shutil

import pytest

from shopkeeper.assets.contracts import built_in_text
from shopkeeper.errors import InputError
from shopkeeper.shop import Shop

HTML = {"accept": "text/html", "accept-language": "en"}
SHOPS = built_in_text("shops")
STRICT = SHOPS.replace("maxLength: 256", "maxLength: 25")


def test_the_check_is_a_part_of_a_page(served) -> None:
    address = "/console/contracts/shops/check"
    told = served.http.post(address, data={"text": STRICT.replace("\n", "\r\n")}, headers=HTML).text
    assert "<html" not in told
    assert "breaking" in told
    assert "256 → 25" in told
    wrong = served.http.post(address, data={"text": "name: ["}, headers=HTML).text
    assert "line 1" in wrong


def test_a_valid_contract_is_saved_and_shown(served) -> None:
    answer = served.http.post("/console/contracts/shops", data={"text": STRICT}, headers=HTML)
    try:
        assert answer.status_code == 303
        page = served.http.get(answer.headers["location"], headers=HTML).text
        assert "Saved as contracts/shops.odcs.yaml" in page
        assert (served.folder / "contracts" / "shops.odcs.yaml").read_text("utf-8") == STRICT
        listed = served.http.get("/console/contracts", headers=HTML).text
        assert "own" in listed
    finally:
        shutil.rmtree(served.folder / "contracts")


def test_an_invalid_one_comes_back_as_it_was_typed(served) -> None:
    text = "name: [mine"
    answer = served.http.post("/console/contracts/shops", data={"text": text}, headers=HTML)
    assert answer.status_code == 422
    assert text in answer.text
    assert not (served.folder / "contracts").exists()


def test_a_text_nested_without_end_is_told_and_breaks_nothing(served) -> None:
    address = "/console/contracts/shops/check"
    answer = served.http.post(address, data={"text": "[" * 5_000}, headers=HTML)
    assert answer.status_code == 200
    assert "nested too deeply" in answer.text


def test_a_page_of_another_site_saves_nothing(served) -> None:
    headers = {"origin": "http://evil.example"}
    answer = served.http.post("/console/contracts/shops", data={"text": STRICT}, headers=headers)
    assert answer.status_code == 403
    assert not (served.folder / "contracts").exists()


def test_a_form_that_holds_no_contract_is_refused_before_it_is_read_whole(served) -> None:
    answer = served.http.post("/console/contracts/shops", data={"text": "x" * 600_000})
    assert answer.status_code == 413


def test_a_breaking_change_is_shown_with_its_difference_and_accepted_for_that_alone(fresh) -> None:
    events = built_in_text("events")
    stricter = events.replace("maximum: 10000000}", "maximum: 5000}")
    assert stricter != events
    page = fresh.http.get("/console/contracts/events", headers=HTML).text
    assert 'id="pending"' not in page, "nothing has changed yet"
    fresh.http.post("/console/contracts/events", data={"text": stricter}, headers=HTML)
    page = fresh.http.get("/console/contracts/events", headers=HTML).text
    part = page.partition('id="pending"')[2].partition("</section>")[0]
    assert "10000000 → 5000" in part
    assert "the next run stops for it" in part
    digest = re.search(r'name="digest" value="(\w+)"', part)
    assert digest is not None
    address = "/console/contracts/events/accept"
    other = fresh.http.post(address, data={"digest": "0" * 64}, headers=HTML)
    assert other.status_code == 409
    assert "was changed meanwhile" in other.text
    foreign = fresh.http.post(
        address, data={"digest": digest[1]}, headers={"origin": "http://evil.example"}
    )
    assert foreign.status_code == 403
    with Shop.open(fresh.folder) as shop:
        with pytest.raises(InputError, match="1 breaking change of contracts: events: quantity"):
            shop.run(["clean.events"])
        assert fresh.http.post(address, data={"digest": digest[1]}, headers=HTML).status_code == 303
        page = fresh.http.get("/console/contracts/events", headers=HTML).text
        assert "Accepted by console" in page
        told = shop.run(["clean.events"])
        assert [one["accepted"] for one in told["contracts"]] == [True]
        assert shop.contract_pending("events") is None, "what was accepted holds now"
        again = stricter.replace("maximum: 5000}", "maximum: 4000}")
        shop.contract_save("events", again)
        assert shop.contract_pending("events")["stops"], "another change is not accepted with it"
