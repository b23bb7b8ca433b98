"""A shop with three workers and a job, seen by a browser, by the command and by a program."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dbscope.watch.share import revisions
from tests.support.browser import PATIENCE
from tests.support.processes import short_folder
from tests.watch.demo_server import Demo
from tests.watch.pictures import SIZES, VIEWS, open_view

pytestmark = [pytest.mark.timeout(300), pytest.mark.ci]
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def shop(postgres: Any) -> Iterator[Demo]:
    """A shop in which something of everything has happened."""
    with short_folder() as folder:
        demo = Demo(postgres.new_database("shop"), folder / "spool")
        with demo.serving():
            demo.buy(30)
            demo.look()
            demo.complain()
            demo.block(0.3)
            for thread in demo.stick(12, 0.7):
                thread.join()
            assert demo.run("nightly.py", "0").wait() == 0
            yield demo


@pytest.fixture
def page(browser: Browser, shop: Demo) -> Iterator[Page]:
    """A page on a desk, in which nothing goes wrong."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    wrong = wrong_in(page)
    yield page
    assert wrong == []
    context.close()


def wrong_in(page: Page) -> list[str]:
    """Return a list that gets what the page complains of."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    return wrong


# -- all workers -----------------------------------------------------------------------------------


def looks(shop: Demo) -> list[dict[str, Any]]:
    """Return what one worker tells of all."""
    with shop.client() as client, client.stream("GET", "/_db/events") as stream:
        told = next(each for each in stream.iter_lines() if each.startswith("data: "))
    found: list[dict[str, Any]] = json.loads(told.removeprefix("data: "))
    return found


def test_whichever_worker_answers_tells_of_all(shop: Demo) -> None:
    """The workers, each with records of its own, and the job, which has ended."""
    for _ in range(6):
        found = looks(shop)
        running = [each for each in found if each.get("now")]
        assert len(running) == shop.workers
        assert all(each["records"] for each in running)
        (job,) = [each for each in found if each["process"].get("ended")]
        assert [each["name"] for each in job["records"]] == ["nightly.py:12"]


def test_whichever_worker_answers_has_each_record(shop: Demo) -> None:
    """By its id, which says of which process it is."""
    ids = {each["id"]: each["records"][-1]["id"] for each in looks(shop)}
    assert len(ids) >= shop.workers
    with shop.client() as client:
        for number in ids.values():
            for _ in range(4):
                assert client.get(f"/_db/api/records/{number}").json()["id"] == number


def test_the_folder_is_for_its_user_alone(shop: Demo) -> None:
    """And has nothing but the sockets of the workers, what the job has left, and a note."""
    (database,) = shop.spool.iterdir()
    assert {each.stat().st_mode & 0o777 for each in (shop.spool, database)} == {0o700}
    found = sorted(each.suffix or each.name for each in database.iterdir())
    assert found == [".left", *[".sock"] * 3, revisions.FILE]
    assert (database / revisions.FILE).stat().st_mode & 0o777 == 0o600


def test_the_top_of_a_terminal_has_all_of_them(shop: Demo) -> None:
    """In a pipe it is plain text, and ends if it is asked for once."""
    threads = shop.stick(6, 8.0)
    shown = ""
    while "HOLDS A CONNECTION" not in shown:
        shown = shop.command("top", "--once")
    assert "3 processes" in shown
    assert "GET /reports/daily [" in shown
    assert "POST /orders" in shown
    assert "HTTPException 409 'sold out' raised at orders.py:" in shown
    assert "\x1b" not in shown
    for thread in threads:
        thread.join()


def test_the_top_of_a_terminal_goes_on_until_nobody_reads(shop: Demo) -> None:
    """`dbscope top | head` ends as such a pipe does, without a word of complaint."""
    process = shop.run(
        "-m", "dbscope", "top", "--every", "0.1", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(2):
        while "in the last minute" not in process.stdout.readline():
            pass
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def asked(shop: Demo, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what `dbscope mcp` answers to calls of tools."""
    messages: list[dict[str, Any]] = [{"method": "initialize", "params": {}}]
    for name, arguments in calls:
        messages.append({"method": "tools/call", "params": {"name": name, "arguments": arguments}})
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": n, **each}) + "\n" for n, each in enumerate(messages)
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    told, _ = shop.run("-m", "dbscope", "mcp", **pipes).communicate("".join(lines), timeout=60)
    return [json.loads(line)["result"] for line in told.splitlines()][1:]


