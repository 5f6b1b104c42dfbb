"""`run --every`: the loop again and again, and what everybody can see of how it goes.

After every round store/schedule.json says when it last went well, what failed and when something new
last came in; `shopkeeper status` shows it. A failure, or data that is staler than it may be, also
goes to the webhook, once, and once more when it is over.
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
    code, busy = 0, False
    try:
        with Shop.open(folder) as shop:
            settings = shop.settings.schedule
            told = once(shop)
            newest = _newest(shop)
            _tidy(shop, state, say)
        if state["failures"]:
            tell(
                settings,
                f"{folder.name}: the loop is well again after {state['failures']} failures",
                say,
            )
        state |= {
            "failures": 0,
            "error": None,
            "last_ok": _now("milliseconds"),
            "newest": newest,
            "release": told["release"],
        }
        new = sum(
            1
            for step in told["steps"]
            if step["step"].startswith("collect.") and step["notes"].get("rows")
        )
        say(
            f"{_now()} done in {told['seconds']:.1f} s, new data from {new} sources, release {told['release']}"
        )
    except Conflict as error:
        say(f"{_now()} {error}")
        if state["last_ok"] is None:
            return 0
        busy = True
    except Exception as error:
        code = error.exit_code if isinstance(error, ShopkeeperError) else 1
        text = (
            str(error) if isinstance(error, ShopkeeperError) else f"{type(error).__name__}: {error}"
        )
        say(f"{_now()} failed: {text}")
        if state["error"] != text:
            tell(settings, f"{folder.name}: the loop failed: {text}", say)
        state |= {"failures": state["failures"] + 1, "error": text}
    at = state["last_ok"] if code == 0 and not busy else _now("milliseconds")
    state |= {"every_seconds": every, "last_round": at, "exit_code": code}
    state["stale_minutes"] = settings.stale_minutes if settings else state.get("stale_minutes")
    _tell_stale(state, settings, folder.name, say)
    durable.write_bytes(folder / "store" / FILE, json.dumps(state, indent=1).encode())
    return code


def _tidy(shop: Shop, state: dict[str, Any], say: Callable[[str], None]) -> None:
    """Give up old versions when it is time: a loop that runs for ever must not fill the disk."""
    settings, last = shop.settings.schedule, state.get("tidied")
    if not settings.tidy_hours or (last is not None and _hours_since(last) < settings.tidy_hours):
        return
    try:
        told = shop.tidy(keep_last=settings.keep_versions, days=settings.keep_days)
    except Conflict as error:
        say(f"{_now()} {error}")
        return
    state["tidied"] = _now()
    if told["removed"] or told["merged_files"] or told["deleted_files"]:
        say(
            f"{_now()} tidied: {len(told['removed'])} old versions, {told['merged_files']} small files "
            f"merged, {told['deleted_bytes'] / 1e6:,.1f} MB freed"
        )


def _hours_since(instant: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds() / 3600


def read(folder: Path) -> dict[str, Any] | None:
    """What the last round left: last_ok, newest, failures, error, every_seconds, exit_code, stale."""
    path = folder / "store" / FILE
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    state["stale"] = _why_stale(state, _now("milliseconds")) is not None
    return state


def _newest(shop: Shop) -> str | None:
    """When something new last came in."""
    known = [record["version"] for record in shop.assets.catalog.assets() if record["version"]]
    return max((v.created_at for v in known if v.asset.startswith("raw.")), default=None)


def _why_stale(state: dict[str, Any], at: str) -> str | None:
    def age(since: str) -> float:
        return (datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds()

    if state["last_ok"] is None or age(state["last_ok"]) > STALE_ROUNDS * state["every_seconds"]:
        return f"no round went well since {state['last_ok'] or 'the first'}"
    limit, newest = state.get("stale_minutes"), state.get("newest")
    if limit is not None and newest is not None and age(newest) > limit * 60:
        return f"nothing new came in since {newest}, wanted at least every {limit:g} minutes"
    return None


def _tell_stale(
    state: dict[str, Any],
    settings: ScheduleSettings | None,
    shop: str,
    say: Callable[[str], None],
) -> None:
    """Once when it begins and once when it is over; a loop that fails was told already."""
    why, told = _why_stale(state, state["last_round"]), state.get("stale_told", False)
    if why and not told and not state["failures"]:
        say(f"{_now()} stale: {why}")
        tell(settings, f"{shop}: the data are stale: {why}", say)
        state["stale_told"] = True
    elif told and not why:
        tell(settings, f"{shop}: the data are fresh again", say)
        state["stale_told"] = False


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


def _now(precision: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=precision)
