"""
What to say of a failure that was foreseen, and the exit code that it means.

Bytewax raises an error of its own with the step's as the cause, and a writer's thread chains what the store
said: the first failure in the chain that has an explanation is told. Connection strings are never shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import redis
from bytewax.errors import BytewaxRuntimeError

from config.settings import SettingError
from dataflows.engine import PeerLost
from dataflows.recovery.copies import NotCopied
from dataflows.recovery.rebuild import RecoveryStoreThere
from dataflows.recovery.store import PartitionsMissing, RecoveryStoreScattered
from dataflows.sources import kafka
from dataflows.sources.streams import StreamOffsetGone
from sinks.kafka.client import KafkaUnavailable, TopicMissing
from sinks.kafka.deliver import DeliveryFailed
from sinks.postgres.ledger import LedgerInUse, LedgerOutdated, RecoveryStoreMissing
from sinks.writer import WriterFailed
from tollway.api.server.keys import NoSuchKey
from tollway.commands.cluster import ClusterEnded
from tollway.commands.dataflow import AlreadyRunning, DataflowFailed
from tollway.commands.serving import ApiEnded
from tollway.commands.stores import NothingThere
from tollway.console import BAD_INPUT, DEFECT, NO_SERVER, REFUSED
from tollway.control import ControlCode, ControlError
from tollway.demo import DemoFailed
from tollway.embedded import ServerError
from tollway.invoicing import LedgerIncomplete, NothingBillable
from tollway.ledger_reads import NotFound

RESUME_HINT = "hint: start it again: it goes on from its last epoch, and nothing is lost or charged twice"

_TABLES_GONE = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)


def explain(failure: BaseException) -> tuple[str, int] | None:
    """The message, its last line a hint, and the exit code; None for what was not foreseen."""
    for link in _chain(failure):
        explained = _explain(link)
        if explained is not None:
            return explained
    return None


def _chain(failure: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = failure
    while link is not None:
        yield link
        link = link.__cause__


def _explain(failure: BaseException) -> tuple[str, int] | None:
    match failure:
        case ClusterEnded():
            return str(failure), failure.code
        case (
            SettingError()
            | AlreadyRunning()
            | LedgerInUse()
            | LedgerOutdated()
            | RecoveryStoreMissing()
            | RecoveryStoreScattered()
            | PartitionsMissing()
            | RecoveryStoreThere()
            | StreamOffsetGone()
        ):
            return str(failure), BAD_INPUT
        case kafka.TopicOffsetGone() | kafka.TopicUnfit() | TopicMissing():
            return str(failure), BAD_INPUT
        case KafkaUnavailable() | DeliveryFailed() | kafka.PartitionsAdded() | PeerLost():
            return str(failure), NO_SERVER
        case ControlError():
            correctable = failure.line is not None or failure.code is ControlCode.INVALID
            return str(failure), BAD_INPUT if correctable else REFUSED
        case NothingBillable():
            return f"{failure.code}: {failure}", REFUSED
        case NotFound() | NoSuchKey() | LedgerIncomplete() | NothingThere() | DemoFailed() | NotCopied():
            return str(failure), REFUSED
        case ServerError() | ApiEnded():
            return str(failure), NO_SERVER
        case DataflowFailed():
            return _explain_end(failure)
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
            return (
                "the ledger's schema is older than this Tollway\n"
                "hint: `tollway up`, `tollway run` and `tollway apply` bring it up to date",
                NO_SERVER,
            )
        case psycopg.OperationalError():
            return _went_away("PostgreSQL", failure)
        case redis.ConnectionError() | redis.TimeoutError():
            return _went_away("Redis", failure)
        case psycopg.Error():
            return _refused("PostgreSQL", failure)
        case redis.RedisError():
            return _refused("Redis", failure)
        case OSError(filename=str() as name, strerror=str() as reason):
            return f"can't use `{name}`: {reason}\nhint: see to it that the file can be read and written", BAD_INPUT
    return None


def _explain_end(failure: DataflowFailed) -> tuple[str, int]:
    """What ended the dataflow, if that was foreseen, and where the rest of the story is."""
    cause = failure.__cause__
    if any(isinstance(link, _TABLES_GONE) for link in _chain(cause or failure)):
        # The schema was brought up to date before the dataflow began.
        return (
            f"the dataflow ended: tables of the ledger were changed or taken away while it ran: the traceback is in"
            f" `{failure.log}`\n"
            "hint: was a backup put back meanwhile? Put it back once more, move the folder `recovery` away, and let"
            " `tollway recovery rebuild` make it anew",
            BAD_INPUT,
        )
    explained = None if cause is None else explain(cause)
    where = f"the traceback is in `{failure.log}`"
    if explained is None:
        links = [link for link in _chain(cause or failure) if not isinstance(link, BytewaxRuntimeError | WriterFailed)]
        kind = type(links[0] if links else cause).__name__
        return f"the dataflow ended with {kind}: {where}\n{RESUME_HINT}", DEFECT
    message, code = explained
    if code == NO_SERVER:
        message = f"{message.splitlines()[0]}: {where}\n{RESUME_HINT}"
    return f"the dataflow ended: {message}", code


def _went_away(name: str, failure: BaseException) -> tuple[str, int]:
    return f"{name} went away ({type(failure).__name__})\nhint: see `tollway doctor`, then try again", NO_SERVER


def _refused(name: str, failure: BaseException) -> tuple[str, int]:
    return f"{name} refused a request ({type(failure).__name__})\nhint: look into the server's log", NO_SERVER
