"""Settings come from the environment; a mistake in one is told in full, and no password with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from config.setting import Setting, SettingError
from config.settings import SETTINGS, Settings, load_settings


def test_without_variables_all_is_default() -> None:
    """An empty environment gives the defaults, and foreign or reserved variables change nothing."""
    assert load_settings({}) == Settings()
    ignored = {
        "PATH": "/bin",
        "TOLLWAY_TEST_SEED": "1",
        "TOLLWAY_KAFKA_BROKERS": "x",
        "TOLLWAY_API_PORT": "1",
    }
    assert load_settings(ignored) == Settings()


def test_the_table_lists_each_field_once_in_order() -> None:
    """What is documented is what exists."""
    assert [setting.name for setting in SETTINGS] == [f.name for f in msgspec.structs.fields(Settings)]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_the_example_of_a_setting_may_be_used(setting: Setting) -> None:
    """The example in a hint is itself a good value."""
    load_settings({setting.env: setting.example})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("home", "/srv/tollway", Path("/srv/tollway")),
        ("redis_url", "rediss://:pw@cache:6380/1", "rediss://:pw@cache:6380/1"),
        ("redis_url", "unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("postgres_dsn", "host=db dbname=tollway", "host=db dbname=tollway"),
        ("window_seconds", "60", 60),
        ("grace_seconds", "0", 0),
        ("beat_ms", "10000", 10_000),
        ("epoch_ms", "100", 100),
        ("recovery", "off", False),
        ("recovery", "True", True),
        ("metrics_port", "65535", 65_535),
        ("log_level", "DEBUG", "debug"),
    ],
)
def test_a_good_value_is_read(name: str, text: str, value: object) -> None:
    """A variable sets the field of its name."""
    assert getattr(load_settings({f"TOLLWAY_{name.upper()}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "WINDOW_SECONDS",
            "0",
            "expected `int` >= 1, got `0`\nhint: the charge window in seconds, for example 3600",
        ),
        ("WINDOW_SECONDS", "1.5", "expected `int` >= 1, got `1.5`\n"),
        ("WINDOW_SECONDS", "", "expected `int` >= 1, got nothing\n"),
        ("WINDOW_SECONDS", "1" * 99, f"expected `int` >= 1, got `{'1' * 40}`\n"),
        ("BEAT_MS", "10001", "expected `int` from 1 to 10000, got `10001`\n"),
        ("EPOCH_MS", "99", "expected `int` from 100 to 60000, got `99`\n"),
        ("GRACE_SECONDS", "-1", "expected `int` >= 0, got `-1`\n"),
        ("PARTITIONS", "٤", "expected `int` from 1 to 1024, got `٤`\n"),
        ("RECOVERY", "maybe", "expected `on` or `off`, got `maybe`\n"),
        ("LOG_LEVEL", "loud", "expected one of `debug`, `info`, `warning`, `error`, got `loud`\n"),
        ("HOME", "~nobody-of-this-name/x", "expected a path, got `~nobody-of-this-name/x`\n"),
    ],
)
def test_a_bad_value_is_told_with_what_was_expected(name: str, text: str, message: str) -> None:
    """The message says which variable, what was expected and what came, with a hint on its own line."""
    with pytest.raises(SettingError) as caught:
        load_settings({f"TOLLWAY_{name}": text})
    assert str(caught.value).startswith(f"Bad setting `TOLLWAY_{name}`: {message}")
    assert "\nhint: " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TOLLWAY_WINDOW_SECS", "did you mean `TOLLWAY_WINDOW_SECONDS`?"),
        ("TOLLWAY_POSTGRES_URL", "did you mean `TOLLWAY_POSTGRES_DSN`?"),
        ("TOLLWAY_ZZZ", "the names are home, "),
    ],
)
def test_an_unknown_variable_is_told_with_the_nearest_name(name: str, hint: str) -> None:
    """A misspelt setting does not pass silently; its value is not shown."""
    with pytest.raises(SettingError) as caught:
        load_settings({name: "hunter2"})
    assert str(caught.value).startswith(f"Unknown setting `{name}`\nhint: {hint}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["REDIS_URL", "POSTGRES_DSN", "WINDOW_SECONDS", "LOG_LEVEL"])
def test_no_password_gets_into_a_message(name: str) -> None:
    """An address in the wrong form or in the wrong variable is not shown."""
    with pytest.raises(SettingError) as caught:
        load_settings({f"TOLLWAY_{name}": "mysql://user:hunter2@db/x"})
    assert "hunter2" not in str(caught.value)


def test_no_password_is_shown_with_the_settings() -> None:
    """Settings may be printed."""
    settings = load_settings(
        {"TOLLWAY_REDIS_URL": "redis://:hunter2@h", "TOLLWAY_POSTGRES_DSN": "host=h password=hunter2"}
    )
    assert "hunter2" not in repr(settings)
    assert "redis_url='(set)'" in repr(settings)
