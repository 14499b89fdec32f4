"""Which labelled objects teach the detector, per category, and what looks like them."""

from detal.trustset.informativeness import (
    Judge,
    ObjectScores,
    judging_weights,
    matched_features,
    score_objects,
)
from detal.trustset.suspicious import Suspicion, SuspicionKind, distrusted, find_suspicious
from detal.trustset.trust_model import Rows, TrustModel, fit_trust, rate_trust, training_rows
from detal.trustset.trust_set import (
    Balance,
    TrustSet,
    TrustSetOptions,
    build_trust_set,
    category_sizes,
)

__all__ = [
    "Balance",
    "Judge",
    "ObjectScores",
    "Rows",
    "Suspicion",
    "SuspicionKind",
    "TrustModel",
    "TrustSet",
    "TrustSetOptions",
    "build_trust_set",
    "category_sizes",
    "distrusted",
    "find_suspicious",
    "fit_trust",
    "judging_weights",
    "matched_features",
    "rate_trust",
    "score_objects",
    "training_rows",
]
