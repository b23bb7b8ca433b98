"""The documents are run: their code, the SQL they say it sends, the errors it raises."""

import ast
import asyncio
import inspect
import re
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Self
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import Connection, Engine, event
from starlette.testclient import TestClient
from sybil.document import Document
from sybil.evaluators.python import pad
from sybil.example import Example
from sybil.parsers.markdown import CodeBlockParser

from dbscope import AsyncDatabase, Database, DBScopeError, errors

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
runs = count(1)
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Source"]
URL = "sqlite:///app.db"  # what the documents say; another database is put in its place

REQUEST = re.compile(r"-- (?P<method>[A-Z]+) (?P<path>\S+) -> (?P<status>\d{3})$")


class Wire:
    """What is sent to the database, by engines of any kind."""

    EVENTS = ("begin", "commit", "rollback", "before_cursor_execute")

    def __init__(self) -> None:
        self.sent: list[str] = []

    def __enter__(self) -> Self:
        for name in self.EVENTS:
            event.listen(Engine, name, getattr(self, name))
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self.EVENTS:
            event.remove(Engine, name, getattr(self, name))

    def begin(self, connection: Connection) -> None:
        self.sent.append("BEGIN")

    def commit(self, connection: Connection) -> None:
        self.sent.append("COMMIT")

    def rollback(self, connection: Connection) -> None:
        self.sent.append("ROLLBACK")

    def before_cursor_execute(self, connection, cursor, statement, *args) -> None:
        self.sent.append(re.sub(r"\s+", " ", statement))


class Run:
    """One run of a document from top to bottom, as its reader would do it."""

    def __init__(self, path: Path, url: str, wire: Wire) -> None:
        self.url = url
        self.wire = wire
        self.raised: BaseException | None = None
        self.runner = asyncio.Runner()
        languages = {"python": self.python, "sql": self.sql, "text": self.text}
        parsers = [CodeBlockParser(name, run) for name, run in languages.items()]
        self.document = Document.parse(str(path), *parsers)
        self.document.namespace["__name__"] = f"document_{path.stem}_{next(runs)}"  # nobody else's

    def __call__(self) -> None:
        name = self.document.namespace["__name__"]
        sys.modules[name] = ModuleType(name)  # as an import does
        try:
            with self.runner:
                for example in self.document.examples():
                    example.evaluate()
        finally:
            del sys.modules[name]
        self.expect_nothing_raised()

    def expect_nothing_raised(self) -> None:
        raised, self.raised = self.raised, None
        if raised is not None:
            raise raised

    def python(self, example: Example) -> None:
        """Run a block as `python -m asyncio` does: `await` needs no function around it."""
        self.expect_nothing_raised()
        source = pad(example.parsed, example.line + example.parsed.line_offset)
        source = source.replace(f'"{URL}"', f'"{self.url}"')
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, example.path, "exec", flags, dont_inherit=True)
        try:
            result = eval(code, example.namespace)
            if inspect.iscoroutine(result):
                self.runner.run(self.awaited(result, example.namespace))
        except DBScopeError as error:
            self.raised = error
        finally:
            self.dispose()

    async def awaited(self, coroutine, namespace) -> None:
        try:
            await coroutine
        finally:
            for value in list(namespace.values()):
                if isinstance(value, AsyncDatabase):
                    await value.dispose()

    def dispose(self) -> None:
        """Leave no connection open: a warning about it would come during somebody else's test."""
        for value in list(self.document.namespace.values()):
            if isinstance(value, AsyncDatabase):
                value.sync.dispose()
            elif isinstance(value, Database | Engine):
                value.dispose()

    def sql(self, example: Example) -> str | None:
        """Make the request of the first line, and compare what it sends."""
        self.expect_nothing_raised()
        first, *told = example.parsed.strip().splitlines()
        asked = REQUEST.match(first)
        assert asked, f"{first!r} is no request"
        status, sent = self.request(example.namespace["app"], asked["method"], asked["path"])
        wanted = [line.partition("--")[0].strip() for line in told]
        wanted = [line for line in wanted if line]
        if status == int(asked["status"]) and matches("\n".join(wanted), "\n".join(sent)):
            return None
        return "\n".join([f"{first} was answered {status} and sent:", *sent])

    def request(self, app, method: str, path: str) -> tuple[int, list[str]]:
        app.middleware_stack = None  # a new start, with the exception handlers added since
        with TestClient(app) as client:
            self.wire.sent.clear()
            try:
                status = client.request(method, path).status_code
            except DBScopeError as error:
                status, self.raised = 500, error
            finally:
                self.dispose()
            return status, list(self.wire.sent)

    def text(self, example: Example) -> str | None:
        """Compare what the block before it has raised."""
        error, self.raised = self.raised, None
        told = f"{type(error).__module__}.{type(error).__name__}: {error}"
        return None if matches(example.parsed.strip(), told) else told


