"""Setting things up and billing: catalog, grants, invoices."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from rating.money import parse_decimal, plain
from sinks.postgres.migrate import migrate
from tollway import catalog_file, invoicing
from tollway.commands.stores import max_ahead, stores
from tollway.commands.tables import print_invoice
from tollway.console import instant, money, print_json, print_table, say, settings, show, tell_cut
from tollway.control import ControlPlane, GrantDraft
from tollway.embedded import servers

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def apply(
    file: Annotated[Path, typer.Argument(help="A catalog, in YAML, or - for standard input.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Publish its plans also over versions published elsewhere since.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Make the catalog as a file says: meters, features, plans, customers, subscriptions, grants.

    All or nothing, and safe to repeat: what is there already is left unchanged, and so is what others changed since
    where the file says nothing new.

    Example: tollway apply config/catalog/ai_tokens.yaml
    """
    chosen = settings()
    loaded = catalog_file.load_catalog_file(file)
    with servers(chosen, report=say) as endpoints:
        migrate(endpoints.postgres_dsn)
        with ControlPlane(endpoints.postgres_dsn, endpoints.redis_url, max_ahead=max_ahead()) as plane:
            changes = catalog_file.apply(plane, loaded, overwrite=overwrite)
    same = sum(change.action == "unchanged" for change in changes)
    say(f"{len(changes)} entries: {len(changes) - same} changed, {same} unchanged.")
    if as_json:
        print_json(changes)
        return
    print_table("Catalog", ["kind", "key", "action", ""], [[c.kind, c.key, c.action, c.detail] for c in changes])


def grant(
    customer: Annotated[str, typer.Argument(help="The customer's key or id.")],
    amount: Annotated[str, typer.Argument(help="In the customer's currency, for example 50 or 12.5.")],
    key: Annotated[str | None, typer.Option(help="Makes it safe to repeat: the same key is the same grant.")] = None,
    priority: Annotated[int, typer.Option(min=1, max=1000, help="Lower is used up first.")] = 10,
    feature: Annotated[list[str] | None, typer.Option(help="Only for this feature; may be repeated.")] = None,
    effective_at: Annotated[
        str | None,
        typer.Option(
            help="From when on it pays: an instant, RFC 3339, or a date for its start in UTC; it may have passed."
            " Default: now."
        ),
    ] = None,
    expires_after: Annotated[str | None, typer.Option(help="ISO 8601 duration from then on, for example P30D.")] = None,
    as_json: Json = False,
) -> None:
    """
    Grant prepaid credits to a customer. A customer that was blocked for want of credit may then go on.

    Example: tollway grant acme 50 --key top-up-1 --expires-after P1Y
    """
    granted = _amount(amount)
    starts = instant(effective_at, "--effective-at") if effective_at else None
    draft = GrantDraft(
        amount=granted,
        key=key,
        priority=priority,
        features=tuple(feature or ()),
        effective_at=starts,
        expires_after=expires_after,
    )
    with (
        stores() as (endpoints, _),
        ControlPlane(endpoints.postgres_dsn, endpoints.redis_url) as plane,
        plane.changing() as changes,
    ):
        made = changes.grant(customer, draft)
    if as_json:
        print_json(made)
    else:
        show(f"Granted {plain(made.amount)} {made.currency} to {customer}: grant {made.id}")


def invoice(
    customer: Annotated[str, typer.Argument(help="The customer's key or id.")],
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what the next invoice would bill, and draw up none.")
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(help="Only periods that began strictly before this instant, RFC 3339, or date: its start in UTC."),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Draw up an invoice of all that was charged and not billed before, credits applied.

    Where nothing came to be owed since the last one, none is drawn up, and the exit code is 1.

    Example: tollway invoice acme --preview
    """
    at = instant(as_of) if as_of else None
    with stores() as (_, connection):
        draw = invoicing.gathering if preview else invoicing.draw_up
        drawn = draw(connection, customer, at)
    if as_json:
        print_json(drawn)
        return
    _print(drawn)


def _print(drawn: invoicing.Invoice) -> None:
    """An invoice with its lines."""
    name = drawn.customer.name or drawn.customer.key
    print_invoice(f"Invoice {drawn.number} ({_came_to(drawn)}), {name}, {drawn.currency}", drawn.currency, drawn.lines)


def invoices(
    customer: Annotated[str | None, typer.Argument(help="Only those of this customer, by key or id.")] = None,
    number: Annotated[str | None, typer.Option(help="Show this one invoice with its lines, by number or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """
    Show the invoices that were drawn up, the newest first.

    A voided invoice says what became of what it billed: it is billable again, or is never billed again.

    Example: tollway invoices acme

    Example: tollway invoices --number INV-2026-000001
    """
    if number is not None:
        if customer is not None:
            raise typer.BadParameter("`--number`: names one invoice\nhint: leave the customer out, or the number")
        with stores() as (_, connection):
            one = invoicing.invoice(connection, number)
        if as_json:
            print_json(one)
        else:
            _print(one)
        return
    with stores() as (_, connection):
        found = invoicing.invoices(connection, customer, limit=limit + 1)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json(found)
    else:
        columns = ["number", "status", "customer", "drawn up", "amount", "credits", "overage", "total", "currency"]
        print_table("Invoices", columns, [_row(one) for one in found])
    if cut:
        tell_cut(limit)


def _row(found: invoicing.Invoice) -> list[object]:
    totals = (found.totals.amount, found.totals.credits_total, found.totals.overage_total, found.totals.total)
    amounts = [money(amount, found.currency) for amount in totals]
    return [found.number, _came_to(found), found.customer.key, found.created_at, *amounts, found.currency]


def _came_to(found: invoicing.Invoice) -> str:
    """The status for people: of a voided invoice, also what became of its lines."""
    if found.status is not invoicing.InvoiceStatus.VOIDED:
        return found.status.value
    return "voided, never billed again" if found.discarded else "voided, billable again"


def _amount(text: str) -> Decimal:
    try:
        return parse_decimal(text)
    except ValueError:
        raise typer.BadParameter(
            f"`amount`: expected a decimal like 50 or 12.5, got `{text[:40]}`\n"
            "hint: write it with a point, and without its currency"
        ) from None
