"""The artefacts of a folder, loaded as predictors of their kind."""

from collections.abc import Sequence
from pathlib import Path

from hftlib.live.artefact import list_artefacts
from hftlib.live.book_artefact import BookArtefact, load_either
from hftlib.live.book_predictor import BookPredictor
from hftlib.live.predictor import Predictor


class ArtefactStore:
    """The artefacts of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> Sequence[str]:
        """Names that can be loaded."""
        return list_artefacts(self.root)

    def load(self, name: str) -> Predictor | BookPredictor:
        """The model; `ArtefactError` if a check fails."""
        artefact = load_either(self.root, name)
        if not isinstance(artefact, BookArtefact):
            return Predictor(artefact)
        predictor = BookPredictor(artefact)
        predictor.warm_up()
        return predictor
