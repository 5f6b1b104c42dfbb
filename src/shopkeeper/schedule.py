"""`run --every`: the loop again and again, and what everybody can see of how it goes.

After every round store/schedule.json says when it last went well, what failed and when the next one
is due; `/metrics` and `shopkeeper status` read it. A failure, or data that is staler than it may be,
also goes to the webhook, once, and once more when it is over.
"""

import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shopkeeper.assets import durable
from shopkeeper.config import ScheduleSettings
from shopkeeper.errors import Conflict, InputError, ShopkeeperError
from shopkeeper.shop import Shop

FILE = "schedule.json"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
STALE_ROUNDS = 3  # rounds without success after which the shop counts as stale
TELL_SECONDS = 10  # a webhook gets this long


def seconds_of(text: str) -> float:
    """ "15m" -> 900.0. InputError for anything but a number and s, m, h or d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) == 0:
        raise InputError(
            f"{text!r} is no span of time", where="--every", next="write e.g. 30s, 15m, 6h or 1d"
        )
    return float(found[1]) * _UNITS[found[2]]


def run_every(
    folder: Path,
    every: float,
    once: Callable[[Shop], dict[str, Any]],
    *,
    say: Callable[[str], None],
    rounds: int | None = None,
) -> int:
    """Run the loop every `every` seconds until SIGTERM or Ctrl-C; returns the exit code.

    A signal ends it after the round at work, whose steps are each all or nothing anyway. A second
    signal ends it at once. A round that finds another run at work waits for the next.

    Args:
        once: one round.
        say: prints a line.
        rounds: stop after so many (tests and cron); None: go on.
    Returns:
        0, or the exit code of the last round's error.
    """
    stop = threading.Event()

    def ask(number: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after this round; again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    code = 0
    try:
        done = 0
        while not stop.is_set():
            started = time.monotonic()
            code = _round(folder, every, once, say)
            done += 1
            if rounds is not None and done >= rounds:
                break
            stop.wait(max(0.0, every - (time.monotonic() - started)))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code


def _round(
    folder: Path, every: float, once: Callable[[Shop], dict[str, Any]], say: Callable[[str], None]
) -> int:
    state = read(folder) or {"failures": 0, "last_ok": None, "error": None}
    settings: ScheduleSettings | None = None
    code = 0
    try:
        with Shop.open(folder) as shop:
            settings = shop.settings.schedule
            told = once(shop)
        if state["failures"]:
            tell(
                settings,
                f"{folder.name}: the loop is well again after {state['failures']} failures",
                say,
            )
        state |= {"failures": 0, "error": None, "last_ok": _now(), "release": told["release"]}
        new = sum(
            1 for step in told["steps"] if step["state"] == "done" and step["notes"].get("rows")
        )
        say(
            f"{_now()} done in {told['seconds']:.1f} s, new data from {new} sources, release {told['release']}"
        )
    except Conflict as error:
        say(f"{_now()} {error}")
        return 0
    except Exception as error:
        code = error.exit_code if isinstance(error, ShopkeeperError) else 1
        text = (
            str(error) if isinstance(error, ShopkeeperError) else f"{type(error).__name__}: {error}"
        )
        say(f"{_now()} failed: {text}")
        if state["error"] != text:
            tell(settings, f"{folder.name}: the loop failed: {text}", say)
        state |= {"failures": state["failures"] + 1, "error": text}
    state |= {"every_seconds": every, "last_round": _now(), "exit_code": code}
    durable.write_bytes(folder / "store" / FILE, json.dumps(state, indent=1).encode())
    return code


def read(folder: Path) -> dict[str, Any] | None:
    """What the last round left: last_ok, failures, error, every_seconds, exit_code, stale."""
    path = folder / "store" / FILE
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    state["stale"] = _stale(state)
    return state


def _stale(state: dict[str, Any]) -> bool:
    if state["last_ok"] is None:
        return True
    age = datetime.now(UTC) - datetime.fromisoformat(state["last_ok"])
    return bool(age.total_seconds() > STALE_ROUNDS * state["every_seconds"])


def message(form: str, text: str) -> dict[str, Any]:
    """The body a webhook wants: generic {"text"}, or that of a DingTalk or WeCom robot."""
    if form in ("dingtalk", "wecom"):
        return {"msgtype": "text", "text": {"content": f"Shopkeeper 掌柜: {text}"}}
    return {"source": "shopkeeper", "text": text, "at": _now()}


def tell(settings: ScheduleSettings | None, text: str, say: Callable[[str], None]) -> bool:
    """Send `text` to the webhook, if there is one; a webhook that fails is said, not raised."""
    if settings is None or not settings.webhook:
        return False
    body = json.dumps(message(settings.webhook_form, text), ensure_ascii=False).encode()
    request = urllib.request.Request(
        settings.webhook, data=body, headers={"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=TELL_SECONDS).close()
    except (urllib.error.URLError, OSError, ValueError) as error:
        say(f"the webhook did not take the message: {error}")
        return False
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
