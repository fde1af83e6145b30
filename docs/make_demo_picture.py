"""
Draws `docs/demo.svg`: the live view of a real run of the demo, at a few moments, one after the other.

Run it from the root of the checkout: `python -m docs.make_demo_picture`. The picture needs no font or script of
anybody else's; where nothing moves, it shows the moment at which the customer is blocked.
"""

from __future__ import annotations

import copy
import io
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from config.settings import Settings
from tollway import console
from tollway.commands import show
from tollway.demo import WELCOME, Demo, Picture

TARGET = Path(__file__).with_name("demo.svg")
EVENTS, RATE, SEED = 8_000, 2_000, 1
SAMPLE_SECONDS = 0.02
COLUMNS, LINES = 112, 18
SECONDS_BY_FRAME = {"flowing": 2.5, "low": 2.5, "blocked": 4.5, "open": 2.5, "over": 7.0}

MARGIN, BAR = 12, 40
FRAME = '<g class="frame {name}"><style>{{styles}}</style><g class="text">{{backgrounds}}{{matrix}}</g></g>'
PAGE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">
<title id="title">tollway demo: usage streams in, credits run out, the customer is blocked, tops up and goes on</title>
<style>
.text {{ font: 20px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
.bar {{ font: 16px system-ui, sans-serif; fill: #9198a1 }}
.frame {{ visibility: hidden }} .blocked {{ visibility: visible }}
@media (prefers-reduced-motion: no-preference) {{
{animation}
}}
</style>
<rect x="1" y="1" width="{inner_width}" height="{inner_height}" rx="8" fill="#161b22" stroke="#444c56"/>
<circle cx="24" cy="21" r="7" fill="#ff5f57"/><circle cx="46" cy="21" r="7" fill="#febc2e"/>
<circle cx="68" cy="21" r="7" fill="#28c840"/>
<text class="bar" x="{middle}" y="27" text-anchor="middle">tollway demo</text>
<g transform="translate({margin}, {bar})">
{frames}
</g>
</svg>
"""


def moments(show_: Demo, over: threading.Event) -> dict[str, Picture]:
    """Watch a run of the demo, and keep what its view shows at the moments to draw."""
    found: dict[str, Picture] = {}
    wanted: dict[str, Callable[[Picture], bool]] = {
        "flowing": lambda seen: WELCOME / 3 < seen.live < WELCOME * 2 / 3,
        "low": lambda seen: any(raised["kind"] == "balance_low" for raised in seen.signals),
        "blocked": lambda seen: seen.access == "blocked" and seen.event_to_block_ms is not None,
        "open": lambda seen: "goes on" in seen.step and seen.access == "allowed" and seen.live < seen.funded - WELCOME,
    }
    while wanted and not over.wait(SAMPLE_SECONDS):
        seen = copy.deepcopy(show_.picture)
        name = next(iter(wanted))
        if wanted[name](seen):
            found[name] = seen
            del wanted[name]
    assert not wanted, f"the demo came to its end without {', '.join(wanted)}"
    return found


def recorder() -> Console:
    """A console that draws rather than prints."""
    return Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False, markup=False, emoji=False
    )


def summary(result: dict[str, Any]) -> Console:
    """What the demo prints at its end."""
    recording = recorder()
    for module, name in ((console, "out"), (console, "talk"), (show, "talk")):
        setattr(module, name, recording)
    show._summary(result)
    return recording


def drawn(name: str, what: RenderableType | Console) -> str:
    """One frame."""
    recording = what if isinstance(what, Console) else recorder()
    if recording is not what:
        recording.print(what)
    frame: str = recording.export_svg(title="", code_format=FRAME.format(name=name), unique_id=name)
    # Lines are not clipped: no text is wider than the terminal.
    return frame if " clip-path=" not in frame else _without_clips(frame)


def _without_clips(frame: str) -> str:
    parts = frame.split(' clip-path="url(#')
    return parts[0] + "".join(part.partition('"')[2] for part in parts[1:])


def animation() -> str:
    """Rules that show each frame for its seconds, over and over."""
    whole = sum(SECONDS_BY_FRAME.values())
    rules, at = [], 0.0
    for name, seconds in SECONDS_BY_FRAME.items():
        start, end = at / whole * 100, (at + seconds) / whole * 100
        before = f"0% {{ visibility: hidden }} {start:.2f}% {{ visibility: visible }}" if at else ""
        first = "" if at else "0% { visibility: visible }"
        after = "" if end >= 100 else f"{end:.2f}% {{ visibility: hidden }} 100% {{ visibility: hidden }}"
        last = "100% { visibility: visible }" if end >= 100 else ""
        rules.append(f"@keyframes {name} {{ {first}{before} {after}{last} }}")
        rules.append(f".{name} {{ animation: {name} {whole}s step-end infinite }}")
        at += seconds
    return "\n".join(rules)


def main() -> None:
    """Run the demo, and draw it."""
    with tempfile.TemporaryDirectory() as home:
        running = Demo(Settings(home=Path(home)), EVENTS, RATE, SEED)
        over = threading.Event()
        seen: dict[str, Picture] = {}
        watcher = threading.Thread(target=lambda: seen.update(moments(running, over)))
        watcher.start()
        try:
            result = running.run(partial(show._step, running.picture))
        finally:
            over.set()
            watcher.join()
    frames = [drawn(name, show._view(picture)) for name, picture in seen.items()]
    frames.append(drawn("over", summary(result)))
    width, height = round(COLUMNS * 12.2) + 2 * MARGIN, round(LINES * 24.4) + BAR + MARGIN
    TARGET.write_text(
        PAGE.format(
            width=width,
            height=height,
            inner_width=width - 2,
            inner_height=height - 2,
            middle=width // 2,
            margin=MARGIN,
            bar=BAR,
            animation=animation(),
            frames="\n".join(frames),
        )
    )


if __name__ == "__main__":
    main()
