"""Whatever people can name, type or read is in the reference: a thing that is not documented fails here."""

from __future__ import annotations

import re

import pytest

from config.api import PREFIX, ApiSettings
from config.kafka import BEGIN_AT, FIXED, KAFKA_SETTINGS
from config.settings import RESERVED_PREFIXES, SETTINGS
from docs import make_reference
from rating.outcome import BalanceRow, ChargeRow
from rating.refusals import ParkCode, RejectCode
from sinks.postgres.ledger import DUPLICATE_MISMATCH
from sinks.postgres.migrate import MIGRATIONS
from sinks.redis import keys
from sinks.redis.balances import FUNCTIONS
from tests.docs.pages import REFERENCE, ROOT
from tollway import console
from tollway.cli import PLACES
from tollway.gate import projection as gate
from tollway.invoicing import NothingBillable

SIGNAL_KIND = re.compile(r"'((?:access|credits|balance|feature)_[a-z]+)'")
FIELD_OF_SIGNAL = re.compile(r"\b([a-z_]+) = ")
FIELD_OF_FILE = re.compile(r"""(?:\bfields(?:\.\w+\(|, ))"([A-Za-z_]+)\"""")
FIELD_OF_PRICE = re.compile(
    r"""fields\.\w+\("(\w+)\"|_tier_part\(fields, "(\w+)\"|_wrapped_decimal\(fields, "(\w+)\""""
)
TABLE = re.compile(r"^create (?:table|view|sequence) (\w+)", re.MULTILINE)


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def undocumented(names: object, text: str) -> list[str]:
    """Those of the names that a page does not have as code."""
    words = set(re.findall(r"[A-Za-z_:]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    return sorted(name for name in names if name not in words)  # type: ignore[attr-defined]


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda capital: "_" + capital[0].lower(), name)


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_what_is_read_from_the_code_is_up_to_date(name: str) -> None:
    """Help of commands, settings, metrics: `python -m docs.make_reference` writes them."""
    assert page(name) == make_reference.current(name)


@pytest.mark.parametrize("name", PLACES)
def test_each_command_has_a_section_with_its_help_and_more(name: str) -> None:
    """The help has every option and an example; what it leaves out is said below it."""
    section = page("cli.md").partition(f"\n### tollway {name}\n\n<!-- from the code: tollway {name} -->\n")[2]
    assert f"Usage: tollway {name} " in section
    below = section.partition("<!-- end -->\n")[2].partition("\n#")[0]
    assert len(below.split()) > 10


def test_each_exit_code_is_documented() -> None:
    """Those of the top-level help have a row in the table too."""
    for code in (console.OK, console.REFUSED, console.BAD_INPUT, console.NO_SERVER, console.DEFECT):
        assert f"\n| {code} |" in page("cli.md")


def test_each_setting_is_documented() -> None:
    """By its variable, and so are the prefixes of others."""
    text = page("settings.md")
    assert "<!-- from the code: settings -->" in text
    assert undocumented([setting.env for setting in SETTINGS] + list(RESERVED_PREFIXES), text) == []


def test_each_setting_of_kafka_is_documented() -> None:
    """Tollway's own by their variables, and those of librdkafka that can't be chosen by its names."""
    text = page("settings.md")
    assert undocumented([setting.env for setting in KAFKA_SETTINGS] + [BEGIN_AT], text) == []
    assert [name for name in FIXED if f"`{name}`" not in text] == []


def test_each_setting_of_the_api_is_documented() -> None:
    """By its variable and with its default."""
    defaults = ApiSettings()
    for name in ApiSettings.__struct_fields__:
        assert f"| `{PREFIX}{name.upper()}` | `{getattr(defaults, name)}` |" in page("settings.md")


def test_each_operation_of_the_api_is_documented_and_says_what_it_does() -> None:
    """The tables are read from the application: no section of it is left out."""
    text = page("api.md")
    for route in make_reference.routes():
        assert route.about, route
        assert f"| `{route.method} {route.path}` | {route.about} |" in text
    assert undocumented(gate.REASONS, text) == []


def test_each_metric_is_documented() -> None:
    """The table is read from the code; each metric of the module is in it."""
    text = page("metrics.md")
    found = [described.name for metric in make_reference.all_metrics() for described in metric.describe()]
    assert found
    assert all(f"| `{name}" in text for name in found)
    assert undocumented(["rated", "duplicate", "parked", "rejected", "redis", "postgres"], text) == []


@pytest.mark.parametrize(("heading", "codes"), [("## Rejected", RejectCode), ("## Parked", ParkCode)])
def test_the_codes_are_documented_in_their_order(heading: str, codes: type[RejectCode] | type[ParkCode]) -> None:
    """The order is the precedence."""
    section = page("codes.md").partition(f"{heading}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [code.value for code in codes]


def test_each_signal_is_documented() -> None:
    """The kinds that the server-side function raises, no more and no less, and the fields they have."""
    raised = set(SIGNAL_KIND.findall(FUNCTIONS.read_text()))
    assert len(raised) >= 7
    section = page("codes.md").partition("## Signals\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == raised
    published = FUNCTIONS.read_text().partition("cjson.encode({")[2].partition("})")[0]
    fields = FIELD_OF_SIGNAL.findall(published)
    assert "kind" in fields
    assert undocumented(fields, page("ledger.md")) == []


def test_the_other_codes_are_documented() -> None:
    """Access, duplicates with other content, and refusals that have a code."""
    codes = [DUPLICATE_MISMATCH, NothingBillable.code, "allowed", "blocked", "no_credit_available", "customer_deleted"]
    assert undocumented(codes, page("codes.md")) == []


def test_each_table_and_column_of_the_books_is_documented() -> None:
    """All tables and views, and what their rows hold where programs read them."""
    text = page("ledger.md")
    schema = "".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    assert undocumented(TABLE.findall(schema), text) == []
    assert undocumented(set(ChargeRow._fields) | set(BalanceRow._fields) - {"customer_key"}, text) == []


def test_each_redis_key_is_documented() -> None:
    """Keys are public: gateways and readers of the log use them."""
    text = page("ledger.md")
    names = [name for name in vars(keys).values() if isinstance(name, str) and name.startswith("tollway:")]
    names += [keys.balance_key("CUSTOMER"), keys.stream_key(0).replace("000", "NNN")]
    assert len(names) > 8
    assert [name for name in names if f"`{name}`" not in text and "*" not in name] == []


def test_each_field_of_a_catalog_file_is_documented() -> None:
    """Whatever the reader of catalog files and of prices asks for, by its name in a file."""
    readers = (ROOT / "tollway/catalog_file").glob("*.py")
    asked = {name for reader in readers for name in FIELD_OF_FILE.findall(reader.read_text())}
    prices = FIELD_OF_PRICE.findall((ROOT / "rating/prices.py").read_text())
    asked |= {snake(name) for found in prices for name in found if name}
    assert {"event_type", "rate_cards", "effective_at", "up_to_amount", "quantity_per_package"} <= asked
    assert undocumented(asked, page("catalog.md")) == []
