"""What the artefact of an agent of the order book says of itself."""

from dataclasses import asdict
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from hftlib.envs.roles import Executor
from hftlib.envs.rules import MarketSettings
from hftlib.live.manifest import Count, FileEntry, Name, Part, Text

BOOK_AGENT = "book_agent"
UNIT = "lots of the next slice, positive to buy; its limit is limit_ticks from the mid"


class BookManifest(Part):
    """All about a served executor but its graph.

    Attributes
    ----------
    algo, n_seeds : of the training; the action is the mean over the seeds.
    observation : names of the columns, as of the role.
    role, market : fields of `Executor` and `MarketSettings` that it was trained with.
    symbols : those it answers for.
    params : the sections of `params.yaml` that made it.
    files : by name, without the manifest.
    """

    format: Literal[1]
    name: Name
    version: Text
    kind: Literal["book_agent"]
    algo: Text
    n_seeds: Count
    agent: Literal["executor"]
    observation: tuple[Text, ...]
    role: dict[str, JsonValue]
    market: dict[str, JsonValue]
    symbols: Annotated[tuple[Text, ...], Field(min_length=1)]
    git_revision: str
    params: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    files: dict[str, FileEntry]

    @property
    def has_forecaster(self) -> bool:
        """There is one graph."""
        return False

    def build_role(self) -> Executor:
        """The role."""
        return Executor(**self.role)  # type: ignore[arg-type]

    def build_market(self) -> MarketSettings:
        """The market."""
        return MarketSettings(**self.market)  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            role, market = self.build_role(), self.build_market()
        except TypeError as fault:  # a field that they do not have, or no number
            raise ValueError(f"role or market cannot be built: {fault}") from None
        lacking = {*asdict(role)} - {*self.role} | {*asdict(market)} - {*self.market}
        if lacking:  # a default might not be what it was trained with
            raise ValueError(f"role or market lack {', '.join(sorted(lacking))}")
        names = role.observation_names
        if self.observation != names:
            odd = sorted({*self.observation} ^ {*names}) or "none, but their order"
            raise ValueError(f"the observation is not that of an executor; it differs in {odd}")
        return self
