"""The pages of the shop, as a browser shows them to a person, without JavaScript."""

import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.acceptance.test_server import Server, running
from tests.support.browser import PATIENCE

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.timeout(150)  # more than the browser waits: it says what it has waited for


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("shop")
    url = f"sqlite:///{folder}/shop.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database("pages", None)
    with running(url, folder / "log") as server:
        yield server
        assert "Traceback" not in server.log.read_text()


@pytest.fixture
def client(server) -> Iterator[httpx2.Client]:
    with server.visitor() as client:
        yield client


@pytest.fixture
def page(browser, server) -> Iterator[Page]:
    context = browser.new_context(base_url=server.base, java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def keeper(server) -> Iterator[httpx2.Client]:
    """Whom the goods belong to."""
    with server.visitor() as keeper:
        register(keeper, new_email())
        yield keeper


@pytest.fixture
def sell(keeper) -> Callable[..., dict[str, Any]]:
    """Put an item into the shop."""

    def sell(price: str, quantity: int, **more: str) -> dict[str, Any]:
        item = {"name": f"tea {secrets.token_hex(4)}", "price": price, **more}
        item = keeper.post("/items", json=item).raise_for_status().json()
        stock = keeper.post(f"/items/{item['id']}/stock", json={"quantity": quantity})
        stock.raise_for_status()
        return item

    return sell


def new_email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def register(client: httpx2.Client, email: str, query: str = "") -> httpx2.Response:
    fields = {"name": "Anna", "email": email, "password": PASSWORD}
    return client.post(f"/shop/register{query}", data=fields)


def follow(page: Page, link: Locator) -> None:
    """Click, and wait until the next page is there as a whole."""
    with page.expect_event("load"):
        link.click()


def fill(page: Page, action: str, **fields: str) -> int:
    """Fill in the form of the page and send it; return the status of the answer."""
    main = page.get_by_role("main")
    for label, value in fields.items():
        main.get_by_label(label.replace("_", " ")).fill(value)
    with page.expect_event("response", lambda answer: answer.request.method == "POST") as sent:
        follow(page, main.get_by_role("button", name=action))
    return sent.value.status


def join(page: Page) -> str:
    """Be somebody new, who is logged in; return the address."""
    email = new_email()
    fields: dict[str, Any] = {"name": "Anna", "email": email, "password": PASSWORD}
    assert page.request.post("/shop/register", form=fields).ok
    return email


def order(page: Page, item: dict[str, Any], quantity: int | str) -> int:
    page.goto(f"/shop/items/{item['id']}")
    return fill(page, "Order", Quantity=str(quantity))


def path_of(page: Page) -> str:
    return "/" + page.url.partition("://")[2].partition("/")[2]


def test_who_registers_is_logged_in(page):
    """The header says who is there, and the credit to begin with."""
    page.goto("/")
    expect(page.get_by_role("banner")).to_contain_text("Log in")
    follow(page, page.get_by_role("link", name="Register"))
    email = new_email()
    status = fill(page, "Register", Name="Anna", Mail_address=email, Password=PASSWORD)
    assert (status, path_of(page)) == (303, "/")
    expect(page.get_by_role("banner")).to_contain_text("Anna Credit 100.00")
    expect(page.get_by_role("banner").get_by_text("Log in")).to_have_count(0)


def test_an_item_shows_what_it_costs_and_how_many_are_left(page, sell):
    """The price is what has to be paid, tax included, in the list and on its own page."""
    item = sell("10.00", 3, tax="1.90", description="Picked in May.")
    page.goto("/?sort=-id")
    card = page.get_by_role("listitem").filter(has_text=item["name"])
    expect(card).to_contain_text("11.90")
    expect(card).to_contain_text("Only 3 left")
    follow(page, card.get_by_role("link"))
    expect(page.get_by_role("heading", level=1)).to_have_text(item["name"])
    for words in ("11.90", "Only 3 left", "Picked in May.", "Log in to order"):
        expect(page.get_by_role("main")).to_contain_text(words)


def test_an_order_takes_the_goods_and_the_credit_once(page, sell):
    """The form leads to the page of the order; loading that again orders nothing."""
    item = sell("10.00", 9, tax="1.90")
    email = join(page)
    assert order(page, item, 2) == 303
    assert re.fullmatch(r"/shop/orders/\d+", path_of(page))
    page.reload()
    expect(page.get_by_role("row", name=item["name"])).to_contain_text("11.90 2 23.80")
    expect(page.get_by_role("row", name="Total")).to_contain_text("23.80")
    expect(page.get_by_role("main")).to_contain_text(email)
    expect(page.get_by_role("banner")).to_contain_text("Credit 76.20")
    follow(page, page.get_by_role("link", name="All your orders"))
    expect(page.get_by_role("row", name=item["name"])).to_have_count(1)
    page.goto(f"/shop/items/{item['id']}")
    expect(page.get_by_role("main")).to_contain_text("7 left")


@pytest.mark.parametrize(("quantity", "words"), [(11, "That costs 110.00"), (21, "Only 20 tea")])
def test_an_order_that_cannot_be_is_a_page_and_changes_nothing(page, sell, quantity, words):
    """Not enough credit or goods is a 409 that says so, with a way back."""
    item = sell("10.00", 20)
    join(page)
    assert order(page, item, quantity) == 409
    expect(page.get_by_role("main")).to_contain_text(words)
    expect(page.get_by_role("banner")).to_contain_text("Credit 100.00")
    follow(page, page.get_by_role("link", name="Back to the item"))
    expect(page.get_by_role("main")).to_contain_text("20 left")
    page.goto("/shop/orders")
    expect(page.get_by_role("main")).to_contain_text("You have not ordered anything yet.")


def test_what_is_sold_out_cannot_be_ordered(page, sell):
    """There is no form where there are no goods."""
    item = sell("1.00", 1)
    join(page)
    assert order(page, item, 1) == 303
    page.goto(f"/shop/items/{item['id']}")
    expect(page.get_by_role("main")).to_contain_text("Sold out")
    expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)


