"""All processes that watch one database are seen as one, by sockets in a folder of their user."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from dbscope import Database
from dbscope.cli import top
from dbscope.cli.questions import QUESTIONS
from dbscope.watch.page import safety
from dbscope.watch.share import asking, folder, serving
from dbscope.watch.share.asking import Everybody
from tests.support import warm

PATIENCE = 30.0  # seconds
OTHER = """
import sys
from sqlalchemy import text
from dbscope import Database
db = Database(sys.argv[1])
db.watch.start()
with db.scope():
    db.execute(text("SELECT 1"))
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def spool(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of all databases."""
    path = short_path / "spool"
    monkeypatch.setenv("DBSCOPE_WATCH_DIR", str(path))
    return path


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database[Any]]:
    """Return a database that is watched, and has one record."""
    db = Database(f"sqlite:///{tmp_path}/a.db")
    db.watch.start()
    with db.scope():
        db.execute(text("SELECT 1"))
    until(lambda: sockets(db))
    yield db
    db.watch.stop()
    db.dispose()


def until(holds: Callable[[], object]) -> None:
    """Wait for what others are about to do."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def place(db: Database[Any]) -> Path:
    """Return the folder of a database."""
    return folder.of_database(db._source)


def sockets(db: Database[Any]) -> list[Path]:
    """Return the sockets that are there."""
    return list(place(db).glob("*.sock"))


def others(db: Database[Any]) -> Everybody:
    """Return everybody, as one who is none of them sees it."""
    return Everybody(lambda: place(db))


def other(db: Database[Any]) -> warm.Popen:
    """Start another process that watches the same database, and has one record."""
    command = [sys.executable, "-c", OTHER, str(db.url)]
    process = warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    until(lambda: any(each.name.startswith(f"{process.pid}-") for each in sockets(db)))
    return process


def pids(found: Everybody) -> list[int]:
    """Return which processes have something new to tell."""
    return sorted(each["process"]["pid"] for each in found.look({}))


def test_each_process_sees_all_of_them(db: Database[Any]) -> None:
    """With what each is doing, its records, routes, problems and its pool."""
    process = other(db)
    everybody = db.watch.everybody()
    assert pids(everybody) == sorted([os.getpid(), process.pid])
    records = [record for each in everybody.look({}) for record in each["records"]]
    assert [each["line"].startswith("read; 1 statement") for each in records] == [True, True]
    for record in records:
        found = everybody.record(record["id"])
        assert found is not None
        assert found["sent"][0]["sql"] == "SELECT ?"
    until(lambda: sum(m[1] for r in everybody.routes() for m in r["minutes"]) == 2)
    until(everybody.pool)
    assert len(everybody.problems()) >= len(db.watch.problems())
    process.communicate("\n")


def test_only_what_is_new_is_told(db: Database[Any]) -> None:
    """Who asks says what it knows."""
    seen: dict[str, Any] = {}
    everybody = db.watch.everybody()
    assert [len(each["records"]) for each in everybody.look(seen)] == [1]
    assert [len(each["records"]) for each in everybody.look(seen)] == [0]
    with db.scope():
        db.execute(text("SELECT 2"))
    assert [len(each["records"]) for each in everybody.look(seen)] == [1]


def test_a_job_that_has_ended_is_still_seen_for_a_while(db: Database[Any]) -> None:
    """It leaves a file, without values, for an hour; then whoever comes next removes it."""
    process = other(db)
    process.communicate("\n")
    everybody = others(db)
    (left,) = place(db).glob("*.left")
    assert left.stat().st_mode & 0o777 == 0o600
    (ended,) = [each for each in everybody.look({}) if each["process"]["pid"] == process.pid]
    assert ended["process"]["ended"] >= ended["process"]["began"]
    (record,) = ended["records"]
    found = everybody.record(record["id"])
    assert found is not None
    assert found["sent"][0]["sql"] == "SELECT ?"
    age(left, folder.KEPT)
    folder.sweep(place(db))
    assert not left.exists()


SERVER = """
import sys, uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from dbscope import Database
db = Database(sys.argv[1])
app = FastAPI()
db.install(app)
db.watch.start()

@app.get("/")
def endpoint() -> None:
    db.execute(text("SELECT 1"))

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

Server(uvicorn.Config(app, port=0, log_level="critical")).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_a_signal_has_ended_is_seen_too(db: Database[Any], number: int) -> None:
    """uvicorn gives itself the signal again when it has stopped: nothing runs `atexit`."""
    command = [sys.executable, "-c", SERVER, str(db.url)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    assert httpx2.get(f"http://127.0.0.1:{port}/").status_code == 200
    process.send_signal(number)
    process.communicate()
    (left,) = place(db).glob("*.left")
    found = [each for each in others(db).look({}) if each["process"]["pid"] == process.pid]
    assert [each["name"] for each in found[0]["records"]] == ["GET /"]
    assert left.exists()


def test_what_has_the_name_of_a_socket_listens(
    db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who looks just then would be told of nobody, and think that it has gone."""
    slow = threading.Event()
    listen = socket.socket.listen

    def late(line: socket.socket, *backlog: int) -> None:
        slow.set()
        time.sleep(0.2)
        listen(line, *backlog)

    db.watch.stop()
    until(lambda: not sockets(db))
    monkeypatch.setattr(socket.socket, "listen", late)
    db.watch.start()
    until(slow.is_set)
    until(lambda: sockets(db))
    assert pids(others(db)) == [os.getpid()]


def test_an_application_that_begins_again_is_seen_once(db: Database[Any]) -> None:
    """In the same process, as a client of tests does: what it has left is taken back."""

    async def begin_and_end() -> None:
        async with db.lifespan():
            await asyncio.to_thread(until, lambda: sockets(db))
            assert await asyncio.to_thread(records_of_each, db) == [1]

    for _ in range(3):
        asyncio.run(begin_and_end())
        until(lambda: not sockets(db))
        assert records_of_each(db) == [1]


def records_of_each(db: Database[Any]) -> list[int]:
    """Return how many records each process has."""
    return [len(each["records"]) for each in others(db).look({})]


def test_a_process_that_was_killed_leaves_nothing_for_ever(db: Database[Any]) -> None:
    """Whoever finds nobody behind a socket removes it."""
    process = other(db)
    process.kill()
    process.communicate()
    (dead,) = [each for each in sockets(db) if each.name.startswith(f"{process.pid}-")]
    assert pids(db.watch.everybody()) == [os.getpid()]
    assert dead.exists()  # it is new: the process may have begun again
    age(dead, folder.YOUNG)
    assert pids(db.watch.everybody()) == [os.getpid()]
    assert not dead.exists()


def test_who_begins_sweeps_the_folders_of_others_too(db: Database[Any], spool: Path) -> None:
    """Of a database that nobody uses any more; what is in use, or new, stays."""
    gone, used = spool / "gone", spool / "used"
    for each in (gone, used):
        each.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as line:
            line.bind(str(each / "1-dead.sock"))
        (each / "2-old.left").write_text("{}")
        (each / "4-killed.new").touch()
        age(each / "1-dead.sock", folder.YOUNG)
        age(each / "4-killed.new", folder.YOUNG)
        age(each / "2-old.left", folder.KEPT)
    (used / "3-new.left").write_text("{}")
    age(gone, folder.YOUNG)
    folder.sweep(place(db))
    assert [each.name for each in used.iterdir()] == ["3-new.left"]
    assert list(gone.iterdir()) == []
    age(gone, folder.YOUNG)
    folder.sweep(place(db))
    assert not gone.exists()
    assert sockets(db)


def age(path: Path, seconds: float) -> None:
    """Make something older than that."""
    old = time.time() - seconds - 1
    os.utime(path, (old, old))


def test_a_process_that_does_not_answer_is_told_as_such(db: Database[Any]) -> None:
    """And is not waited for again and again."""
    path = place(db) / "77-stuck.sock"
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(path))
        stuck.listen()
        everybody = db.watch.everybody()
        for _ in range(3):
            (found,) = [each for each in everybody.look({}) if each["id"] == "77-stuck"]
            assert (found["process"]["pid"], found["now"]) == (77, None)
        stuck.settimeout(PATIENCE)
        stuck.accept()[0].close()
        stuck.settimeout(0.1)
        with pytest.raises(TimeoutError):
            stuck.accept()


