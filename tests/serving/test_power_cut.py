"""The power goes at every single operation: no acknowledged event is ever missing.

A file layer under SQLite (its own interface for that, registered through ctypes in the library that
Python uses) notes every write, truncate, sync and delete on its way to the real file. Afterwards
the disk is rebuilt as of each operation with every un-synced write dropped, and again with a random
part of them kept and the last one torn, and the log is opened on what is left.
"""

import ctypes
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.serving import durable
from shopkeeper.serving.events import EventLog

SECTOR = 512
OPEN_CREATE, MAIN_DB = 0x4, 0x100


class Vfs(ctypes.Structure):
    """struct sqlite3_vfs, as far as it is touched; the rest is copied."""


Open = CFUNCTYPE(c_int, POINTER(Vfs), c_void_p, c_void_p, c_int, POINTER(c_int))
Delete = CFUNCTYPE(c_int, POINTER(Vfs), c_char_p, c_int)
Vfs._fields_ = [
    ("version", c_int),
    ("size", c_int),
    ("longest", c_int),
    ("next", c_void_p),
    ("name", c_char_p),
    ("data", c_void_p),
    ("open", Open),
    ("delete", Delete),
    ("others", c_void_p * 14),
]
Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class Methods(ctypes.Structure):
    """struct sqlite3_io_methods."""

    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", Write),
        ("truncate", Truncate),
        ("sync", Sync),
        ("others", c_void_p * 13),
    ]


class Disk:
    """Records what reaches files below one folder, in order; `registered` under a VFS name."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.operations: list[tuple[Any, ...]] = []
        self.lock = threading.Lock()
        self.files: dict[int, str] = {}
        library.sqlite3_vfs_find.restype = POINTER(Vfs)
        real = library.sqlite3_vfs_find(None).contents
        self.vfs = Vfs.from_buffer_copy(real)
        self.vfs.next = None
        self.name = name.encode()
        self.vfs.name = self.name
        self.originals: dict[int, Methods] = {}
        self.kept: dict[int, Methods] = {}  # by the address of the original table
        self.callbacks = (
            Open(self._open),
            Delete(self._delete),
            Write(self._write),
            Truncate(self._truncate),
            Sync(self._sync),
        )
        self.real_open, self.real_delete = real.open, real.delete
        self.vfs.open, self.vfs.delete = self.callbacks[0], self.callbacks[1]
        self.library = library
        assert library.sqlite3_vfs_register(ctypes.byref(self.vfs), 0) == 0

    def close(self) -> None:
        self.library.sqlite3_vfs_unregister(ctypes.byref(self.vfs))

    def note(self, *operation: Any) -> None:
        with self.lock:
            self.operations.append(operation)

    def _open(self, vfs: Any, name: int, file: int, flags: int, out: Any) -> int:
        code = self.real_open(vfs, name, file, flags, out)
        methods = ctypes.cast(file, POINTER(c_void_p))
        if code == 0 and name and methods[0]:
            path = Path(ctypes.string_at(name).decode()).name
            address = methods[0]
            if address not in self.kept:
                original = Methods.from_address(address)
                copy = Methods.from_buffer_copy(original)
                copy.write, copy.truncate, copy.sync = self.callbacks[2:]
                self.kept[address] = copy
                self.originals[ctypes.addressof(copy)] = original
            methods[0] = ctypes.addressof(self.kept[address])
            self.files[file] = path
            if flags & OPEN_CREATE:
                self.note("create", path)
        return code

    def _original(self, file: int) -> Methods:
        return self.originals[ctypes.cast(file, POINTER(c_void_p))[0]]

    def _write(self, file: int, buffer: int, amount: int, offset: int) -> int:
        self.note("write", self.files[file], offset, ctypes.string_at(buffer, amount))
        return self._original(file).write(file, buffer, amount, offset)

    def _truncate(self, file: int, size: int) -> int:
        self.note("truncate", self.files[file], size)
        return self._original(file).truncate(file, size)

    def _sync(self, file: int, flags: int) -> int:
        code = self._original(file).sync(file, flags)
        self.note("sync", self.files[file])
        return code

    def _delete(self, vfs: Any, name: bytes, sync_folder: int) -> int:
        code = self.real_delete(vfs, name, sync_folder)
        self.note("delete", Path(name.decode()).name)
        if sync_folder:
            self.note("sync folder")
        return code


def loaded_sqlite() -> str:
    """Path of the SQLite library that Python's sqlite3 uses in this process; skips where none."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        pytest.skip("no /proc: cannot find the SQLite library in this process")
    for line in maps.splitlines():
        path = line.split()[-1]
        if "libsqlite3" in path:
            return path
    pytest.skip("Python's sqlite3 holds SQLite inside itself: no file layer can be registered")


@pytest.fixture
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(ctypes.CDLL(loaded_sqlite()), f"cut-{id(request)}")
    real = durable.sync_folder

    def sync_folder(folder: Path) -> None:
        real(folder)
        made.note("sync folder")

    monkeypatch.setattr(durable, "sync_folder", sync_folder)
    monkeypatch.setattr(durable, "CHECKPOINT_PAGES", 12)  # so that many checkpoints are cut too
    yield made
    made.close()