WRONG_QUANTITIES = {
    "": "Fill this in.",
    "two": "Enter a whole number.",
    "0": "Enter 1 or more.",
    "1000001": "Enter 1,000,000 or less.",
}


def test_a_wrong_quantity_is_said_at_the_field(page, sell):
    """The form comes back with what was entered, and a sentence that belongs to the field."""
    item = sell("1.00", 1)
    join(page)
    for quantity, words in WRONG_QUANTITIES.items():
        assert order(page, item, quantity) == 422
        field = page.get_by_label("Quantity")
        expect(field).to_have_value(quantity)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(words)
    assert fill(page, "Order", Quantity="1") == 303


def test_what_was_entered_stays_but_for_the_password(page):
    """A form that was wrong is shown again, each mistake at its field."""
    page.goto("/shop/register")
    status = fill(page, "Register", Name='A "quoted" name', Mail_address="anna", Password="short")
    assert status == 422
    expect(page.get_by_label("Name")).to_have_value('A "quoted" name')
    expect(page.get_by_label("Name")).not_to_have_attribute("aria-invalid", "true")
    address, password = page.get_by_label("Mail address"), page.get_by_label("Password")
    expect(address).to_have_value("anna")
    expect(address).to_have_accessible_description("Enter an address like anna@example.com.")
    expect(password).to_have_accessible_description("Use at least 8 characters.")
    expect(password).to_have_value("")
    assert "short" not in page.content()


def test_an_address_that_is_taken_is_said_at_the_field(page, client):
    """Who registers twice gets the form again, as a 409, and is not logged in."""
    email = new_email()
    register(client, email)
    page.goto("/shop/register")
    status = fill(page, "Register", Name="Otto", Mail_address=email.upper(), Password=PASSWORD)
    assert status == 409
    address = page.get_by_label("Mail address")
    expect(address).to_have_accessible_description(re.compile("Somebody has registered"))
    expect(page.get_by_role("banner")).to_contain_text("Log in")


def test_a_wrong_password_is_a_401_with_the_form(page, client):
    """Whether it is the address or the password that is wrong is not said."""
    email = new_email()
    register(client, email)
    said = set()
    for address, password in ((email, "wrong password"), (new_email(), PASSWORD)):
        page.goto("/shop/login")
        assert fill(page, "Log in", Mail_address=address, Password=password) == 401
        said.add(page.get_by_role("alert").inner_text())
        expect(page.get_by_label("Mail address")).to_have_value(address)
        assert password not in page.content()
    assert said == {"There is no user with this address and this password."}


