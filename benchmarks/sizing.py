"""How big a shop: users × items × events -> minutes, memory and disk of a whole first run.

    python benchmarks/sizing.py --sizes 6000x2400x60 30000x10000x60 [--models popularity item_knn ...]

Each size is users x items x days of the demo marketplace (simulated), written to a temporary folder
and run once by the real command in a process of its own. Prints a Markdown table. Disk is store/
alone, without the raw files; memory is the peak resident size of the run; serving memory is that of
a process that has the release open and has answered 100 users.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVE = """
import json, resource, sys
from shopkeeper.shop import Shop
with Shop.open(sys.argv[1]) as shop:
    for n in range(100):
        shop.service.recommend(user_id=f"u{n:05d}", k=20)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def measure(users: int, items: int, days: int, models: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        command = [sys.executable, "-c", "from shopkeeper.cli import main; main()"]
        size = ["--users", str(users), "--items", str(items), "--days", str(days)]
        made = subprocess.run(
            [*command, "demo", str(shop), *size, "--json"], check=True, capture_output=True
        )
        if models:
            text = (shop / "shop.toml").read_text(encoding="utf-8")
            (shop / "shop.toml").write_text(f"models = {json.dumps(models)}\n{text}", "utf-8")
        began = time.monotonic()
        with (Path(folder) / "told.json").open("w+") as out:
            run = subprocess.Popen(
                [*command, "run", "--shop", str(shop), "--json"],
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
            _, status, used = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
            minutes = (time.monotonic() - began) / 60
            out.seek(0)
            told = json.loads(out.read())
        serving = subprocess.run(
            [sys.executable, "-c", SERVE, str(shop)], check=True, capture_output=True
        )
        disk = sum(p.stat().st_size for p in (shop / "store").rglob("*") if p.is_file())
        return {
            "users": users,
            "items": items,
            "events": told["assets"]["raw.events"]["rows"],
            "raw_events": json.loads(made.stdout)["events"],
            "minutes": minutes,
            "cpu_minutes": (used.ru_utime + used.ru_stime) / 60,
            "peak_gb": used.ru_maxrss / 2**20,
            "disk_mb": disk / 2**20,
            "serve_gb": json.loads(serving.stdout) / 1024,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["6000x2400x60"])
    parser.add_argument("--models", nargs="*", default=[])
    arguments = parser.parse_args()
    print("| users | items | events | first run | CPU | peak memory | disk | serving memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for size in arguments.sizes:
        users, items, days = (int(part) for part in size.split("x"))
        row = measure(users, items, days, arguments.models)
        print(
            f"| {row['users']:,} | {row['items']:,} | {row['events']:,} | {row['minutes']:.1f} min "
            f"| {row['cpu_minutes']:.1f} min | {row['peak_gb']:.1f} GB | {row['disk_mb']:.0f} MB "
            f"| {row['serve_gb']:.1f} GB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
