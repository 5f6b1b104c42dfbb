def test_a_price_and_a_stock_show_in_the_next_answer(served) -> None:
    http = served.http
    assert http.patch("/v1/items/i01", json={"price_minor": 77, "stock": 3}).json() == {
        "written": 1
    }
    card = http.get("/v1/items/i01").json()
    assert (card["price_minor"], card["stock"], card["category"]) == (77, 3, "Kitchen")
    found = http.get("/v1/search", params={"q": "kettle", "filter": "price_minor:..100"}).json()
    assert [hit["item_id"] for hit in found["items"]] == ["i01"]


def test_what_is_sold_out_or_deleted_is_not_recommended(served) -> None:
    http = served.http
    top = http.get("/v1/recommendations?k=3").json()["items"]
    gone, sold = top[0]["item_id"], top[1]["item_id"]
    assert http.delete(f"/v1/items/{gone}").json() == {"deleted": gone}
    assert http.patch(f"/v1/items/{sold}", json={"stock": 0}).status_code == 200
    shown = [hit["item_id"] for hit in http.get("/v1/recommendations?k=40").json()["items"]]
    assert gone not in shown
    assert sold not in shown
    assert http.get(f"/v1/items/{gone}").status_code == 404
    assert http.delete(f"/v1/items/{gone}").status_code == 404


def test_a_new_item_is_found_by_its_words_at_once(served) -> None:
    body = {"items": [{"item_id": "new/1 é", "title": "Zanzibar hammock", "title_zh": "桑给巴尔吊床", "price_minor": 5000, "stock": 1}]}  # fmt: skip
    assert served.http.post("/v1/items", json=body).json() == {"written": 1}
    for words in ("zanzibar", "吊床"):
        hits = served.http.get("/v1/search", params={"q": words}).json()["items"]
        assert hits[0]["item_id"] == "new/1 é"
    assert served.http.get("/v1/items/new%2F1%20%C3%A9").json()["title"] == "Zanzibar hammock"


def test_a_patch_of_an_item_nobody_wrote_is_not_found(served) -> None:
    answer = served.http.patch("/v1/items/ghost", json={"stock": 4})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_put_empties_what_it_does_not_name_and_patch_does_not(served) -> None:
    http = served.http
    http.patch("/v1/items/i05", json={"brand": "Other"})
    assert http.get("/v1/items/i05").json()["title"]
    http.put("/v1/items/i05", json={"title": "Only a title"})
    card = http.get("/v1/items/i05").json()
    assert (card["title"], card["brand"], card["price_minor"]) == ("Only a title", None, None)


def test_bad_items_are_refused_with_their_place(served) -> None:
    for method, address, body, where, says in (
        ("PATCH", "/v1/items/i01", {}, "body", "no field"),
        ("PATCH", "/v1/items/i01", {"price": 3}, "body.price", "unknown name"),
        ("PATCH", "/v1/items/i01", {"price_minor": 1.5}, "body.price_minor", "integer"),
        ("PUT", "/v1/items/i01", {"stock": -1}, "body.stock", "greater"),
        ("POST", "/v1/items", {"items": [{"title": "x"}]}, "body.items.0.item_id", "required"),
        (
            "POST",
            "/v1/items",
            {"items": [{"item_id": "a"}, {"item_id": "a"}]},
            "body.items.1",
            "twice",
        ),
    ):
        response = served.http.request(method, address, json=body)
        assert response.status_code == 422, response.text
        error = response.json()["error"]
        assert error["where"] == where
        assert says in error["message"]


def test_pictures_are_the_shops_own_or_a_drawn_tile(served) -> None:
    own = served.http.get("/images/i00")
    assert own.headers["content-type"] == "image/png"
    assert own.content.startswith(b"\x89PNG")
    drawn = served.http.get("/images/i03")
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert drawn.text.startswith("<svg")
