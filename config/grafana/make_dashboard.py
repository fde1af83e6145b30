"""
Writes the Grafana dashboard: the pictures, each with the question that it answers.

Run `python -m config.grafana.make_dashboard` after a change; a test fails while the file is not current. Another test
runs each expression against a real Prometheus that scrapes a running engine and a running API.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row, ThresholdsConfig
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
)
from msgspec import Struct

FILE = Path(__file__).parent / "dashboards" / "tollway.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE = "[$__rate_interval]"

Query = tuple[str, str]
"""An expression, and what its series are called."""


class PanelSpec(Struct, frozen=True):
    """One panel: what it shows, in which unit of Grafana's, and what it says to who does not know."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    stacked: bool = False
    alarm: float | None = None
    """Of a single number: from here on it is red."""


def quantiles(metric: str, by: str = "", legend: str = "") -> tuple[Query, ...]:
    """The middle, and what one in a hundred exceeds, of a histogram."""
    labels = f"le, {by}" if by else "le"
    return tuple(
        (f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket{RATE})))", f"{name}{legend}")
        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
    )


GLANCE = (
    PanelSpec("Events rated", "Per second.", "ops", ((f'sum(rate(tollway_events_total{{end="rated"}}{RATE}))', ""),)),
    PanelSpec(
        "Balances fresh within",
        "From the log to the balance that shows it, for 99 of 100 batches.",
        "s",
        quantiles("tollway_event_to_balance_seconds")[1:],
        alarm=5,
    ),
    PanelSpec(
        "Blocked within",
        "From the log to the signal that access changed, for 99 of 100, over the range shown.",
        "s",
        (("histogram_quantile(0.99, sum by (le) (increase(tollway_ingest_to_signal_seconds_bucket[$__range])))", ""),),
        alarm=1,
    ),
    PanelSpec(
        "Behind",
        "The partition that is furthest behind its log.",
        "s",
        (("max(tollway_source_lag_seconds)", ""),),
        alarm=30,
    ),
    PanelSpec(
        "Customers blocked",
        "Of those that have a balance.",
        "none",
        (('sum(tollway_customers{access="blocked"})', ""),),
    ),
    PanelSpec("Events that wait", "Parked: see them by reason below.", "none", (("sum(tollway_parked_events)", ""),)),
    PanelSpec(
        "Money that does not add up",
        "Customers whose figures disagree in the last digit or more. Anything but 0 is a defect.",
        "none",
        (("max(tollway_unbalanced_customers)", ""),),
        alarm=1,
    ),
    PanelSpec("Processes up", "Of the dataflow.", "none", (('sum(up{job="tollway-engine"})', ""),)),
)

