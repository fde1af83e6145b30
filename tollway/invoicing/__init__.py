"""
Invoicing: what the ledger says a customer has come to, less what its invoices have billed.

Amounts on an invoice are in whole minor units of its currency, rounded once per detail; quantities are exact.
A billing period is worked out anew from its row in the ledger each time, and a line is the difference, detail
by detail, to all that the invoices that stand have billed of the period. So one rule serves progressive
invoices, late usage, a lower volume tier, a fee that was shortened and a voided invoice alike, and rounded
parts add up to the rounded whole.

    gathering, draw_up, void    what is not billed yet, billing it, taking that back
    invoice, invoices           those that were drawn up
    as_v1                       an invoice as OpenMeter's v1 API writes it
"""

from tollway.invoicing.drawing import draw_up, gathering, invoice, void
from tollway.invoicing.lines import price_book, priced_by
from tollway.invoicing.model import (
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
from tollway.invoicing.stored import invoices
from tollway.invoicing.v1 import as_v1

__all__ = [
    "Invoice",
    "InvoiceCustomer",
    "InvoiceStatus",
    "LedgerIncomplete",
    "Line",
    "LineDetail",
    "LineType",
    "NothingBillable",
    "Totals",
    "as_v1",
    "draw_up",
    "gathering",
    "invoice",
    "invoices",
    "price_book",
    "priced_by",
    "void",
]