def test_a_login_leads_on(page, sell, client):
    """Who has to log in first is at the item then, and can order it."""
    item, email = sell("1.00", 2), new_email()
    register(client, email)
    page.goto(f"/shop/items/{item['id']}")
    follow(page, page.get_by_role("link", name="Log in to order"))
    assert fill(page, "Log in", Mail_address=email, Password="wrong password") == 401
    assert fill(page, "Log in", Mail_address=email, Password=PASSWORD) == 303
    assert path_of(page) == f"/shop/items/{item['id']}"
    assert fill(page, "Order", Quantity="1") == 303


def test_a_cookie_is_worthless_after_logging_out(page):
    """Who has kept a copy of it is a stranger, on every page."""
    join(page)
    cookies = page.context.cookies()
    page.goto("/")
    follow(page, page.get_by_role("button", name="Log out"))
    expect(page.get_by_role("banner")).to_contain_text("Log in")
    page.context.add_cookies(cookies)
    page.goto("/")
    expect(page.get_by_role("banner")).to_contain_text("Log in")
    expect(page.get_by_role("banner")).not_to_contain_text("Your orders")
    page.goto("/shop/orders")
    assert path_of(page) == "/shop/login?next=%2Fshop%2Forders"


OUR_SCRIPT = '[src^="/shop/static/stock.js?"]'  # of the page of an item


def test_markup_is_shown_as_text(page, sell, browser):
    """What people enter is never part of the page's own markup."""
    markup = f"<script>alert({secrets.randbelow(10**9)})</script>"
    item = sell("1.00", 9, name=markup, description="<img src=x onerror=alert(1)>")
    join(page)
    assert order(page, item, 1) == 303
    for path in (path_of(page), f"/shop/items/{item['id']}", "/?sort=-id", "/shop/orders"):
        page.goto(path)
        expect(page.get_by_role("main")).to_contain_text(markup)
        expect(page.locator(f"script:not({OUR_SCRIPT}), main img")).to_have_count(0)


@pytest.mark.parametrize(("words", "falling"), [("Cheapest", False), ("Dearest", True)])
def test_pages_go_on_without_gaps(page, sell, client, words, falling):
    """Every item is on one of the pages, once, by the price that is shown."""
    for cents in range(13):
        sell(f"5.{cents:02}", 1, tax=f"0.{99 - 2 * cents:02}")
    page.goto("/")
    follow(page, page.get_by_role("link", name=words))
    names, prices = [], []
    while True:
        names += page.get_by_role("listitem").get_by_role("link").all_inner_texts()
        prices += [float(text) for text in page.locator(".price").all_inner_texts()]
        if not (more := page.get_by_role("link", name="More items")).count():
            break
        follow(page, more)
    listed = client.get("/items", params={"limit": 100}).json()["items"]
    assert sorted(names) == sorted(item["name"] for item in listed)
    assert prices == sorted(prices, reverse=falling)
    follow(page, page.get_by_role("link", name="To the beginning"))
    expect(page.get_by_role("listitem").first).to_contain_text(names[0])


def test_nothing_is_wider_than_a_phone(page, sell):
    """No page has to be moved sideways, however long a word is."""
    page.set_viewport_size({"width": 320, "height": 640})
    item = sell("1.00", 9, name="W" * 100, description="x" * 1000)
    join(page)
    assert order(page, item, 1) == 303
    mine = path_of(page)
    for path in ("/", "/?sort=-id", f"/shop/items/{item['id']}", mine, "/shop/orders", "/shop/x"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 320, path


def test_the_orders_of_others_are_not_there(page, client, sell):
    """Another user gets a 404; a stranger has to log in."""
    item = sell("1.00", 9)
    join(page)
    assert order(page, item, 1) == 303
    path = path_of(page)
    answer = client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/shop/login?next={path.replace('/', '%2F')}",
    )
    register(client, new_email())
    answer = client.get(path)
    assert (answer.status_code, item["name"] in answer.text) == (404, False)
    assert "There is no such order." in answer.text


def test_a_stranger_orders_nothing(client, sell):
    """The form of somebody whose login has ended leads to the login, and back to the item."""
    item = sell("1.00", 9)
    answer = client.post("/shop/orders", data={"item_id": item["id"], "quantity": 1})
    assert answer.headers["location"] == f"/shop/login?next=%2Fshop%2Fitems%2F{item['id']}"
    assert client.get(f"/items/{item['id']}/stock").json()["remaining"] == 9


