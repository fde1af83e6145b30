"""
The names of all that Tollway keeps in Redis or Valkey. They are public: gateways read some of them.

What is a customer's has the customer's key in braces, so that a cluster of servers keeps it together. `tollway.gate`
stands alone in other processes, and says the two names that it reads by itself.
"""

from __future__ import annotations

from typing import Final

EVENT_PARTITIONS: Final = "tollway:events:partitions"
"""How many streams the event log has."""
CONTROL_HEAD: Final = "tollway:control:head"
"""The newest entry of the control log."""
HISTORY: Final = "tollway:history"
"""Which history the ledger is in, as Redis has seen it last."""
SIGNALS: Final = "tollway:signals"
"""A stream of signals, and a channel of the same name."""
BALANCES: Final = "tollway:{*}:balance"
"""All that `balance_key` gives."""

GATE_FEATURES: Final = "tollway:gate:features"
GATE_IDS: Final = "tollway:gate:ids"
GATE_NAMES: Final = "tollway:gate:names"
GATE_VERSION: Final = "tollway:gate:version"
GATE_DOCUMENTS: Final = "tollway:{*}:gate"
"""All that `gate_key` gives."""

API_KEYS: Final = "tollway:api:keys"
"""A copy of the keys that open."""


def stream_key(partition: int) -> str:
    """The stream of a partition of the event log."""
    return f"tollway:events:{partition:03}"


def balance_key(customer_key: str) -> str:
    """The hash that holds a customer's balance."""
    return f"tollway:{{{customer_key}}}:balance"


def gate_key(customer_key: str) -> str:
    """The document of what a customer's plans give."""
    return f"tollway:{{{customer_key}}}:gate"


def customer_key_of(key: bytes) -> str:
    """Whose balance or document a key is."""
    return key.decode().removeprefix("tollway:{").rpartition("}:")[0]