class After:
    """The disk after a power cut: what was synced, and maybe some of what was not."""

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = {}
        self.named: set[str] = set()  # names that are on disk
        self.current: dict[str, list[tuple[Any, ...]]] = {}  # un-synced operations of each file
        self.unlinked: set[str] = set()

    def step(self, operation: tuple[Any, ...]) -> None:
        what = operation[0]
        if what == "create":
            name = operation[1]
            if name in self.unlinked or name not in self.durable:
                self.unlinked.discard(name)
                self.durable.setdefault(name, bytearray())
                self.current.setdefault(name, [])
        elif what in ("write", "truncate"):
            self.current[operation[1]].append(operation)
        elif what == "sync":
            name = operation[1]
            for waiting in self.current[name]:
                carry(self.durable[name], waiting)
            self.current[name] = []
            if name.endswith(("-wal", "-journal")):  # SQLite syncs the folder of these itself
                self.named.add(name)
        elif what == "delete":
            self.unlinked.add(operation[1])
            self.current[operation[1]] = []
        elif what == "sync folder":
            for name in self.unlinked:
                self.durable.pop(name, None)
                self.named.discard(name)
            self.unlinked = set()
            self.named |= set(self.durable)

    def rebuild(self, folder: Path, draw: random.Random | None) -> None:
        """Files as they are found; without `draw` every un-synced write is gone."""
        for name in self.named:
            content = bytearray(self.durable[name])
            if draw is not None:
                for waiting in self.current.get(name, []):
                    if draw.random() < 0.5:
                        carry(content, torn(waiting, draw))
            (folder / name).write_bytes(content)


def carry(content: bytearray, operation: tuple[Any, ...]) -> None:
    if operation[0] == "truncate":
        del content[operation[2] :]
        return
    _, _, offset, data = operation
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def torn(operation: tuple[Any, ...], draw: random.Random) -> tuple[Any, ...]:
    if operation[0] == "truncate" or draw.random() < 0.5:
        return operation
    what, name, offset, data = operation
    return what, name, offset, data[: draw.randrange(0, len(data) + 1, SECTOR)]


def work(disk: Disk, path: Path, calls: int) -> None:
    """Record single events, batches, duplicates, from two threads; note every acknowledgement."""
    log = EventLog(path, vfs=disk.name.decode())

    def some(thread: int) -> None:
        for n in range(calls):
            ids = [f"{thread}-{n}-{m}" for m in range(1 + n % 3)]
            batch = [
                {"event_id": i, "user_id": f"u{n % 5}", "item_id": "a" * 100, "query": i}
                for i in ids
            ]
            if n % 4 == 0 and n:
                batch.append(batch[0] | {"event_id": f"{thread}-{n - 1}-0"})
            receipt = log.record(batch)
            disk.note("acknowledged", receipt.event_ids)

    threads = [threading.Thread(target=some, args=(t,)) for t in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()


def lost(disk: Disk, folder: Path, *, keep_some: bool) -> tuple[int, int, list[str]]:
    """Cut at every operation: (cuts, acknowledged events lost, what went wrong)."""
    after = After()
    draw = random.Random(5) if keep_some else None
    acknowledged: set[str] = set()
    missing, problems, cuts = 0, [], 0
    for at, operation in enumerate(disk.operations):
        if operation[0] == "acknowledged":
            acknowledged.update(operation[1])
        else:
            after.step(operation)
        cuts += 1
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        after.rebuild(folder, draw)
        try:
            with sqlite3.connect(folder / "events.db") as check:
                check.execute("PRAGMA synchronous = OFF")  # only looking
                whole = check.execute("PRAGMA integrity_check").fetchone()[0]
                tables = check.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
                found = (
                    [r[0] for r in check.execute("SELECT event_id FROM events")] if tables else []
                )
            check.close()
        except sqlite3.Error as error:
            whole, found = str(error), []
        if whole != "ok" or len(found) != len(set(found)):
            problems.append(f"operation {at}: {whole}")
        missing += len(acknowledged - set(found))
    return cuts, missing, problems


@pytest.mark.parametrize("calls", [12, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.parametrize("keep_some", [False, True], ids=["all dropped", "some kept, torn"])
def test_a_power_cut_at_any_operation_loses_no_acknowledged_event(
    disk: Disk, tmp_path: Path, keep_some: bool, calls: int
) -> None:
    work(disk, tmp_path / "events.db", calls)
    cuts, missing, problems = lost(disk, tmp_path / "after", keep_some=keep_some)
    assert cuts > 10 * calls
    assert (missing, problems) == (0, [])
    assert any(operation[:2] == ("sync", "events.db") for operation in disk.operations[40:])


def test_the_power_cut_does_lose_events_of_a_log_that_does_not_sync(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable.DurableFile

    def careless(path: Path, schema: str, **more: Any) -> durable.DurableFile:
        return real(path, schema, synchronous="NORMAL", **more)

    monkeypatch.setattr("shopkeeper.serving.events.DurableFile", careless)
    work(disk, tmp_path / "events.db", calls=10)
    _, missing, _ = lost(disk, tmp_path / "after", keep_some=False)
    assert missing > 0


WRITER = """
import sys
from pathlib import Path
from shopkeeper.serving.events import EventLog
log = EventLog(Path(sys.argv[1]))
for n in range(100_000):
    receipt = log.record([{"user_id": "u", "item_id": f"i{n}"}, {"user_id": "v", "item_id": "x"}])
    print("\\n".join(receipt.event_ids), flush=True)
"""


def test_a_killed_server_loses_no_acknowledged_event(tmp_path: Path) -> None:
    draw = random.Random(3)
    path = tmp_path / "online" / "events.db"
    acknowledged: list[str] = []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(draw.randrange(20, 120)):
                acknowledged.append(writer.stdout.readline().strip())
            writer.kill()
            rest = writer.stdout.read().split("\n")
            acknowledged += rest[:-1]  # a line that was cut off was not read by anybody
    log = EventLog(path)
    found = [event["event_id"] for event in log.read()]
    log.close()
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