ROWS: dict[str, tuple[PanelSpec, ...]] = {
    "Usage": (
        PanelSpec(
            "How events end",
            "Each event that is read ends as exactly one of these.",
            "ops",
            ((f"sum by (end) (rate(tollway_events_total{RATE}))", "{{end}}"),),
            stacked=True,
        ),
        PanelSpec(
            "Not rated, by reason",
            "Parked events are rated by themselves later; rejected ones are dead letters.",
            "ops",
            (
                (
                    f'sum by (end, reason) (rate(tollway_events_total{{end=~"parked|rejected"}}{RATE})) > 0',
                    "{{end}}: {{reason}}",
                ),
            ),
        ),
        PanelSpec(
            "Behind, by partition",
            "At most so far; the newest event that was read had been received so long ago.",
            "s",
            (("max by (source, partition) (tollway_source_lag_seconds)", "{{source}} {{partition}}"),),
        ),
        PanelSpec(
            "Kafka: messages not read yet",
            "By partition; nothing where Kafka is not read.",
            "none",
            (("max by (source, partition) (tollway_source_lag_messages)", "{{source}} {{partition}}"),),
        ),
        PanelSpec(
            "Event time behind the clock",
            "The newest event time seen, by key group: the most recent, the middle and the oldest.",
            "s",
            (
                ("time() - max(tollway_watermark_timestamp_seconds > 0)", "newest"),
                ("time() - quantile(0.5, tollway_watermark_timestamp_seconds > 0)", "middle"),
                ("time() - min(tollway_watermark_timestamp_seconds > 0)", "oldest"),
            ),
        ),
        PanelSpec(
            "Events that wait, by reason",
            "As the ledger has them.",
            "none",
            (("max by (reason) (tollway_parked_events)", "{{reason}}"),),
            stacked=True,
        ),
        PanelSpec(
            "Usage without a price",
            "Rated events of which one meter's usage waits, by meter, and how many of them come.",
            "none",
            (
                ("max by (reason, meter) (tollway_parked_parts)", "{{meter}}: {{reason}}"),
                (f"sum by (meter) (rate(tollway_unpriced_events_total{RATE}))", "{{meter}}: a second"),
            ),
        ),
        PanelSpec(
            "Waiting events driven again",
            "Put back into the log, and failures, per second.",
            "ops",
            (
                (f"sum(rate(tollway_redriven_events_total{RATE}))", "put back"),
                (f"sum(rate(tollway_redrive_failures_total{RATE}))", "failures"),
            ),
        ),
        PanelSpec(
            "Held up by events that wait",
            "What the flow gives, once, for looking at some of them.",
            "s",
            quantiles("tollway_redrive_seconds"),
        ),
    ),
    "Latency": (
        PanelSpec(
            "Event to balance",
            "From the log taking a batch to the balance that shows it.",
            "s",
            quantiles("tollway_event_to_balance_seconds"),
        ),
        PanelSpec(
            "Ingest to signal",
            "From the log taking the event that changed access to the signal.",
            "s",
            quantiles("tollway_ingest_to_signal_seconds"),
        ),
        PanelSpec("Epochs", "From one snapshot to the next.", "s", quantiles("tollway_epoch_seconds")),
        PanelSpec(
            "Writes",
            "One write to a store.",
            "s",
            quantiles("tollway_sink_write_seconds", "store", " {{store}}"),
        ),
        PanelSpec(
            "Waiting at the end of an epoch",
            "Until a store has what is left.",
            "s",
            quantiles("tollway_sink_flush_seconds", "store", " {{store}}"),
        ),
        PanelSpec(
            "Rows into the ledger",
            "Merged, per second; one that is told again counts again.",
            "ops",
            ((f"sum by (table) (rate(tollway_ledger_rows_total{RATE}))", "{{table}}"),),
        ),
    ),
    "Money and customers": (
        PanelSpec(
            "Charged within an hour",
            "By currency, from the ledger; less than nothing where more usage makes a period cheaper.",
            "none",
            (("max by (currency) (delta(tollway_charged_amount[1h]))", "{{currency}}"),),
        ),
        PanelSpec(
            "Credit left",
            "All customers together, overage taken off.",
            "none",
            (("max by (currency) (tollway_live_amount)", "{{currency}}"),),
        ),
        PanelSpec(
            "Share of charges that credits paid",
            "Since the beginning.",
            "percentunit",
            (
                (
                    "max by (currency) (tollway_consumed_amount) / max by (currency) (tollway_charged_amount)",
                    "{{currency}}",
                ),
            ),
        ),
        PanelSpec(
            "Uncovered",
            "What no credits paid, since the beginning.",
            "none",
            (("max by (currency) (tollway_uncovered_amount)", "{{currency}}"),),
        ),
        PanelSpec(
            "Customers by access",
            "As the ledger has them.",
            "none",
            (("max by (access) (tollway_customers)", "{{access}}"),),
            stacked=True,
        ),
        PanelSpec(
            "Signals",
            "Raised, by kind.",
            "ops",
            ((f"sum by (kind) (rate(tollway_signals_total{RATE}))", "{{kind}}"),),
        ),
    ),
    "HTTP API": (
        PanelSpec(
            "Requests",
            "Per second, by status.",
            "reqps",
            ((f"sum by (status) (rate(tollway_api_requests_total{RATE}))", "{{status}}"),),
            stacked=True,
        ),
        PanelSpec(
            "Slowest answers",
            "The operations whose p99 is the highest.",
            "s",
            (
                (
                    "topk(5, histogram_quantile(0.99, sum by (le, method, route)"
                    f" (rate(tollway_api_request_seconds_bucket{RATE}))))",
                    "{{method}} {{route}}",
                ),
            ),
        ),
        PanelSpec(
            "Events taken in",
            "Per second, by what became of them.",
            "ops",
            ((f"sum by (outcome) (rate(tollway_api_events_total{RATE}))", "{{outcome}}"),),
        ),
        PanelSpec(
            "Ingest",
            "From a request with events to its answer, when these are in the log.",
            "s",
            quantiles("tollway_api_ingest_seconds", "outcome", " {{outcome}}"),
        ),
        PanelSpec(
            "Refused",
            "Requests that no operation answered, by reason.",
            "reqps",
            ((f"sum by (reason) (rate(tollway_api_refused_total{RATE}))", "{{reason}}"),),
        ),
        PanelSpec(
            "In hand",
            "Bytes of events that are not in the log yet; what comes in per second.",
            "bytes",
            (
                ("sum(tollway_api_ingest_in_flight_bytes)", "in hand"),
                (f"sum(rate(tollway_api_ingest_bytes_total{RATE}))", "taken per second"),
            ),
        ),
    ),
    "Processes of the dataflow": (
        PanelSpec(
            "Processor",
            "Of one core.",
            "percentunit",
            ((f'rate(process_cpu_seconds_total{{job="tollway-engine"}}{RATE})', "{{instance}}"),),
        ),
        PanelSpec(
            "Memory",
            "Resident.",
            "bytes",
            (('process_resident_memory_bytes{job="tollway-engine"}', "{{instance}}"),),
        ),
        PanelSpec(
            "Running for",
            "Since the process began.",
            "s",
            (('time() - process_start_time_seconds{job="tollway-engine"}', "{{instance}}"),),
        ),
        PanelSpec(
            "Version",
            "Processes by version.",
            "none",
            (("sum by (version) (tollway_engine_info)", "{{version}}"),),
        ),
    ),
}


