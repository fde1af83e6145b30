"""Draws `docs/demo.svg`: the live view of a real run of the demo, at the moment the customer is blocked."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

from config.settings import Settings
from tollway.commands.show import _view
from tollway.demo import Demo


def main() -> None:
    """Run the demo, and keep the picture of its view while access is blocked."""
    with tempfile.TemporaryDirectory() as home:
        show = Demo(Settings(home=Path(home)), 8_000, 2_000, 1)
        taken: list[str] = []

        def watch() -> None:
            while not taken:
                if show.picture.access == "blocked" and show.picture.signals:
                    time.sleep(0.3)
                    with Path(os.devnull).open("w") as nowhere:
                        console = Console(record=True, width=80, file=nowhere)
                        console.print(_view(show.picture))
                    taken.append(console.export_svg(title="tollway demo"))
                time.sleep(0.05)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        show.run(lambda _line: None)
        watcher.join(10)
    picture = re.sub(r"@font-face \{.*?\}\n|<!--.*?-->", "", taken[0], flags=re.DOTALL)
    (Path(__file__).parent / "demo.svg").write_text(picture)


if __name__ == "__main__":
    main()
