"""A customer that was deleted may not go on: its usage is nobody's, and would be served for nothing."""

from __future__ import annotations

from msgspec.structs import replace

from rating.catalog import SettlementMode
from tests.simulation.settling import DAY, HOUR, ID, World, card, customer, grant, metered, plan, subscription, unit
from tests.world import START


def test_gates_block_it_with_a_reason_of_its_own() -> None:
    """From when the deletion is known, whatever credit it has left; also later on."""
    held = subscription(SettlementMode.CREDIT_THEN_INVOICE)
    known = customer(recorded_at=START)
    world = World(*metered("a"), plan(card("a", unit("1"))), known, held, grant("g", 5))
    assert (world.balances[ID].access, world.balances[ID].reason) == ("allowed", "")
    world.beat(START + HOUR)
    world.apply(replace(held, active_to=world.now, end_recorded_at=world.now))
    assert world.balances[ID].access == "allowed"
    world.apply(replace(known, recorded_at=world.now, deleted_at=world.now))
    assert (world.balances[ID].access, world.balances[ID].reason) == ("blocked", "customer_deleted")
    assert world.balances[ID].live == 5
    world.beat(START + 40 * DAY)
    assert (world.balances[ID].access, world.balances[ID].reason) == ("blocked", "customer_deleted")
