"""What a ranking cannot be trained on."""

from corella.collaboration.distillation import check_pairs
from corella.config import Config
from corella.data.dataset import Dataset
from corella.errors import UserError


def check_trainable(dataset: Dataset, config: Config) -> None:
    """Raise `UserError`, before any training, for what could only fail or deceive after it."""
    if dataset.config.split.by == "each-user":
        raise UserError(
            "data.split.by is each-user: a training row's history would hold validation and test answers; that "
            "split is for retrieval, use another one for ranking"
        )
    if dataset.config.only_likes:
        raise UserError("data.only_likes leaves no negative answers: there is nothing to rank, only to retrieve")
    if config.joint.distil_pairs and config.joint.distil == 0:
        raise UserError("joint.distil_pairs needs joint.distil above 0")
    if config.joint.distil_pairs:
        check_pairs(dataset)