def _targets(queries: Iterable[Query]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").range().ref_id(chr(ord("A") + number))
        for number, (expression, legend) in enumerate(queries)
    ]


def _number(picture: PanelSpec) -> stat.Panel:
    steps = [Threshold(value=None, color="green")]
    if picture.alarm is not None:
        steps.append(Threshold(value=picture.alarm, color="red"))
    panel = stat.Panel().title(picture.title).description(picture.about).unit(picture.unit).datasource(SOURCE)
    panel = panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)).no_value("–")
    return panel.targets(list(_targets(picture.queries))).span(3).height(4)


def _graph(picture: PanelSpec) -> timeseries.Panel:
    panel = timeseries.Panel().title(picture.title).description(picture.about).unit(picture.unit).datasource(SOURCE)
    panel = panel.fill_opacity(30 if picture.stacked else 5).line_width(1).span(8).height(7)
    panel = panel.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    panel = panel.tooltip(common_builders.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if picture.stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(StackingMode.NORMAL))
    return panel.targets(list(_targets(picture.queries)))


def dashboard() -> str:
    """The dashboard as Grafana reads it."""
    board = (
        Dashboard("Tollway")
        .uid("tollway")
        .description("Usage in, charges, credits and access out: is it fast, is it right, does it keep up?")
        .tags(["tollway"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("15s")
        .timezone("browser")
        .with_variable(
            DatasourceVariable("datasource")
            .label("Prometheus")
            .type("prometheus")
            .current(VariableOption(text="Prometheus", value="prometheus", selected=True))
        )
    )
    number = 0
    for picture in GLANCE:
        number += 1
        board = board.with_panel(_number(picture).id(number))
    for title, pictures in ROWS.items():
        number += 1
        board = board.with_row(Row(title).id(number))
        for picture in pictures:
            number += 1
            board = board.with_panel(_graph(picture).id(number))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Bring the file up to date."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(dashboard())


if __name__ == "__main__":
    main()
