"""
What can be changed, all on the one transaction in view.

The rules of each resource are functions in a module of its own; here they become methods, so that whoever
holds a transaction has everything at hand: `changes.void_grant(grant_id)`.
"""

from __future__ import annotations

from tollway.control import customers, deletion, features, grants, meters, moves, plans, subscriptions
from tollway.control.transaction import Transaction
from tollway.control.writing import write


class Changes(Transaction):
    """
    The catalog as one transaction sees it, and the operations that change it.

    Operations check first and record last, so that one that raises leaves no trace; but `put_customer` is several, and
    who catches its error has to roll back. They raise `ControlError`.
    """

    put_meter = meters.put_meter
    put_feature = features.put_feature
    publish_plan = plans.publish_plan
    put_customer = customers.put_customer
    delete_customer = deletion.delete_customer
    subscribe = subscriptions.subscribe
    same_subscription = subscriptions.same_subscription
    change_subscription = subscriptions.change_subscription
    cancel_subscription = subscriptions.cancel_subscription
    move_subscription = moves.move_subscription
    withdraw_moves = moves.withdraw_moves
    what_waits_on = moves.what_waits_on
    restore_subscription = subscriptions.restore_subscription
    withdraw_change = subscriptions.withdraw_change
    grant = grants.grant
    void_grant = grants.void_grant

    def flush(self) -> int:
        """Write what is recorded. Returns the id of the newest entry of the control log, 0 if it is empty."""
        newest = write(self)
        self.forget_changes()
        return newest
