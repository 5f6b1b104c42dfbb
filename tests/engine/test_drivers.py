"""Drivers: the same results in the same order, whoever does the work and whoever dies at it."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import small_kernels
from shopkeeper import config, demo
from shopkeeper.clean import arrivals
from shopkeeper.engine.kernels import TRIES, Driver, InProcess, open_driver
from shopkeeper.engine.local import LocalDriver
from shopkeeper.errors import InputError, SourceError
from shopkeeper.shop import Shop

TESTS = Path(__file__).parents[1]
RAY = (  # what Ray itself says of its own; nothing of ours
    pytest.mark.filterwarnings("ignore:.*RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
)


@pytest.fixture
def two() -> Iterator[LocalDriver]:
    driver = LocalDriver(2)
    yield driver
    driver.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers: int, tmp_path: Path) -> None:
    driver = open_driver(config.Settings(workers=workers), tmp_path)
    assert isinstance(driver, LocalDriver if workers > 1 else InProcess)
    done = [one.value for one in driver.map(small_kernels.double, 3, range(20))]
    driver.close()
    assert done == [3 * n for n in range(20)]


def test_workers_are_other_processes_that_stay_for_the_next_map(two: LocalDriver) -> None:
    pids = {one.value[0] for one in two.map(small_kernels.who, None, range(8))}
    again = {one.value[0] for one in two.map(small_kernels.who, None, range(8))}
    assert os.getpid() not in pids | again
    assert len(pids | again) <= 2


def test_tasks_are_made_when_they_are_needed_and_few_are_held(two: LocalDriver) -> None:
    made = []

    def tasks() -> Iterator[int]:
        for n in range(1000):
            made.append(n)
            yield n

    results = two.map(small_kernels.double, 1, tasks())
    assert next(results).value == 0
    assert len(made) < 20
    results.close()  # type: ignore[attr-defined]


def test_an_error_of_a_kernel_is_raised_whole(two: LocalDriver) -> None:
    with pytest.raises(InputError, match="task 2: no such thing; ask for another"):
        list(two.map(small_kernels.refuse, None, range(4)))
    assert [d.value for d in two.map(small_kernels.double, 2, [1, 2])] == [2, 4]  # and goes on


def test_a_worker_that_is_killed_costs_only_the_task_it_was_at(
    two: LocalDriver, tmp_path: Path
) -> None:
    done = list(two.map(small_kernels.die_once, tmp_path, range(8)))
    assert [one.value for one in done] == [10 * n for n in range(8)]
    assert [one.tries for one in done] == [2 if n == 3 else 1 for n in range(8)]
    assert sorted((tmp_path / "tried").read_text().split()) == [str(n) for n in range(8)]


def test_a_task_that_all_wait_for_is_tried_again_at_once(two: LocalDriver, tmp_path: Path) -> None:
    done = list(two.map(small_kernels.die_last, tmp_path, range(8)))
    assert [one.value for one in done] == list(range(8))
    assert [one.tries for one in done] == [2] + [1] * 7


def test_a_task_that_kills_every_worker_is_given_up_with_the_reason(two: LocalDriver) -> None:
    with pytest.raises(SourceError, match=rf"died {TRIES} times \(signal 9\)"):
        list(two.map(small_kernels.die, None, range(3)))


# whole shops


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drivers") / "shop"
    demo.write(folder, users=300, items=120, days=20, seed=5)
    return folder


def run(
    raw: Path, folder: Path, engine: str, workers: int
) -> tuple[dict[str, str], dict[str, Any]]:
    """Collect, clean and features of a copy of the shop; digests, and the record of clean.events."""
    folder.mkdir()
    for path in raw.iterdir():
        if path.name != "shop.toml":
            (folder / path.name).symlink_to(path)
    toml = f'engine = "{engine}"\nworkers = {workers}\n' + (raw / "shop.toml").read_text("utf-8")
    (folder / "shop.toml").write_text(toml, encoding="utf-8")
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean", "features"])
        made = {name for step in shop.steps for name in step.makes}
        current = {name: shop.assets.catalog.current(name) for name in sorted(made)}
        return (
            {name: version.digest for name, version in current.items() if version is not None},
            shop.runs(step="clean.events")[0] | {"notes": shop.assets.catalog.runs(step="clean.events")[0]["notes"]},
        )  # fmt: skip


@pytest.fixture(scope="module")
def alone(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a run in one process."""
    digests, _ = run(raw, tmp_path_factory.mktemp("alone") / "shop", "local", 1)
    assert {"clean.events", "clean.users", "quarantine.events", "features.sequences"} <= set(
        digests
    )
    return digests


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `small_kernels` leaves its marks; workers find the module."""
    monkeypatch.setenv("SMALL_KERNELS_SCRATCH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    return tmp_path


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_make_the_same_tables_as_one(
    raw: Path, alone: dict[str, str], killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "clean_events_bucket", small_kernels.clean_and_die_once)
    digests, told = run(raw, killed / "shop", "local", 2)
    assert (killed / "killed").exists()
    assert digests == alone
    assert (told["driver"], told["workers"]) == ("local", 2)
    assert told["notes"]["retried"] == 1  # of sixteen buckets, the one that was killed


def ray_stopped() -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()


@pytest.fixture
def ray_alone() -> Iterator[None]:
    pytest.importorskip("ray")
    ray_stopped()
    yield
    ray_stopped()


def marked(test: Any) -> Any:
    for mark in RAY:
        test = mark(test)
    return pytest.mark.slow(test)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@marked
def test_ray_makes_the_same_tables_and_a_killed_worker_of_its_costs_one_bucket(
    raw: Path, alone: dict[str, str], killed: Path, ray_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "clean_events_bucket", small_kernels.clean_and_die_once)
    digests, told = run(raw, killed / "shop", "ray", 2)
    assert (killed / "killed").exists()
    assert digests == alone
    assert (told["driver"], told["workers"]) == ("ray", 2)
    assert told["notes"]["retried"] == 1


@marked
def test_a_node_of_a_real_ray_cluster_dies_in_the_middle_and_the_tables_are_the_same(
    raw: Path, alone: dict[str, str], killed: Path, ray_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 << 20}
    port = free_port()
    head = {**small, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        doomed = cluster.add_node(**small)
        cluster.wait_for_nodes()
        (killed / "doomed").write_text(doomed.node_id)
        monkeypatch.setattr(arrivals, "clean_events_bucket", small_kernels.clean_and_lose_node)

        def strike() -> None:
            while not (killed / "reached").exists():
                time.sleep(0.05)
            cluster.remove_node(doomed, allow_graceful=False)

        striking = threading.Thread(target=strike, daemon=True)
        striking.start()
        digests, told = run(raw, killed / "shop", f"ray://127.0.0.1:{port}", 2)
        striking.join(timeout=60)
        assert not striking.is_alive()
    finally:
        ray_stopped()
        cluster.shutdown()
    assert digests == alone
    assert told["notes"]["retried"] == 1


def test_an_engine_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="engine"):
        config.Settings(engine="spark")


def test_a_cluster_that_does_not_answer_is_told_by_its_address(tmp_path: Path) -> None:
    """(The port is one that nobody listens at.)"""
    pytest.importorskip("ray")
    driver: Driver = open_driver(config.Settings(engine="ray://127.0.0.1:9"), tmp_path)
    with pytest.raises(SourceError, match=r"ray://127\.0\.0\.1:9: no Ray answers"):
        list(driver.map(small_kernels.double, 1, [1]))
    driver.close()
