"""Figures as files, for a thesis: Plotly JSON always, SVG where a Chromium is installed.

Plotly draws SVG in a headless browser, which may hang; it is given a process of
its own and a limit of time.
"""

import multiprocessing
import re
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio


def save_svgs(
    figures: Mapping[str, go.Figure],
    folder: Path,
    width: int,
    height: int,
    *,
    limit_s: float = 180.0,
) -> str:
    """Write `<name>.json`, and `<name>.svg` where a Chromium is installed; says which.

    Parameters
    ----------
    width, height : int
        Pixels of the SVGs; the height that a figure's layout sets goes before `height`.
    limit_s : float
        For all SVGs together: a headless browser may hang.

    Returns
    -------
    str
        A sentence for the reader. Without a browser that answers the SVGs are left out.
    """
    for name, figure in figures.items():
        for number, trace in enumerate(figure.data):
            trace.uid = f"trace{number}"  # else Plotly draws a random one
        text = pio.to_json(figure, pretty=True, engine="json")
        (folder / f"{name}.json").write_text(text + "\n")
    files = [folder / f"{name}.svg" for name in figures]
    fault = _draw_in_time(list(figures.values()), files, width, height, limit_s)
    if fault:
        for file in files:
            file.unlink(missing_ok=True)
        return f"SVG files were left out, no usable Chromium: {fault}"
    for file in files:
        text = file.read_text()
        for identity in set(re.findall(r'id="defs-([0-9a-f]{6})"', text)):
            text = text.replace(identity, "figure")
        file.write_text(text)
    return f"{len(figures)} figures written as SVG and as Plotly JSON."


def _draw_in_time(
    figures: list[go.Figure], files: list[Path], width: int, height: int, limit_s: float
) -> str:
    """Draw SVGs in a process that can be ended; what went wrong, or nothing."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_draw, args=(figures, files, width, height, sender))
    process.start()
    sender.close()  # so that the end of the process ends the wait
    try:
        if not receiver.poll(limit_s):
            return f"no answer within {limit_s:.0f} s"
        fault: str = receiver.recv()
        return fault
    except EOFError:
        return "the process that draws them ended without an answer"
    finally:
        process.kill()  # its browser ends with the pipe between them
        process.join()
        receiver.close()


def _draw(
    figures: list[go.Figure], files: list[Path], width: int, height: int, answer: Connection
) -> None:
    heights = [figure.layout.height or height for figure in figures]
    try:
        pio.write_images(fig=figures, file=files, width=width, height=heights)
    except Exception as error:  # whatever a browser may do, the report says it and goes on
        answer.send((str(error).strip() or type(error).__name__).splitlines()[0])
    else:
        answer.send("")
