"""
The ledger as people and programs read it: balances, charges, credits, signals, events that were not rated.

Amounts are exact decimals in the customer's currency, instants are in UTC. Rows of the ledger are absolute,
so what reads like a history, the credit transactions, is derived from them each time anew, and adds up to the
balance by construction. Each function reads on the connection that it is given, whatever its transaction.

    find_customer                   whom an id or a key means
    balance                         what a customer has left, and whether it may go on
    charges                         what it was charged, by rate card and billing period
    credit_grants                   its grants, and what became of them
    credit_transactions             how its credits came and went
    signals                         what it was signalled
    parked, parked_counts           events that wait for the catalog
    unpriced                        what of rated events no feature prices
    dead_letters                    events that were refused
    list_customers, list_plans,     what was set up
      list_subscriptions
    rows, structs                   what a statement finds, by its name
"""

from tollway.ledger_reads.balances import Balance, balance
from tollway.ledger_reads.charged import Charge, ChargeStatus, ChargeWindow, charges
from tollway.ledger_reads.customers import CustomerHead, NotFound, find_customer
from tollway.ledger_reads.grants import CreditGrant, GrantStatus, credit_grants
from tollway.ledger_reads.listed import (
    ListedCustomer,
    ListedPlan,
    ListedSubscription,
    list_customers,
    list_plans,
    list_subscriptions,
)
from tollway.ledger_reads.statements import Connection, rows, structs
from tollway.ledger_reads.told import (
    CUSTOMERS_MAX,
    DeadLetter,
    ParkedEvent,
    SignalRecord,
    Unpriced,
    dead_letters,
    parked,
    parked_counts,
    signals,
    unpriced,
)
from tollway.ledger_reads.transactions import (
    AvailableBalance,
    CreditTransaction,
    TransactionType,
    credit_transactions,
)
from tollway.storable import is_storable

__all__ = [
    "CUSTOMERS_MAX",
    "AvailableBalance",
    "Balance",
    "Charge",
    "ChargeStatus",
    "ChargeWindow",
    "Connection",
    "CreditGrant",
    "CreditTransaction",
    "CustomerHead",
    "DeadLetter",
    "GrantStatus",
    "ListedCustomer",
    "ListedPlan",
    "ListedSubscription",
    "NotFound",
    "ParkedEvent",
    "SignalRecord",
    "TransactionType",
    "Unpriced",
    "balance",
    "charges",
    "credit_grants",
    "credit_transactions",
    "dead_letters",
    "find_customer",
    "is_storable",
    "list_customers",
    "list_plans",
    "list_subscriptions",
    "parked",
    "parked_counts",
    "rows",
    "signals",
    "structs",
    "unpriced",
]