def matches(pattern: str, text: str) -> bool:
    """Tell whether they are the same: `...` stands for anything, and a line may end anywhere."""
    regex = ".*".join(re.escape(" ".join(part.split())) for part in f" {pattern} ".split("..."))
    return re.fullmatch(regex, " ".join(text.split())) is not None


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


by_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)


pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # as is shown


@by_document
def test_documents_are_true_on_sqlite(path, tmp_path, monkeypatch, wire):
    """Every block of a document runs, sends what is shown, and raises what is shown."""
    monkeypatch.chdir(tmp_path)
    Run(path, URL, wire)()


@by_document
def test_documents_are_true_on_postgresql(path, tmp_path, monkeypatch, wire, postgres_url):
    """The same blocks send and raise the same on PostgreSQL."""
    monkeypatch.chdir(tmp_path)
    Run(path, postgres_url, wire)()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run `uvicorn app:app` in a folder, with its output in `log`; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(listener.fileno())]
        server = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, pass_fds=[listener.fileno()]
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.terminate()
            server.wait(30)


def test_the_example_of_the_readme_runs_in_an_empty_folder(tmp_path):
    """Pasted into app.py and served, it stores what it answers for, and the hook has run."""
    (example,) = re.findall(
        r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "app.py").write_text(example, encoding="utf-8")
    with served(tmp_path) as address:
        request = Request(f"{address}/notes?words=hi", method="POST")
        with urlopen(request, timeout=50) as response:
            assert (response.status, response.read()) == (201, b'"hi"')
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            assert connection.execute("SELECT words FROM notes").fetchall() == [("hi",)]
    assert "stored: hi\n" in (tmp_path / "log").read_text(encoding="utf-8")


def test_the_first_test_of_the_guide_passes_for_the_example_of_the_readme(tmp_path):
    """Both pasted into an empty folder; twice, since nothing of it stays."""
    guide = (ROOT / "docs" / "how-to" / "testing.md").read_text("utf-8")
    section = guide.partition("## With pytest")[2]
    for name, kind, text in (
        ("app.py", "python", README.read_text("utf-8")),
        ("pyproject.toml", "toml", section),
        ("test_app.py", "py", section),
    ):
        block = re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
        (tmp_path / name).write_text(block, encoding="utf-8")
    for _ in range(2):
        command = [sys.executable, "-m", "pytest", "-q"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "1 passed" in ran.stdout, ran.stdout


def test_the_readme_fits_on_a_screen():
    """Who comes by reads one screen, and not a second."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 70


@pytest.mark.parametrize("package", ["SQLAlchemy", "FastAPI", "Starlette"])
def test_the_readme_tells_the_oldest_release_that_is_allowed(package):
    """As pyproject.toml has it, which tests/install tries."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["fastapi"]]
    floor = re.search(
        rf"^{package}(?:\[\w+\])?>=(\S+)$", "\n".join(wanted), re.IGNORECASE | re.MULTILINE
    )
    assert floor is not None
    assert f"{package} {floor[1]} to " in README.read_text(encoding="utf-8")


def test_every_error_has_its_section():
    """Messages link to docs/errors.md, so each class has a section there, in the same order."""
    classes = [
        name
        for name, member in vars(errors).items()
        if inspect.isclass(member) and member.__module__ == errors.__name__
    ]
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == classes


@by_document
def test_links_lead_somewhere(path):
    """What a document links to is there; PyPI shows the README, so that one links by URL."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", text):
        assert path != README
        assert (path.parent / target).exists(), target
    for target in re.findall(rf"\]\({re.escape(REPOSITORY)}/blob/main/([^)#]*)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target


def test_every_document_is_listed():
    """In docs/README.md, which the README leads to."""
    listed = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "docs" / "README.md").read_text("utf-8"))
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in DOCUMENTS if path != README}
    assert set(listed) == documents - {"README.md"}


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/decisions/README.md"])
def test_the_modules_that_the_house_is_told_by_are_there(name):
    """A newcomer who is sent to a module finds it."""
    told = re.findall(r"`([\w.]+/[\w./]+\.py)`", (ROOT / name).read_text(encoding="utf-8"))
    assert told
    gone = [each for each in told if not any((ROOT / place / each).exists() for place in PLACES)]
    assert gone == []


PLACES = (".", "src/dbscope")
