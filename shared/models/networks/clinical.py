"""The clinical branch that the networks of Tasks 2 and 3 share: a two-layer perceptron.

It takes the vector of `shared.clinical.encode`, in which missing values are already encoded. It
does not depend on the meaning of the values.
"""

from torch import nn


def clinical_mlp(features: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return a network that maps clinical vectors, shape (n, features), to shape (n, hidden).

    Parameters
    ----------
    features : number of clinical features that the card lists; at least one.
    hidden : width of both layers.
    dropout : probability that a hidden unit is dropped in training.
    """
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
    )
