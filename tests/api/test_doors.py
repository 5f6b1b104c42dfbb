from pathlib import Path

import pytest

from shopkeeper.governance.clients import KeyType

PAGE = "https://shop.example"
EVENT = {"session_id": "s1", "item_id": "i00", "kind": "view"}


@pytest.fixture
def keys(fresh) -> dict[str, str]:
    _, secret = fresh.clients.add("till")
    _, publishable = fresh.clients.add("page", KeyType.PUBLISHABLE, origins=[PAGE])
    return {"secret": secret, "publishable": publishable}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_first_key_closes_the_open_door_within_seconds(fresh) -> None:
    assert fresh.http.get("/v1/recommendations").status_code == 200
    _, key = fresh.clients.add("till")
    assert fresh.http.get("/v1/recommendations").status_code == 401
    assert fresh.http.get("/v1/recommendations", headers=bearer(key)).status_code == 200
    assert fresh.http.get("/v1/recommendations", headers={"x-api-key": key}).status_code == 200
    assert fresh.http.get("/healthz").status_code == 200


def test_a_revoked_key_ends_within_seconds(fresh, keys) -> None:
    assert fresh.http.get("/v1/status", headers=bearer(keys["secret"])).status_code == 200
    fresh.clients.revoke("till")
    assert fresh.http.get("/v1/status", headers=bearer(keys["secret"])).status_code == 401


def test_a_publishable_key_sends_browser_events_and_reads_answers_only(fresh, keys) -> None:
    headers = bearer(keys["publishable"]) | {"origin": PAGE}
    assert fresh.http.post("/v1/events", json=EVENT, headers=headers).status_code == 202
    for address in (
        "/v1/recommendations",
        "/v1/search?q=lamp",
        "/v1/suggest?q=la",
        "/v1/items/i00",
    ):
        assert fresh.http.get(address, headers=headers).status_code == 200
    bought = EVENT | {"kind": "purchase"}
    response = fresh.http.post("/v1/events", json=bought, headers=headers)
    assert response.status_code == 403
    assert "anybody could make it up" in response.json()["error"]["message"]
    assert (
        fresh.http.post("/v1/events", json=bought, headers=bearer(keys["secret"])).status_code
        == 202
    )
    for method, address in (
        ("GET", "/v1/assets"),
        ("GET", "/v1/answers/x"),
        ("GET", "/metrics"),
        ("GET", "/console"),
        ("DELETE", "/v1/items/i00"),
        ("PATCH", "/v1/items/i00"),
    ):
        response = fresh.http.request(method, address, headers=headers)
        assert response.status_code == 403, address
        assert response.json()["error"]["code"] == "denied"


def test_a_page_sees_pictures_with_its_key(fresh, keys) -> None:
    assert fresh.http.get(f"/images/i02?key={keys['publishable']}").status_code == 200
    assert fresh.http.get("/images/i02").status_code == 401


