"""What is said of each failure that is foreseen, and the exit code that goes with it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import redis
from bytewax.errors import BytewaxRuntimeError

from dataflows.sources.streams import StreamOffsetGone
from sinks.postgres.ledger import LedgerOutdated, RecoveryStoreMissing
from sinks.writer import WriterFailed
from tollway.commands.dataflow import DataflowFailed
from tollway.commands.failures import explain
from tollway.control import ControlCode, ControlError
from tollway.invoicing import LedgerIncomplete, NothingBillable


def caused(failure: BaseException, *causes: BaseException) -> BaseException:
    """A failure with its chain of causes."""
    link = failure
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return failure


def in_flow(*causes: BaseException) -> BaseException:
    """A failure as the dataflow ends by it."""
    return caused(DataflowFailed(Path("home/crash.log")), BytewaxRuntimeError("(src/run.rs)"), *causes)


def refused(code: ControlCode, line: int | None = None) -> ControlError:
    return ControlError(code, "expected this", "grants[0]", "do that", line)


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (in_flow(RecoveryStoreMissing("no store\nhint: set TOLLWAY_HOME")), 2, "hint: set TOLLWAY_HOME"),
        (in_flow(LedgerOutdated("it ends\nhint: put back both")), 2, "the dataflow ended: it ends"),
        (in_flow(StreamOffsetGone("trimmed\nhint: raise it")), 2, "the dataflow ended: trimmed"),
        (in_flow(WriterFailed("ledger: OperationalError"), psycopg.OperationalError("p4ss")), 3, "PostgreSQL went"),
        (in_flow(redis.ConnectionError("p4ss")), 3, "`home/crash.log`\nhint: start it again"),
        (in_flow(WriterFailed("ledger: DataError"), psycopg.DataError("p4ss")), 3, "PostgreSQL refused"),
        (in_flow(ZeroDivisionError("p4ss")), 70, "the dataflow ended with ZeroDivisionError"),
        (refused(ControlCode.KEY_REUSED), 1, "`grants[0]`: expected this\nhint: do that"),
        (refused(ControlCode.IMMUTABLE), 1, "hint: do that"),
        (refused(ControlCode.CONFLICT), 1, "hint: do that"),
        (refused(ControlCode.INVALID), 2, "hint: do that"),
        (refused(ControlCode.IMMUTABLE, line=7), 2, "(line 7)"),
        (LedgerIncomplete("acme", "charged", "5", "6"), 1, "start the dataflow"),
        (NothingBillable("acme"), 1, "invoice_create_no_lines"),
        (psycopg.errors.UndefinedColumn("x"), 3, "older than this Tollway"),
        (redis.ResponseError("p4ss"), 3, "Redis refused"),
        (PermissionError(13, "Permission denied", "recovery/part-0"), 2, "`recovery/part-0`: Permission denied"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_foreseen_failure_is_a_message_with_a_remedy(failure: BaseException, code: int, words: str) -> None:
    """The message says what to do or where to look, and repeats nothing that a driver said."""
    explained = explain(failure)
    assert explained is not None
    message, found = explained
    assert found == code
    assert words in message
    assert "hint: " in message
    assert "p4ss" not in message


def test_what_was_not_foreseen_has_no_explanation() -> None:
    """A defect is not dressed up as a failure of the user's."""
    assert explain(ZeroDivisionError()) is None
    assert explain(AssertionError()) is None
