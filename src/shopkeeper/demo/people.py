"""People with several user ids, and the truth of who is whom, for measuring identity stitching.

Families share devices and sometimes a telephone or a mailbox; telephone numbers are recycled; offices
and shop tablets are shared by strangers; what people type has typing errors and many spellings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

SURNAMES = 120
GIVEN = 900
SYLLABLES = ("an", "bei", "chen", "dao", "fang", "guo", "hai", "jia", "kai", "lin", "mei", "ning",
             "peng", "qiu", "rui", "shan", "tao", "wen", "xin", "yun", "zhe", "ling", "bo", "si")  # fmt: skip
HAN = ("伟", "芳", "娜", "敏", "静", "丽", "强", "磊", "军", "洋", "勇", "艳",
       "杰", "娟", "涛", "明", "超", "秀", "霞", "平", "刚", "桂", "英", "华")  # fmt: skip
# channel -> how often an account of it knows each thing
KNOWS: dict[str, dict[str, float]] = {
    "web": {"email": 0.98, "phone": 0.8, "name": 0.95, "device": 0.9, "birthday": 0.3},
    "app": {"phone": 0.98, "email": 0.7, "name": 0.9, "device": 1.0, "card": 0.5, "birthday": 0.3},
    "social": {"device": 0.9, "phone": 0.8, "email": 0.5, "name": 0.85},
    "desk": {"phone": 0.95, "name": 0.98, "card": 0.6, "email": 0.6, "birthday": 0.6},
}
TYPO = {"email": 0.02, "phone": 0.02, "name": 0.04, "birthday": 0.01}

# How a shop with such data would declare its keys: [identity.keys] of shop.toml
KEYS: dict[str, dict[str, Any]] = {
    "email": {"from": "users.attributes.email", "normalise": "email", "veto": False},
    "card": {"from": "users.attributes.card"},
    "phone": {"from": "users.attributes.phone", "normalise": "phone", "country": "86", "weight": 0.85,
              "max_users": 10},
    "name": {"from": "users.attributes.name", "normalise": "name", "weight": 0.3, "max_users": 100,
             "veto": True, "typos": True},
    "birthday": {"from": "users.attributes.birthday", "weight": 0.7, "max_users": 100, "veto": True,
                 "typos": True},
    "device": {"from": "users.attributes.device", "weight": 0.7},
}  # fmt: skip


@dataclass(frozen=True)
class People:
    """User accounts in random order, and whose they are."""

    users: pl.DataFrame  # user_id, registered_at, attributes (JSON)
    person: dict[str, int]  # user_id -> who it is


def make(users: int, seed: int, syllables: Sequence[str] = SYLLABLES) -> People:
    """At least `users` accounts; the same arguments give the same people.

    Args:
        syllables: what names are made of; with HAN they are Chinese, of two or three characters.
    """
    rng = np.random.default_rng(seed)
    names = [_name(rng, syllables) for _ in range(GIVEN)]
    surnames = [_name(rng, syllables, 1) for _ in range(SURNAMES)]
    tablets = [f"tablet-{n}" for n in range(max(users // 2000, 2))]
    offices = [f"info@office{n}.example" for n in range(max(users // 4000, 2))]
    freed: list[str] = []  # telephone numbers given up by whom had them
    rows: list[dict[str, Any]] = []
    person = family = 0
    while len(rows) < users:
        surname = surnames[rng.integers(SURNAMES)]
        size = int(rng.choice((1, 2, 3, 4), p=(0.45, 0.3, 0.15, 0.1)))
        tablet = f"d-home-{family}" if size > 1 and rng.random() < 0.5 else None
        home = [f"home{family}@mail.example"] if size > 1 and rng.random() < 0.05 else []
        parent_phone = _phone(rng)
        for member in range(size):
            own = _person(rng, person, surname, names, freed)
            if member == 0 or rng.random() < 0.12:
                own["phone"] = parent_phone
            if home:
                own["email"] = home[0]
            rows += _accounts(rng, own, tablet, tablets, offices)
            if own["old"]:
                freed.append(own["old"])
            person += 1
        family += 1
    order = rng.permutation(len(rows))
    ids = [f"K{number:07d}" for number in order]
    told = [{key: value for key, value in row.items() if key != "person"} for row in rows]
    start = np.datetime64("2024-01-01T00:00:00")
    days = rng.integers(0, 700 * 86_400, len(rows)).astype("timedelta64[s]")
    frame = pl.DataFrame(
        {
            "user_id": ids,
            "registered_at": [f"{at}.000000Z" for at in start + days],
            "attributes": [json.dumps(one, ensure_ascii=False) for one in told],
        }
    )
    truth = {user: row["person"] for user, row in zip(ids, rows, strict=True)}
    return People(frame.sort("user_id"), truth)


def judge(found: dict[str, str], truth: dict[str, int]) -> dict[str, float]:
    """Of pairs of ids: precision of those called one person, recall of those that are."""
    by_truth: dict[int, dict[str, int]] = {}
    by_found: dict[str, int] = {}
    for user, person in truth.items():
        called = found.get(user, user)
        by_found[called] = by_found.get(called, 0) + 1
        groups = by_truth.setdefault(person, {})
        groups[called] = groups.get(called, 0) + 1
    said = sum(n * (n - 1) // 2 for n in by_found.values())
    real = sum(n * (n - 1) // 2 for n in (sum(groups.values()) for groups in by_truth.values()))
    both = sum(n * (n - 1) // 2 for groups in by_truth.values() for n in groups.values())
    return {"pairs": real, "said": said, "precision": both / max(said, 1), "recall": both / max(real, 1)}  # fmt: skip


def _person(
    rng: np.random.Generator, number: int, surname: str, names: list[str], freed: list[str]
) -> dict[str, Any]:
    given = names[rng.integers(GIVEN)]
    recycled = bool(freed) and rng.random() < 0.03
    born = np.datetime64("1950-01-01") + np.timedelta64(int(rng.integers(0, 20_000)), "D")
    return {
        "person": number,
        "name": f"{surname} {given}",
        "email": f"{given}.{surname}{number}@mail.example",
        "second": f"{given}{number}@work.example" if rng.random() < 0.12 else None,
        "phone": freed.pop(int(rng.integers(len(freed)))) if recycled else _phone(rng),
        "old": _phone(rng) if rng.random() < 0.05 else None,
        "card": f"C{number * 7919 % 100_000_007:09d}" if rng.random() < 0.6 else None,
        "birthday": str(born),
        "device": [f"d-{number}-{n}" for n in range(1 + int(rng.random() < 0.4))],
    }


def _accounts(
    rng: np.random.Generator,
    own: dict[str, Any],
    tablet: str | None,
    tablets: list[str],
    offices: list[str],
) -> list[dict[str, Any]]:
    count = int(rng.choice((1, 2, 3, 4), p=(0.5, 0.27, 0.15, 0.08)))
    made = []
    for channel in rng.choice(list(KNOWS), count, replace=False, p=(0.3, 0.3, 0.2, 0.2)):
        row: dict[str, Any] = {"person": own["person"], "channel": str(channel)}
        for key, share in KNOWS[str(channel)].items():
            if rng.random() < share and (value := _told(rng, own, key, tablet, tablets, offices)):
                row[key] = value
        made.append(row)
    return made


def _told(
    rng: np.random.Generator,
    own: dict[str, Any],
    key: str,
    tablet: str | None,
    tablets: list[str],
    offices: list[str],
) -> str | None:
    """What one account says of one key, as somebody typed it."""
    dice = rng.random()
    if key == "device":
        if dice < 0.02:
            return tablets[rng.integers(len(tablets))]
        if tablet is not None and dice < 0.3:
            return tablet
        devices: list[str] = own["device"]
        return devices[rng.integers(len(devices))]
    value: str | None = own[key]
    if key == "email":
        if dice < 0.01:
            return offices[rng.integers(len(offices))]
        if own["second"] and dice < 0.3:
            value = own["second"]
    if key == "phone" and own["old"] and dice < 0.3:
        value = own["old"]
    if value is None:
        return None
    if rng.random() < TYPO.get(key, 0.0):
        value = _typo(rng, value)
    return _spelled(rng, key, value)


def _spelled(rng: np.random.Generator, key: str, value: str) -> str:
    way = int(rng.integers(4))
    if key == "email":
        return (value, value.upper(), f" {value}", value.replace("@", "+shop@"))[way]
    if key == "phone":
        return (value, f"+86 {value[:3]} {value[3:]}", f"{value[:3]}-{value[3:7]}-{value[7:]}", f"0086{value}")[way]  # fmt: skip
    if key == "name":
        return (value, value.title(), value.upper(), value.replace(" ", "  "))[way]
    return value


def _typo(rng: np.random.Generator, value: str) -> str:
    at = int(rng.integers(1, len(value) - 1))
    signs = (
        "0123456789" if value[at].isdigit() else "".join(HAN) if value[at] in HAN else "etaoinshr"
    )
    sign = signs[rng.integers(len(signs))]
    return (
        value[:at] + value[at + 1 :],
        value[:at] + value[at + 1] + value[at] + value[at + 2 :],
        value[:at] + sign + value[at + 1 :],
    )[int(rng.integers(3))]


def _phone(rng: np.random.Generator) -> str:
    return f"1{rng.integers(3, 10)}{rng.integers(0, 10**9):09d}"


def _name(rng: np.random.Generator, syllables: Sequence[str], parts: int = 2) -> str:
    return "".join(syllables[int(rng.integers(len(syllables)))] for _ in range(parts))
