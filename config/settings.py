"""
Settings: what can be chosen from outside, by `TOLLWAY_*` environment variables.

Units are the last word of a name. `Settings` has the types and the defaults, `SETTINGS` the ranges and the
meanings, for the documentation and for `tollway doctor`. An unknown or a bad variable stops the start: a
mistyped setting that is silently ignored would bill by other rules than the operator believes. The number of
key groups is no setting: it is 64 for good, since snapshots and ledger rows are cut by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from config.setting import Setting, read_settings
from config.setting import SettingError as SettingError

RESERVED_PREFIXES = ("TOLLWAY_TEST_", "TOLLWAY_KAFKA_", "TOLLWAY_API_")
"""Variables that begin so belong to other readers and are left alone."""


class Settings(Struct, frozen=True, kw_only=True):
    """All settings, with their defaults. What each one means is said in `SETTINGS`."""

    home: Path = Path(".tollway")
    redis_url: str | None = None
    postgres_dsn: str | None = None
    window_seconds: int = 3600
    late_windows: int = 2
    dedup_horizon_seconds: int = 86_400
    grace_seconds: int = 86_400
    max_ahead_seconds: int = 300
    beat_ms: int = 200
    epoch_ms: int = 2000
    partitions: int = 4
    log_retention_seconds: int = 259_200
    log_accept_gap: bool = False
    log_durability: Literal["always", "everysec", "warn"] = "always"
    recovery: bool = True
    recovery_partitions: int = 4
    recovery_shared: bool = True
    recovery_copy_seconds: int = 600
    batch_bytes: int = 4_194_304
    lane_check_events: int = 100_000
    redrive_memory_percent: int = 80
    metrics_port: int = 0
    metrics_host: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __repr__(self) -> str:
        shown = (f"{setting.name}={setting.shown(getattr(self, setting.name))!r}" for setting in SETTINGS)
        return f"Settings({', '.join(shown)})"


DEFAULTS = Settings()

SETTINGS: tuple[Setting, ...] = (
    Setting("home", "the folder of the embedded servers and the recovery store", "/var/lib/tollway", "path"),
    Setting(
        "redis_url",
        "the Redis or Valkey to use, where none is to be started in the home folder",
        "redis://localhost:6379/0",
        "address",
        choices=("redis://", "rediss://", "unix://"),
    ),
    Setting(
        "postgres_dsn",
        "the PostgreSQL to use, where none is to be started in the home folder",
        "postgresql://tollway@localhost/tollway",
        "address",
        choices=("postgresql://", "postgres://", "host=", "dbname=", "user=", "service="),
    ),
    Setting("window_seconds", "the charge window in seconds", "3600", minimum=1),
    Setting("late_windows", "how many windows per meter stay open for late usage", "2", minimum=1),
    Setting("dedup_horizon_seconds", "how long event ids are remembered, in seconds", "86400", minimum=1),
    Setting("grace_seconds", "how long an ended billing period takes late usage, in seconds", "86400", minimum=0),
    Setting("max_ahead_seconds", "how far ahead an event's time may be, in seconds", "300", minimum=0),
    Setting("beat_ms", "how often changed meters are priced, in milliseconds", "200", minimum=1, maximum=10_000),
    Setting("epoch_ms", "the time between two snapshots, in milliseconds", "2000", minimum=100, maximum=60_000),
    Setting(
        "partitions",
        "the partitions of the embedded event log, fixed once the log exists",
        "4",
        minimum=1,
        maximum=1024,
    ),
    Setting("log_retention_seconds", "how long the embedded log keeps events, in seconds", "259200", minimum=60),
    Setting(
        "log_accept_gap", "whether to go on where entries left the embedded log that were not read yet", "off", "bool"
    ),
    Setting(
        "log_durability",
        "how events have to be kept by the server of the event log: `always` on disk before they are confirmed, or"
        " within a second, or there is no start; `warn` only tells",
        "everysec",
        "choice",
        choices=("always", "everysec", "warn"),
    ),
    Setting("recovery", "whether state is snapshotted, so that a restart resumes", "on", "bool"),
    Setting("recovery_partitions", "the partitions of the recovery store, fixed once it exists", "4", minimum=1),
    Setting("recovery_shared", "whether all processes of a cluster share the home folder", "off", "bool"),
    Setting(
        "recovery_copy_seconds",
        "how far apart the copies of the recovery store in PostgreSQL are, in seconds; 0 for none",
        "600",
        minimum=0,
    ),
    Setting("batch_bytes", "the size of one raw batch, in bytes", "4194304", minimum=1024, maximum=67_108_864),
    Setting(
        "lane_check_events",
        "after so many events the fast way of one is checked; 1: each is, and a fault ends the dataflow",
        "100000",
        minimum=1,
    ),
    Setting(
        "redrive_memory_percent",
        "how full the event log's server may be, in percent, for waiting events to be put back into the log",
        "80",
        minimum=1,
        maximum=100,
    ),
    Setting("metrics_port", "the port that serves metrics, 0 for none", "9464", minimum=0, maximum=65_535),
    Setting("metrics_host", "the address that serves metrics; 0.0.0.0 for all", "10.0.0.7", "host"),
    Setting(
        "log_level",
        "the least severe messages to log",
        "info",
        "choice",
        choices=("debug", "info", "warning", "error"),
    ),
)


def load_settings(env: Mapping[str, str]) -> Settings:
    """
    Read the settings from an environment.

    Args:
        env: The variables; those of other prefixes, and of the reserved ones, are ignored.

    Returns:
        The settings, defaults where a variable is not set.

    Raises:
        SettingError: A variable is unknown, or its value is out of type or range.
    """
    return read_settings(env, SETTINGS, DEFAULTS, reserved=RESERVED_PREFIXES)
