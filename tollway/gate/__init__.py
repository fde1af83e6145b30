"""
May this customer go on? Answered inside a gateway's own process, from a copy of everybody's access.

    gate = Gate.from_redis("redis://localhost:6379/0")
    if not gate.allows("acme", "input_tokens"):
        ...  # 402 Payment Required

Nothing else of Tollway is needed where this runs, and no answer waits for a server.
"""

from __future__ import annotations

from tollway.gate.access import Access
from tollway.gate.gate import Answer, Gate, Policy, WhenStale, WhenUnknown

__all__ = ["Access", "Answer", "Gate", "Policy", "WhenStale", "WhenUnknown"]
