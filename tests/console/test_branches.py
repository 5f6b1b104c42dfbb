"""Branches in the console: listed, compared, promoted or dropped after a question."""

from shopkeeper.shop import Shop

HTML = {"accept": "text/html", "accept-language": "en"}


def test_a_branch_is_compared_then_promoted_or_dropped_after_a_question(fresh) -> None:
    def page(address: str) -> str:
        answer = fresh.http.get(address, headers=HTML)
        assert answer.status_code == 200, answer.text
        return answer.text

    assert "No branch is open" in page("/console/branches")
    events = fresh.folder / "contracts" / "events.odcs.yaml"
    with Shop.open(fresh.folder) as shop:
        text = shop.contract("events")["yaml"]
        events.parent.mkdir()
        events.write_text(
            text.replace("{minimum: 0}", "{minimum: 0, maximum: 4400}"), encoding="utf-8"
        )
        for name in ("stricter", "also"):
            with shop.branch(name) as view:
                view.run(["clean.events"])
        current = shop.assets.current("clean.events").number
    listed = page("/console/branches")
    assert "stricter" in listed
    assert 'href="/console/assets/clean.events?tab=versions"' in listed
    told = page("/console/branches?branch=stricter")
    assert "clean.events@" in told.partition('id="diff"')[2]
    assert "stricter" in page("/console/assets/clean.events?tab=versions")
    asked = page("/console/branches?branch=stricter&sure=promote")
    assert "Make all that stricter wrote current?" in asked
    with Shop.open(fresh.folder) as shop:
        assert shop.assets.current("clean.events").number == current, "asking changes nothing"
    foreign = {"origin": "http://evil.example"}
    assert fresh.http.post("/console/branches/stricter/drop", headers=foreign).status_code == 403
    assert fresh.http.post("/console/branches/stricter/promote").status_code == 303
    with Shop.open(fresh.folder) as shop:
        assert shop.assets.current("clean.events").number > current
    refused = fresh.http.post("/console/branches/also/promote", headers=HTML)
    assert refused.status_code == 409
    assert "main has" in refused.text
    assert fresh.http.post("/console/branches/also/drop").status_code == 303
    assert "No branch is open" in page("/console/branches")
    assert fresh.http.get("/console/branches?branch=gone", headers=HTML).status_code == 404
