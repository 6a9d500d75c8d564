"""Judges a newly trained model against the served one: `python -m hftlib.live.retrain`.

Rebuilds what is out of date, which trains anew where bars or settings changed, takes the exported
model as the challenger and holds it against the champion (`judging`). A winner becomes the
champion and, in a service that runs, the active model. A challenger that is not promoted is
registered all the same, so that it can serve a share of the requests.

Exit code 0 for a decision either way, 1 if there is none.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hftlib.config import load
from hftlib.live import models
from hftlib.live.artefact import list_artefacts, load_artefact
from hftlib.live.client import ServiceClient, ServiceError
from hftlib.live.judging import judge_challenger
from hftlib.paths import Paths

LIMIT_S = 60.0  # to load a model and make it the active one
SHARE = "HFTLIB_CHALLENGER_SHARE=0.1"


class RetrainError(ValueError):
    """No decision, or one that could not be carried out: why, and what to do."""


def retrain(
    paths: Paths,
    model: str,
    *,
    level: float,
    seed: int,
    is_dry: bool,
    say: Callable[[str], object],
) -> str | None:
    """Hold the exported `model` against the champion, and promote it if it wins.

    Parameters
    ----------
    level : float
        Chance of ever promoting a challenger that is no better, as long as one champion reigns.
    is_dry : bool
        Nothing is registered or promoted; the look at the bars is written down all the same.
    say : callable
        Takes lines of the account.

    Returns
    -------
    str or None
        The new champion's name, if it is a new one.

    Raises
    ------
    ValueError, OSError
        If an artefact, the pointer, the bars or the journal cannot be used, or the two cannot be
        compared; the champion is unchanged.
    """
    if model not in list_artefacts(paths.exported):
        known = ", ".join(list_artefacts(paths.exported)) or "none"
        raise RetrainError(
            f"{paths.exported} has no model {model!r}, there are: {known}; run `make repro`, or "
            "name another with --model"
        )
    champion = models.read_champion(paths.served)
    new = load_artefact(paths.exported, model)
    name = models.name_version(new.manifest)
    if champion is None:
        if list_artefacts(paths.served):
            raise RetrainError(f"{paths.served} has models but no champion; {models.CHOOSE}")
        if is_dry:
            say("Decision    none needed: no model is registered yet")
            return None
        first = models.found_registry(paths.exported, paths.served)
        say(f"Decision    none needed: {first} is the first champion")
        return first
    say(f"Champion    {champion.name}, since {champion.since:%Y-%m-%d %H:%M} UTC")
    if champion.name == name:
        say(f"Challenger  nothing new: {model} is the champion itself")
        return None
    say(f"Challenger  {name}")
    if not is_dry:
        models.register(paths.exported, model, paths.served)
    decision, account = judge_challenger(paths, champion, new, level=level, seed=seed)
    for line in account:
        say(line)
    if decision is None or not decision.promote:
        say(f"Decision    {champion.name} stays")
        if not is_dry:
            say(f"Challenger  may serve a share: HFTLIB_CHALLENGER={name} {SHARE}")
        return None
    if is_dry:
        say(f"Decision    {name} would be promoted; nothing was changed")
        return None
    models.set_champion(paths.served, name, decision.to_dict())
    say(f"Decision    {name} is the champion now")
    return name


def run_pipeline(root: Path) -> None:
    """What `make repro` runs; Ctrl-C ends it as there, and it is waited for.

    Raises
    ------
    RetrainError
        If it fails.
    """
    with subprocess.Popen([sys.executable, "-m", "hftlib.pipeline"], cwd=root) as process:
        code = None
        while code is None:
            try:
                code = process.wait()
            except KeyboardInterrupt:  # the pipeline has it too, and ends its stages in order
                continue
    if code:
        raise RetrainError(
            f"the pipeline ended with exit code {code}, its last lines say why; the champion is "
            "unchanged"
        )


def activate(address: str, token: str, name: str) -> None:
    """Make a registered model the active one of the service at `address`.

    Raises
    ------
    RetrainError
        If the service is not there or refuses.
    """
    try:
        with ServiceClient(address, token, LIMIT_S) as client:
            client.activate(name)
    except (ServiceError, ValueError, LookupError) as error:  # or what answers there is no service
        raise RetrainError(
            f"{address} does not serve it yet: {error}. {name} is the champion all the same: a "
            "restart of the service serves it"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Retrain, judge, promote."""
    parser = argparse.ArgumentParser(
        prog="python -m hftlib.live.retrain", description="Judge a new model against the served one"
    )
    parser.add_argument(
        "--model", default=models.FIRST_CHOICE, help="exported model to judge, default %(default)s"
    )
    parser.add_argument(
        "--no-repro", action="store_true", help="judge what is exported, rebuild nothing"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="rebuild, register and promote nothing; that the bars were looked at is recorded",
    )
    parser.add_argument(
        "--address",
        help="of a running service that is to serve a new champion, default HFTLIB_ADDRESS; its "
        "token is HFTLIB_TOKEN",
    )
    options = parser.parse_args(arguments)
    address = options.address or os.environ.get("HFTLIB_ADDRESS")

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        params = load()
        paths = params.paths
        with models.lock_registry(paths.served):
            is_new = models.read_champion(paths.served) is None and not list_artefacts(paths.served)
            if is_new and not options.dry_run:
                models.found_registry(paths.exported, paths.served)  # before it is replaced
            if not options.dry_run and not options.no_repro:
                run_pipeline(paths.root)
            name = retrain(
                paths,
                options.model,
                level=params.statistics.level,
                seed=params.base.seed,
                is_dry=options.dry_run,
                say=say,
            )
            if name is not None and address:
                activate(address, os.environ.get("HFTLIB_TOKEN", ""), name)
                say(f"Service     {address} serves it")
            elif name is not None:
                say("Service     restart it, or send /model/activate this name and the token")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
