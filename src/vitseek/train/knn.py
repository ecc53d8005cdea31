"""k-NN accuracy: how good features are for classes that nobody trained them for.

As in DINO (Caron et al., 2021): cosine, each neighbour's vote weighted by ``exp(cosine / 0.07)``.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from vitseek.train.data import Still

TEMPERATURE = 0.07
BATCH = 64


def features(embed: Callable[[Tensor], Tensor], images: Still, device: torch.device) -> Tensor:
    """Unit-length features of all images, (n, D), on the device."""
    rows = [functional.normalize(embed(pixels).float(), dim=1) for pixels, _ in images.batches(BATCH, device)]
    return torch.cat(rows)


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int) -> float:
    """Part of the queries whose k nearest neighbours in the bank vote for their own label.

    Parameters
    ----------
    bank, queries : shapes (n, D) and (m, D), unit rows
    """
    bank_labels, labels = bank_labels.to(bank.device), labels.to(bank.device)
    scores, rows = (queries @ bank.T).topk(min(k, len(bank)), dim=1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, device=bank.device)
    votes.scatter_add_(1, bank_labels[rows], (scores / TEMPERATURE).exp())
    return float((votes.argmax(dim=1) == labels).float().mean())