NO_PATHS_OF_OURS = [
    "//evil.example",
    r"/\evil.example",
    r"\\evil.example",
    "https://evil.example",
    "https:evil.example",
    "javascript:evil()",
    "/\t/evil.example",
    "/shop/\r\nevil: yes",
    "/shop/orders\n",
    "",
]


def test_a_login_leads_to_no_other_site(client):
    """`next` is a path of ours, or it is not followed; nor is it in the form."""
    for wanted in NO_PATHS_OF_OURS:
        query, email = urlencode({"next": wanted}), new_email()
        assert "evil" not in client.get(f"/shop/login?{query}").text
        assert register(client, email, f"?{query}").headers["location"] == "/", wanted
        fields = {"email": email, "password": PASSWORD}
        answer = client.post(f"/shop/login?{query}", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), wanted


def test_a_login_leads_to_any_page_of_ours(client):
    """A page with its query is kept, and registering leads there as well."""
    for path in ("/shop/orders", "/?sort=price&after=a-b_c"):
        query = f"?{urlencode({'next': path})}"
        client.cookies.clear()  # who is logged in is led on at once
        form = client.get(f"/shop/login{query}").text
        assert f'action="/shop/login{query}"' in form
        assert f'href="/shop/register{query}"' in form
        assert register(client, new_email(), query).headers["location"] == path


def test_every_page_says_what_a_browser_may_do_with_it(client):
    """Nothing from elsewhere, no script, no frame, no copy: on pages, errors and redirects."""
    answers = {
        200: client.get("/"),
        303: client.get("/shop/orders"),
        404: client.get("/shop/nothing"),
        405: client.put("/shop/login"),
        422: client.get("/?sort=secret"),
        401: client.post("/shop/login", data={"email": "a@b", "password": "x"}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert status == 303 or answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("path", ["login", "register", "logout", "orders"])
def test_no_form_of_another_site_is_taken(client, path):
    """403, and it is a page."""
    answer = client.post(f"/shop/{path}", data={}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "the page of another site" in answer.text


def test_a_form_with_a_file_or_without_end_is_refused(client):
    """What no form of ours sends is a 400 or a 422, as a page, and never a 500."""
    for sent in (
        {"files": {"email": ("name", b"x")}},
        {"data": {str(number): "x" for number in range(100)}},
        {"content": b"\xff", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"{}", "headers": {"Content-Type": "application/json"}},
    ):
        answer = client.post("/shop/login", **sent)
        assert answer.status_code in (400, 422)
        assert answer.text.startswith("<!doctype html>")


def test_too_many_attempts_are_a_page(client):
    """429 says when to try again."""
    email = new_email()
    for _ in range(11):
        answer = client.post("/shop/login", data={"email": email, "password": "x"})
    assert answer.status_code == 429
    seconds = answer.headers["retry-after"]
    assert re.search(rf"Try again in {seconds} seconds?\.", answer.text)


def test_the_files_of_the_pages_are_served_and_no_others(client):
    """The style and the picture, by their kind; nothing beside their folder."""
    for name, kind in (("shop.css", "text/css; charset=utf-8"), ("teapot.svg", "image/svg+xml")):
        answer = client.get(f"/shop/static/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("", "nothing", "../page.py", "%2e%2e/page.py", "..%2fpage.py", "%2fetc/passwd"):
        assert client.get(f"/shop/static/{name}").status_code == 404, name


def test_without_its_database_the_shop_says_so(private_postgres, tmp_path):
    """A 503 is a page, too, and tells when to try again."""
    url = private_postgres.new_database()
    with running(url, tmp_path / "log") as server, server.visitor() as client:
        register(client, new_email())
        private_postgres.stop()
        for path in ("/", "/shop/orders"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "Try again in 1 second." in answer.text
        private_postgres.start()
        assert client.get("/").status_code == 200


def test_an_error_of_ours_is_a_page_without_the_error(tmp_path):
    """500 says that nothing was changed, and nothing about the inside."""
    where = tmp_path / "log"
    with running(f"sqlite:///{tmp_path}/shop.db", where) as server, server.visitor() as client:
        connection = sqlite3.connect(tmp_path / "shop.db")
        connection.execute("DROP TABLE stock")
        connection.close()
        answer = client.get("/")
    assert (answer.status_code, answer.headers["cache-control"]) == (500, "no-store")
    assert "That is our fault, and nothing was changed." in answer.text
    assert "stock" not in answer.text
    assert "no such table: stock" not in answer.text
