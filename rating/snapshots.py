"""
What a snapshot of a key group keeps, as MessagePack.

Fields have no names in it: new ones go at the end, with defaults, so that old snapshots stay readable.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct, field

from rating.account import Account, AccountState
from rating.charge import PriceSegment
from rating.dedup import SeenState
from rating.lanes import Gathered

SNAPSHOT_VERSION = 1


class Waiting(Struct, array_like=True, frozen=True, gc=False):
    """An event that waits in its key group, until its account can take it."""

    line: bytes
    received_at: datetime
    meter: str
    is_back: bool = False


class GroupState(Struct, array_like=True):
    """The state of a key group."""

    version: int = SNAPSHOT_VERSION
    accounts: list[msgspec.Raw] = field(default_factory=list)
    """Each an `AccountState`."""
    seen: SeenState = field(default_factory=SeenState)
    read_through: datetime | None = None
    """The latest instant at which an event that was read had been received."""
    gathered: list[Gathered] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    """Events that wait for a snapshot to hold their billing period, or for a customer that was set aside."""


def _left_out(value: object) -> None:
    """What is worked out again after a resume."""
    assert isinstance(value, PriceSegment), f"a snapshot can't keep a {type(value).__name__}"


_encoder = msgspec.msgpack.Encoder(decimal_format="string", enc_hook=_left_out)
_account_decoder = msgspec.msgpack.Decoder(AccountState)
_group_decoder = msgspec.msgpack.Decoder(GroupState)


def pack_account(account: Account) -> bytes:
    """Pack the state of an account."""
    return _encoder.encode(account.state)


def pack_group(state: GroupState) -> bytes:
    """Pack the state of a key group; its accounts are packed already."""
    return _encoder.encode(state)


def unpack_group(snapshot: bytes | None) -> GroupState:
    """Unpack a snapshot; None is that of a new group."""
    if snapshot is None:
        return GroupState()
    state = _group_decoder.decode(snapshot)
    assert state.version == SNAPSHOT_VERSION, f"snapshot version {state.version}, expected {SNAPSHOT_VERSION}"
    return state


def unpack_accounts(state: GroupState) -> dict[str, Account]:
    """The accounts of a key group by customer, with what their lanes had gathered."""
    accounts = {}
    for packed in state.accounts:
        account = Account(_account_decoder.decode(packed), bytes(packed))
        accounts[account.state.customer_id] = account
    for gathered in state.gathered:
        customer_id, period_place, slice_place = gathered.place
        account = accounts[customer_id]
        period = account.state.periods[period_place]
        account.take(period, period.slices[slice_place], gathered.quantity, gathered.events)
    return accounts
