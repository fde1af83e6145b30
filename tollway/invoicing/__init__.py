"""
Invoicing: what the ledger says a customer has come to, less what its invoices have billed.

Amounts on an invoice are in whole minor units of its currency, rounded once per detail; quantities are exact.
A billing period is worked out anew from its row in the ledger each time, and a line is the difference, detail
by detail, to all that the invoices that stand have billed of the period. So one rule serves progressive
invoices, late usage, a lower volume tier, a fee that was shortened and a voided invoice alike, and rounded
parts add up to the rounded whole.

    gathering, gatherings           what is not billed yet, of one customer or of many
    draft, approve, draw_up         billing it on a draft, issuing that, both at once
    advance, void, delete           moving a draft on, taking back what was billed
    invoice, invoices               those that were drawn up
"""

from tollway.invoicing.drawing import (
    DUE_AFTER,
    advance,
    approve,
    delete,
    draft,
    draw_up,
    gathering,
    gatherings,
    invoice,
    void,
)
from tollway.invoicing.lines import price_book
from tollway.invoicing.model import (
    ActionNotAvailable,
    Invoice,
    InvoiceCustomer,
    InvoiceStatus,
    LedgerIncomplete,
    Line,
    LineDetail,
    LineType,
    NothingBillable,
    Totals,
)
from tollway.invoicing.parts import Before, before_parts, details_of
from tollway.invoicing.pricing import priced_by
from tollway.invoicing.stored import Choice, chosen_invoices, invoices

__all__ = [
    "DUE_AFTER",
    "ActionNotAvailable",
    "Before",
    "Choice",
    "Invoice",
    "InvoiceCustomer",
    "InvoiceStatus",
    "LedgerIncomplete",
    "Line",
    "LineDetail",
    "LineType",
    "NothingBillable",
    "Totals",
    "advance",
    "approve",
    "before_parts",
    "chosen_invoices",
    "delete",
    "details_of",
    "draft",
    "draw_up",
    "gathering",
    "gatherings",
    "invoice",
    "invoices",
    "price_book",
    "priced_by",
    "void",
]
