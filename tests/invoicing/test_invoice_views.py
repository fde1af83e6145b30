"""Invoices as OpenMeter's v1 API writes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from tests.invoicing.books import Books, pricing, tiered
from tollway.invoicing import Invoice, advance, approve, draft, draw_up, gathering, invoice, void
from tollway.openmeter import invoice_views
from tollway.openmeter.codec import encode_v1

DUE_AFTER = timedelta(days=30)
TIERED = tiered("graduated", ("1000", "0.01", None), (None, "0.0000001", "2"), minimumAmount="20")


def as_v1(invoice: Invoice) -> dict[str, Any]:
    """An invoice as a client reads it."""
    read: dict[str, Any] = msgspec.json.decode(encode_v1(invoice_views.view(invoice)))
    return read


def totals(amount: str, charges: str, credits: str, total: str) -> dict[str, str]:
    """Totals without discounts and taxes."""
    return {
        "amount": amount,
        "chargesTotal": charges,
        "discountsTotal": "0",
        "creditsTotal": credits,
        "overageTotal": "0",
        "taxesTotal": "0",
        "total": total,
    }


def test_an_invoice_in_v1_is_in_camel_case_with_plain_numbers(books: Books) -> None:
    """No exponents, no floats, one child per detail."""
    books.customer("acme", {"calls": pricing(TIERED)})
    books.used("acme", "calls", "1000000", "13.5", closed=True)
    found = draw_up(books.connection, "acme")
    written: dict[str, Any] = as_v1(found)
    (line,) = written.pop("lines")
    assert all(written.pop(name).endswith("Z") for name in ("issuedAt", "createdAt", "updatedAt", "collectionAt"))
    assert written.pop("quantitySnapshotedAt").endswith("Z")
    assert found.issued_at is not None
    assert written.pop("dueAt")[:10] == f"{found.issued_at + DUE_AFTER:%Y-%m-%d}"
    assert written.pop("workflow")["workflow"]["invoicing"]["dueAfter"] == "P30D"
    assert written == {
        "id": found.id,
        "type": "standard",
        "number": found.number,
        "status": "issued",
        "statusDetails": {
            "immutable": True,
            "failed": False,
            "extendedStatus": "issued",
            "availableActions": {"void": {"resultingState": "voided"}},
        },
        "customer": {"id": "id-of-acme", "key": "acme", "name": "Acme"},
        "currency": "USD",
        "totals": totals("12.1", "7.9", "13.5", "6.5"),
        "period": {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"},
        "validationIssues": [],
    }
    children = line.pop("children")
    assert line.pop("createdAt") == line.pop("updatedAt")
    assert line.pop("price") == line["rateCard"]["price"]
    assert line == {
        "id": found.lines[0].id,
        "type": "usage_based",
        "name": "Calls",
        "currency": "USD",
        "invoice": {"id": found.id},
        "status": "valid",
        "managedBy": "subscription",
        "invoiceAt": "2026-04-01T00:00:00Z",
        "subscription": {"id": "sub-acme"},
        "featureKey": "calls",
        "period": {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"},
        "quantity": "1000000",
        "meteredQuantity": "1000000",
        "meteredPreLinePeriodQuantity": "0",
        "totals": totals("12.1", "7.9", "13.5", "6.5"),
        "rateCard": {
            "featureKey": "calls",
            "price": {
                "type": "tiered",
                "mode": "graduated",
                "tiers": [
                    {
                        "upToAmount": "1000",
                        "unitPrice": {"type": "unit", "amount": "0.01"},
                        "flatPrice": None,
                    },
                    {
                        "unitPrice": {"type": "unit", "amount": "0.0000001"},
                        "flatPrice": {"type": "flat", "amount": "2"},
                    },
                ],
                "minimumAmount": "20",
            },
            "discounts": None,
        },
        "creditAllocations": [{"amount": "13.5"}],
    }
    shown = [(c["name"], c["category"], c["perUnitAmount"], c["quantity"], c["totals"]) for c in children]
    assert shown == [
        ("graduated-tiered-1-price-usage", "regular", "0.01", "1000", totals("10", "0", "10", "0")),
        ("graduated-tiered-2-flat-price", "regular", "2", "1", totals("2", "0", "2", "0")),
        ("graduated-tiered-2-price-usage", "regular", "0.0000001", "999000", totals("0.1", "0", "0.1", "0")),
        ("min-spend", "commitment", "7.9001", "1", totals("0", "7.9", "1.4", "6.5")),
    ]


def test_a_stored_invoice_is_written_as_it_was_drawn_up(books: Books) -> None:
    """Also after it was voided, save for its status."""
    books.customer("acme", {"calls": pricing(TIERED)})
    books.used("acme", "calls", "1001", "0.003")
    drawn = as_v1(draw_up(books.connection, "acme"))
    assert isinstance(drawn["id"], str)
    assert as_v1(invoice(books.connection, drawn["id"])) == drawn
    voided = as_v1(void(books.connection, drawn["id"]))
    assert (voided["lines"], voided["totals"]) == (drawn["lines"], drawn["totals"])
    assert voided["status"] == "voided"


def test_the_gathering_invoice_is_neither_issued_nor_immutable(books: Books) -> None:
    """What it lacks is left out; without lines it has no period."""
    books.customer("acme", {"calls": pricing(TIERED)})
    empty = as_v1(gathering(books.connection, "acme"))
    assert (empty["status"], empty["lines"]) == ("gathering", [])
    assert not {"issuedAt", "period", "voidedAt"} & empty.keys()
    books.used("acme", "calls", "1")
    details = as_v1(gathering(books.connection, "acme"))["statusDetails"]
    assert details == {
        "immutable": False,
        "failed": False,
        "extendedStatus": "gathering",
        "availableActions": {"invoice": {}},
    }


def test_a_draft_says_what_can_be_done_with_it(books: Books) -> None:
    """Until it is advanced, and from then on until it is approved; then it can be voided, and after that nothing."""
    books.customer("acme", {"calls": pricing(TIERED)})
    books.used("acme", "calls", "1")
    drawn = draft(books.connection, "acme")
    seen: list[dict[str, Any]] = [as_v1(drawn)]
    seen += [as_v1(act(books.connection, drawn.id)) for act in (advance, approve, void)]
    details = [one["statusDetails"] for one in seen]
    assert [(one["status"], one["statusDetails"]["extendedStatus"]) for one in seen] == [
        ("draft", "draft.created"),
        ("draft", "draft.manual_approval_needed"),
        ("issued", "issued"),
        ("voided", "voided"),
    ]
    assert [
        {name: action["resultingState"] for name, action in one["availableActions"].items()} for one in details
    ] == [
        {
            "advance": "draft.manual_approval_needed",
            "approve": "issued",
            "delete": "deleted",
            "void": "voided",
        },
        {"approve": "issued", "delete": "deleted", "void": "voided"},
        {"void": "voided"},
        {},
    ]
    assert [one["immutable"] for one in details] == [False, False, True, True]
    assert "dueAt" not in seen[0]
    assert seen[2]["dueAt"] > seen[2]["issuedAt"]
    assert seen[0]["number"] == f"DRAFT-{drawn.id}"
    assert seen[3]["number"] == seen[2]["number"]
