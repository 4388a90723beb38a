"""Losses that the libraries do not have."""

from __future__ import annotations

import torch
from torch import Tensor


def cox_loss(risks: Tensor, time_days: Tensor, events: Tensor) -> Tensor:
    """Return the negative Cox partial log-likelihood, mean over the observed events.

    Parameters
    ----------
    risks : log hazards, shape (n,); higher = earlier recurrence. A constant added to all changes
        nothing; they are centred for the exponential's sake.
    time_days : times of recurrence or censoring, shape (n,).
    events : 1 where recurrence was observed, 0 where censored, shape (n,).

    Returns
    -------
    A scalar; 0 with a zero gradient where no event was observed. Patients at risk at a time are
    those whose own time is not earlier; tied events share the whole tied set (Breslow 1974).

    References
    ----------
    Katzman et al. 2018, DeepSurv, BMC Medical Research Methodology 18:24.
    """
    risks = risks.float()  # before they are centred: half precision would round what is left
    risks = risks - risks.mean()
    order = torch.argsort(time_days, descending=True, stable=True)
    risks, times, events = risks[order], time_days[order], events[order].to(risks.dtype)
    cumulative = torch.logcumsumexp(risks, dim=0)
    # With falling times, the risk set of a tied time ends at the last patient of the tie.
    last_of_tie = torch.searchsorted(-times.contiguous(), -times.contiguous(), right=True) - 1
    log_likelihood = risks - cumulative[last_of_tie]
    return -(log_likelihood * events).sum() / events.sum().clamp(min=1)