def test_nothing_is_left_behind_when_it_stops(db: Database[Any]) -> None:
    """Neither a socket nor a file."""
    db.watch.stop()
    until(lambda: not list(place(db).iterdir()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_was_forked_is_one_of_its_own(db: Database[Any]) -> None:
    """As those of gunicorn: with a socket of its own, and without the records of its parent."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        until(lambda: len(sockets(db)) == 2)
        os.write(writing, json.dumps(pids(db.watch.everybody())).encode())
        os.read(reading, 0)
        time.sleep(0.5)
        os._exit(0)
    assert json.loads(os.read(reading, 1000)) == sorted([os.getpid(), child])
    found = {each["process"]["pid"]: len(each["records"]) for each in others(db).look({})}
    assert found == {os.getpid(): 1, child: 0}
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("how", ["on_record", "mount"])
def test_who_shares_nothing_goes_on_to_share_nothing(db: Database[Any], how: str) -> None:
    """Though something else wants records, and would start the watch if it were off."""
    db.watch.stop()
    db.watch.start(share=False)
    if how == "mount":
        db.watch.mount(FastAPI(), auth=lambda _: True)
    else:
        db.watch.on_record(print)
    assert db.watch.sharing is None
    assert db.watch.everybody().id == asking.OWN


def test_one_database_is_not_shown_on_the_page_of_another(
    db: Database[Any], tmp_path: Path
) -> None:
    """And one in memory is that of its process alone."""
    second = Database(f"sqlite:///{tmp_path}/b.db")
    assert place(second) != place(db)
    memory = Database("sqlite://")
    assert place(memory) == place(memory)
    assert place(memory) != place(db)


# -- attacks -----------------------------------------------------------------------------------


def refused(db: Database[Any], caplog: pytest.LogCaptureFixture) -> bool:
    """Tell whether a watch that begins now refuses the folder, and shows its own process alone."""
    db.watch.stop()
    with caplog.at_level("WARNING", "dbscope"):
        db.watch.start()
        assert db.watch.sharing is not None
        db.watch.sharing.join(0.5)
    return not db.watch.sharing.is_alive() and "shows this process alone" in caplog.text


def test_a_folder_that_others_may_use_is_refused(
    db: Database[Any], spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name below /tmp can be taken by anybody first."""
    assert spool.stat().st_mode & 0o777 == 0o700
    assert place(db).stat().st_mode & 0o777 == 0o700
    spool.chmod(0o777)
    assert refused(db, caplog)


def test_a_link_is_no_folder(
    db: Database[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It could lead anywhere."""
    db.watch.stop()
    until(lambda: not list(place(db).iterdir()))
    place(db).rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place(db).symlink_to(tmp_path / "elsewhere")
    assert refused(db, caplog)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert folder.members(place(db)) == []


def test_links_in_the_folder_are_not_followed(db: Database[Any], tmp_path: Path) -> None:
    """Neither to a file that is none of ours nor to a socket of somebody else."""
    secret = tmp_path / "secret.left"
    secret.write_text(json.dumps({"records": [], "process": {"pid": 1}}))
    (place(db) / "1-link.left").symlink_to(secret)
    (place(db) / "2-link.sock").symlink_to(tmp_path / "nowhere.sock")
    assert pids(others(db)) == [os.getpid()]
    with pytest.raises(OSError, match=r"symbolic|loop"):
        folder.read(place(db) / "1-link.left")


@pytest.mark.parametrize(
    "content",
    ["", "no JSON", "[]", "7", '{"records": 1}', "[" * 100_000, "x" * (folder.LARGEST + 1)],
)
def test_a_file_that_is_no_record_of_ours_is_left_out(db: Database[Any], content: str) -> None:
    """Too large, broken, or something else: the page shows the others."""
    (place(db) / "1-strange.left").write_text(content)
    everybody = db.watch.everybody()
    assert pids(everybody) == [os.getpid()]
    assert len(everybody.problems()) == len(db.watch.problems())
    assert everybody.record("1-strange.1") is None
    assert len(everybody.routes()) <= 1


@pytest.mark.parametrize("large", ["records", "problems", "routes"])
def test_what_is_left_is_never_too_large(large: str) -> None:
    """Nor is it looked for room for ever: that would be the end of the process, which waits."""
    few: list[Any] = [{"sent": [], "number": number} for number in range(3)]
    left: dict[str, Any] = {"records": few, "problems": [], "routes": [], "process": {"pid": 1}}
    left[large] = [{"sent": [], "reasons": "x" * 100_000} for _ in range(30)]
    found = serving.shortened(left)
    assert len(found) <= folder.LARGEST
    assert asking.checked(json.loads(found))["process"] == {"pid": 1}


def test_a_pipe_is_not_waited_for(db: Database[Any]) -> None:
    """It would never end."""
    os.mkfifo(place(db) / "1-pipe.left")
    assert pids(others(db)) == [os.getpid()]


@pytest.mark.parametrize("id", ["../../etc/passwd.1", "1", ".", "", "x.-1", "x." + "9" * 5000])
def test_an_id_names_no_file(db: Database[Any], id: str) -> None:  # noqa: A002
    """It is only compared with the names that are there."""
    assert others(db).record(id) is None


@pytest.mark.parametrize(
    "question",
    [b"", b"\n", b"no JSON\n", b"[]\n", b'{"ask": []}\n', b'{"ask": "x"}\n', b"x" * 9999],
)
def test_a_question_that_is_none_is_answered_by_nothing(db: Database[Any], question: bytes) -> None:
    """And the next one is answered."""
    (path,) = sockets(db)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        line.sendall(question)
        line.shutdown(socket.SHUT_WR)
        line.settimeout(PATIENCE)
        with suppress(ConnectionResetError):  # it was not read to its end
            assert line.recv(100) in {b"", b"null\n"}
    assert asking.ask(path, {"ask": "pool"}) is not None


def test_an_answer_that_does_not_end_is_not_heard_to_the_end(db: Database[Any]) -> None:
    """Neither its length nor its time is up to the other side."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x")
        ours.settimeout(0.1)
        with pytest.raises(TimeoutError):
            asking.heard(ours)


def says(db: Database[Any], found: dict[str, Any]) -> Path:
    """Have a process that answers these things, and ends with the test."""
    path = place(db) / "78-other.sock"
    line = socket.socket(socket.AF_UNIX)
    line.bind(str(path))
    line.listen()

    def answer() -> None:
        with suppress(OSError), line:
            while True:
                asker, _ = line.accept()
                with asker:
                    asked = json.loads(asker.makefile().readline())
                    asker.sendall(json.dumps(found.get(asked["ask"])).encode())

    threading.Thread(target=answer, daemon=True).start()
    return path


@pytest.mark.parametrize(
    "answer", [7, [1], "x", {}, {"records": 7, "process": {}}, {"records": [{"number": 1}]}]
)
def test_an_answer_of_another_shape_is_left_out(db: Database[Any], answer: Any) -> None:
    """Of another version, say, while a new one is rolled out: all others are shown."""
    path = says(db, dict.fromkeys(asking.shapes.ANSWERS, answer))
    everybody = db.watch.everybody()
    assert pids(everybody) == [os.getpid()]
    assert everybody.problems() == []
    assert len(everybody.routes()) <= 1
    assert all(len(each) == 6 for each in everybody.pool())
    assert everybody.record("78-other.1") in (None, answer)
    path.unlink()


EVIL = "\x1b[31mX\n\r\0\u202e\ud800" + "A" * 100_000


def test_what_others_say_does_nothing_to_a_terminal(db: Database[Any]) -> None:
    """Escapes, line breaks, what turns the direction, halves of letters, and very long names."""
    who = {"kind": EVIL, "name": EVIL, "seconds": 1, "line": EVIL, "server": None, "number": 1}
    holder = who | {"held": 1, "doing": EVIL, "awaited": EVIL}
    now = {"holders": [holder], "waiting": [who | {"what": EVIL, "whom": [EVIL]}], "counters": {}}
    record = {"status": 200, "began": time.time(), "waited": 0, "disagrees": False, "lost": True}
    new = {
        "records": [who | record | {"problems": 0}],
        "process": {"pid": 1, "name": EVIL},
        "database": EVIL,
        "now": now | {"pool": {"out": 1, "size": 1}},
    }
    problem = dict.fromkeys(("kind", "what", "remedy", "told", "line", "at"), EVIL)
    minute = [int(time.time() // 60), 1, 1, 0, 1, {"3": 1}]
    route = {"name": EVIL, "minutes": [minute], "since": 1, "last": 1, "slowest": [1, 1]}
    path = says(
        db,
        {
            "new": new,
            "problems": [problem | {"times": 3, "seen": 1, "routes": [EVIL]}],
            "routes": [route | {"reasons": [[EVIL, 1]]}],
            "pool": [],
        },
    )
    told = top.seen()
    names = ("recent_transactions", "problems", "who_holds_and_who_waits", "routes")
    told += [line for name in names for line in QUESTIONS[name].ask({}).splitlines()]
    assert all(each.isprintable() and len(each) < 10_000 for each in told)
    assert sum("�[31mX" in each for each in told) > 8
    path.unlink()


def test_many_who_ask_at_once_are_sent_away(db: Database[Any]) -> None:
    """A question costs a thread: there are few of them."""
    (path,) = sockets(db)
    lines = [socket.socket(socket.AF_UNIX) for _ in range(serving.AT_ONCE + 3)]
    for line in lines:
        line.settimeout(PATIENCE)
        line.connect(str(path))
    assert lines[-1].recv(1) == b""
    for line in lines:
        line.close()
    until(lambda: asking_works(path))


def asking_works(path: Path) -> bool:
    """Tell whether a question is answered."""
    try:
        return asking.ask(path, {"ask": "pool"}) is not None
    except (ValueError, ConnectionError):  # it is sent away, too
        return False


def test_the_workers_of_a_server_have_one_token(spool: Path) -> None:
    """A browser that has the address of one of them is let in by all; nobody else reads it."""
    ask = "from dbscope.watch.page.safety import token; print(token())"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert safety.token() == told.stdout.strip() != ""
    assert (spool / folder.TOKEN).stat().st_mode & 0o777 == 0o600
    assert [each.name for each in spool.iterdir()] == [folder.TOKEN]


def test_where_others_may_write_each_process_has_its_own_token(spool: Path) -> None:
    """They could choose it."""
    spool.mkdir()
    spool.chmod(0o777)
    (spool / folder.TOKEN).write_text("chosen")
    assert len({safety.token(), safety.token(), "chosen"}) == 3
