"""The Cox loss, which none of the libraries in use has."""

from __future__ import annotations

import torch
from torch import Tensor


def cox_loss(risks: Tensor, time_days: Tensor, events: Tensor) -> Tensor:
    """Return the negative Cox partial log-likelihood, averaged over the observed events.

    Parameters
    ----------
    risks : log hazards, shape (n,); higher = earlier recurrence. A constant that is added to all
        risks does not change the loss; they are centred so that the exponential does not overflow.
    time_days : times of recurrence or censoring, shape (n,).
    events : 1 if recurrence was observed, 0 if the patient was censored, shape (n,).

    Returns
    -------
    A scalar. Without any event, it is 0 and has a zero gradient. The patients at risk at a time are
    those whose own time is not earlier, so the risk set of a tied event includes all patients with
    this time (Breslow 1974).

    References
    ----------
    Katzman et al. 2018, DeepSurv, BMC Medical Research Methodology 18:24.
    """
    risks = risks.float()  # before centring, because half precision would round the differences
    risks = risks - risks.mean()
    order = torch.argsort(time_days, descending=True, stable=True)
    risks, times, events = risks[order], time_days[order], events[order].to(risks.dtype)
    cumulative = torch.logcumsumexp(risks, dim=0)
    # With falling times, the risk set of a tied time ends at the last patient of the tie.
    last_of_tie = torch.searchsorted(-times.contiguous(), -times.contiguous(), right=True) - 1
    log_likelihood = risks - cumulative[last_of_tie]
    return -(log_likelihood * events).sum() / events.sum().clamp(min=1)