def test_a_program_gets_the_same_answers(shop: Demo) -> None:
    """By the Model Context Protocol: the one line, problems, routes, and all of one record."""
    first, found, routes = asked(
        shop,
        ("recent_transactions", {"only": "disagrees", "n": 5}),
        ("problems", {}),
        ("routes", {}),
    )
    told = first["content"][0]["text"]
    assert "rolled back, Declined raised at orders.py:" in told
    assert "add .options(selectinload(Order.lines))" in found["content"][0]["text"].replace("`", "")
    assert "GET /orders/{number}" in routes["content"][0]["text"]
    number = told.splitlines()[1].partition(" ")[0]
    (record,) = asked(shop, ("transaction", {"id": number}))
    assert json.loads(record["content"][0]["text"])["id"] == number


# -- the page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_nobody_is_kept_from_using_it(
    browser: Browser, shop: Demo, view: str, size: str, scheme: Any
) -> None:
    """By axe-core; nothing is wider than the screen, and nothing is complained of."""
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    wrong = wrong_in(page)
    open_view(page, shop.base, view)
    for summary in page.locator("details summary").all():
        summary.click()
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in SERIOUS]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in serious] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert wrong == []
    context.close()


def press_until(page: Page, key: str, holds: Callable[[], bool]) -> None:
    """Press a key until this is so."""
    for _ in range(80):
        if holds():
            return
        page.keyboard.press(key)
    pytest.fail(f"it cannot be reached by {key}")


def focus(page: Page) -> str:
    """Return the text of what has the focus."""
    told: str = page.evaluate("document.activeElement.innerText")
    return told


def test_a_plan_is_got_by_the_keyboard_alone(page: Page, shop: Demo) -> None:
    """From the filter over the record to the statement, its SQL, and how it would be done."""
    page.goto(f"{shop.base}/_db/")
    page.wait_for_selector(".records a")
    press_until(page, "Tab", lambda: focus(page).startswith("Problems"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Problems")).to_be_visible()
    page.go_back()
    press_until(page, "Tab", lambda: page.evaluate("document.activeElement.type") == "search")
    page.keyboard.type("GET /orders/1")
    press_until(page, "Tab", lambda: "read" in focus(page) and "GET /orders/1" in focus(page))
    page.keyboard.press("Enter")
    press_until(page, "Tab", lambda: focus(page).startswith("SELECT orders"))
    page.keyboard.press("Enter")
    press_until(page, "Tab", lambda: focus(page) == "Explain")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Index Cond: (id = $1)")).to_be_visible()


def test_what_disagrees_is_one_click_away(page: Page, shop: Demo) -> None:
    """And says both sides."""
    page.goto(f"{shop.base}/_db/")
    page.get_by_role("link", name="Answer and database disagree").click()
    rows = page.locator(".records li a")
    expect(rows).to_have_count(2)
    rows.filter(has_text="Declined").click()
    sides = page.get_by_role("region", name="Answer and database disagree")
    expect(sides).to_contain_text("200 it worked")
    expect(sides).to_contain_text("not stored: 1 INSERT into orders")


def test_what_happens_now_is_shown_now(page: Page, shop: Demo) -> None:
    """Who holds connections of which worker, and the revision that is not there yet."""
    page.goto(f"{shop.base}/_db/#/now")
    threads = shop.stick(4, 8.0)
    expect(page.get_by_role("row", name="GET /reports/daily").first).to_be_visible()
    for thread in threads:
        thread.join()
    page.get_by_role("link", name="Migrations").click()
    expect(page.get_by_text("The database is behind by 1")).to_be_visible()


def test_who_reads_is_not_disturbed(page: Page, shop: Demo) -> None:
    """What is new waits at the top, and says so."""
    page.goto(f"{shop.base}/_db/")
    page.locator(".records a").nth(3).focus()
    before = focus(page)
    shop.buy(3)
    news = page.get_by_role("button", name="new")
    expect(news).to_be_visible()
    assert focus(page) == before
    news.click()
    expect(news).to_have_count(0)


def test_the_rest_of_the_processes_do_not_wait_for_one_that_is_stuck(shop: Demo) -> None:
    """Its interpreter may be held by C code; it is told as silent, and the others are shown."""
    import socket

    (database,) = shop.spool.iterdir()
    path = Path(database, "99-stuck.sock")
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(path))
        stuck.listen()
        began = time.monotonic()
        found = {each["id"]: each for each in looks(shop)}
        assert found["99-stuck"]["now"] is None
        assert len(found) >= shop.workers + 1
        assert time.monotonic() - began < PATIENCE / 1000
    path.unlink()