def test_a_page_key_does_not_tell_what_users_did_nor_make_up_chances(fresh, keys) -> None:
    address = "/v1/recommendations?user_id=u01&k=10"

    def told(key: str) -> set[str]:
        items = fresh.http.get(address, headers=bearer(keys[key])).json()["items"]
        return {hit["reason"]["key"] for hit in items}

    assert any(key.startswith("because_") for key in told("secret"))
    assert not any(key.startswith("because_") for key in told("publishable"))
    event = EVENT | {"propensity": 0.5}
    headers = bearer(keys["publishable"])
    response = fresh.http.post("/v1/events", json=event, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["where"] == "body.events.0.propensity"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/signin", "/as"])
def test_forms_are_not_read_beyond_their_size(fresh, path: str, chunked: bool) -> None:
    big = b"key=" + b"x" * 100_000
    content = iter([big]) if chunked else big
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = fresh.http.post(path, content=content, headers=form)
    assert response.status_code == 413
    assert response.json()["error"]["next"]


def test_a_publishable_key_works_only_from_its_own_pages(fresh, keys) -> None:
    headers = bearer(keys["publishable"]) | {"origin": "https://evil.example"}
    response = fresh.http.post("/v1/events", json=EVENT, headers=headers)
    assert response.status_code == 403
    assert "--origin https://evil.example" in response.json()["error"]["next"]
    assert "access-control-allow-origin" not in response.headers


def test_a_beacon_carries_its_key_in_the_address_and_no_secret_one_may(fresh, keys) -> None:
    address = f"/v1/events?key={keys['publishable']}"
    headers = {"origin": PAGE, "content-type": "text/plain;charset=UTF-8"}
    body = '{"session_id": "s1", "item_id": "i00", "kind": "view"}'
    response = fresh.http.post(address, content=body, headers=headers)
    assert response.status_code == 202
    assert response.headers["access-control-allow-origin"] == PAGE
    response = fresh.http.get(f"/v1/recommendations?key={keys['secret']}")
    assert response.status_code == 403
    assert "header" in response.json()["error"]["next"]
    assert fresh.http.get(f"/v1/recommendations?key={keys['publishable']}").status_code == 200


def test_browsers_are_told_which_pages_may_call(fresh, keys) -> None:
    asks = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}  # fmt: skip
    allowed = fresh.http.options("/v1/events", headers=asks)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "Content-Type" in allowed.headers["access-control-allow-headers"]
    foreign = fresh.http.options("/v1/events", headers=asks | {"origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers
    private = fresh.http.options("/v1/assets", headers=asks)
    assert "access-control-allow-origin" not in private.headers


def test_without_keys_a_foreign_page_can_neither_write_nor_pose_as_this_machine(served) -> None:
    response = served.http.post(
        "/v1/events", json=EVENT, headers={"origin": "https://evil.example"}
    )
    assert response.status_code == 403
    response = served.http.get("/v1/recommendations", headers={"host": "evil.example"})
    assert response.status_code == 401
    own = {"origin": served.url}
    assert served.http.post("/v1/events", json=EVENT, headers=own).status_code == 202


def test_a_server_told_to_listen_beyond_this_machine_is_never_open(folder, serving) -> None:
    with serving(folder, host="0.0.0.0") as public:
        assert public.http.get("/v1/recommendations").status_code == 401
        assert public.http.get("/healthz").status_code == 200


def test_a_person_signs_in_with_a_secret_key_and_out_again(fresh, keys) -> None:
    page = {"accept": "text/html"}
    response = fresh.http.get("/console", headers=page)
    assert response.status_code == 303
    assert response.headers["location"] == "/signin?next=/console"
    wrong = fresh.http.post("/signin", data={"key": "sk_wrong", "next": "/console"})
    assert wrong.status_code == 401
    assert fresh.http.post("/signin", data={"key": keys["publishable"]}).status_code == 403
    good = fresh.http.post("/signin", data={"key": keys["secret"], "next": "//evil.example"})
    assert good.status_code == 303
    assert good.headers["location"] == "/"
    cookie = good.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert keys["secret"] not in good.headers["set-cookie"]
    assert fresh.http.get("/console", headers=page).status_code == 200
    assert fresh.http.post("/v1/events", json=EVENT).status_code == 202
    foreign = {"origin": "https://evil.example"}
    assert fresh.http.post("/v1/events", json=EVENT, headers=foreign).status_code == 401
    fresh.http.post("/signout")
    assert fresh.http.get("/console", headers=page).status_code == 303


def test_behind_tls_the_session_cookie_is_secure(fresh, keys) -> None:
    form = {"key": keys["secret"]}
    behind = fresh.http.post("/signin", data=form, headers={"x-forwarded-proto": "https"})
    assert "secure" in behind.headers["set-cookie"].lower()
    proxy = Path(__file__).parents[2].joinpath("deploy/nginx.conf").read_text(encoding="utf-8")
    assert "proxy_set_header X-Forwarded-Proto $scheme;" in proxy


def test_keys_and_queries_stay_out_of_the_log(serving, folder, capfd) -> None:
    with serving(folder, log_requests=True) as running:
        _, secret = running.clients.add("till")
        _, public = running.clients.add("page", KeyType.PUBLISHABLE, origins=[PAGE])
        running.http.get(f"/v1/search?q=secret-wish&key={public}zzz")
        running.http.get("/v1/recommendations", headers=bearer(secret))
    text = "".join(capfd.readouterr())  # the server is down: it has said all it will say
    assert '"/v1/search"' in text
    assert '"/v1/recommendations"' in text
    assert "secret-wish" not in text
    assert public not in text
    assert secret not in text
