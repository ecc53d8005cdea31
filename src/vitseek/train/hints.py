"""What a student is compared with: a teacher's hidden states and final tokens, each on the scale of its own spread.

The papers are named in :mod:`vitseek.train.distill`.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitseek.train.options import DistillOptions
from vitseek.train.team import Team
from vitseek.train.vit import Block, Hidden, VisionTransformer, VitConfig

BETA = 0.5  # where smooth L1 turns from square to absolute, in standard deviations of the target
FLOOR = 0.5  # of the median variance, added to every channel's: a nearly constant channel is not worth much
FINAL_FLOOR = 0.1
PATCHES = 0.5  # weight of the final patch tokens against the class token
HINTS = 2.0  # weight of the mean over all hidden states against the final features
FOLLOW = 0.1  # how fast the targets' spread is followed


class Answers(NamedTuple):
    """What the teacher says about a batch: the final tokens, (B, N, D), and the way there unless they were cached."""

    normed: Tensor
    hidden: Hidden | None = None


class Spread(nn.Module):
    """Running mean and variance of the targets, a value a channel; buffers, so that a resumed run goes on exactly."""

    embedded: Tensor
    attended: Tensor
    thought: Tensor
    blocks: Tensor
    mean: Tensor
    variance: Tensor
    known: Tensor

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width, depth = config.embed_dim, config.depth
        for name, rows in (("embedded", 1), ("attended", depth), ("thought", depth), ("blocks", depth)):
            self.register_buffer(name, torch.ones(rows, width))
        self.register_buffer("mean", torch.zeros(2, width))  # of the final class and patch tokens
        self.register_buffer("variance", torch.ones(2, width))
        self.register_buffer("known", torch.zeros(()))
        self.prefix = config.num_prefix_tokens

    @torch.no_grad()
    def follow(self, answers: Answers, team: Team) -> None:
        """Move towards the statistics of a batch, on all processes alike; the first batch is taken as it is."""
        states = {"final": [answers.normed[:, :1], answers.normed[:, self.prefix :]]}
        if (hidden := answers.hidden) is not None:
            steps = list(itertools.pairwise([hidden.embedded, *hidden.blocks]))
            halves = list(zip(steps, hidden.attended, strict=True))
            states["embedded"] = [hidden.embedded]
            states["attended"] = [attended - before for (before, _), attended in halves]
            states["thought"] = [after - attended for (_, after), attended in halves]
            states["blocks"] = hidden.blocks
        share = FOLLOW if float(self.known) else 1.0
        for name, tokens in states.items():
            mean, square = team.mean(torch.stack([_moments(each) for each in tokens], dim=1))
            variance = (square - mean.square()).clamp_min(0.0)
            if name == "final":
                self.mean.lerp_(mean, share)
            (self.variance if name == "final" else getattr(self, name)).lerp_(variance, share)
        self.known.fill_(1.0)


class Distiller(nn.Module):
    """The student, the average of its weights that is kept, and the spread of the targets."""

    def __init__(self, config: VitConfig, options: DistillOptions) -> None:
        super().__init__()
        self.student, self.average = VisionTransformer(config), VisionTransformer(config)
        self.average.load_state_dict(self.student.state_dict())
        self.average.requires_grad_(False)
        self.spread = Spread(config)
        self.targets, self.hint_weight = options.targets, options.hint_weight

    def forward(
        self, pixels: Tensor, answers: Answers, native: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compare the student with the teacher's answers to the same pixels.

        Parameters
        ----------
        native
            While the run is at a smaller size: some of the images at the full size and the teacher's embedding of them,
            so that the full grid of positions is learned all along. That costs the patch embedding alone.
        """
        match self.targets:
            case "blocks":
                figures = self._blocks(pixels, answers)
            case "hints":
                figures = self._hints(pixels, answers)
            case _:
                figures = self._final(self.student.tokens(pixels), answers.normed)
        if native is not None:
            large, embedded = native
            figures["loss"] = figures["loss"] + self._hint("embedded", 0, self.student.embed(large), embedded)
        return figures

    @torch.no_grad()
    def follow(self, momentum: float, step: int) -> None:
        """Move the average towards the student; faster in the first steps, when the student is far from settled."""
        momentum = min(momentum, (1 + step) / (10 + step))
        for old, new in zip(self.average.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new.to(old.dtype), 1 - momentum)

    def _blocks(self, pixels: Tensor, answers: Answers) -> dict[str, Tensor]:
        hidden = _way(answers)
        losses = [self._hint("embedded", 0, self.student.embed(pixels), hidden.embedded)]
        stream = hidden.embedded
        for i, block in enumerate(self.student.blocks):
            assert isinstance(block, Block)
            losses.append(self._hint("attended", i, block.attend(stream), hidden.attended[i]))
            losses.append(self._hint("thought", i, block.think(hidden.attended[i]), hidden.blocks[i]))
            stream = hidden.blocks[i]
        figures = self._final(self.student.norm(stream), answers.normed)
        total = torch.stack(losses)
        return {**figures, "loss": figures["loss"] + total.sum(), "block_loss": total.mean()}

    def _hints(self, pixels: Tensor, answers: Answers) -> dict[str, Tensor]:
        hidden, own = _way(answers), self.student.hidden(pixels)
        losses = [self._hint("embedded", 0, own.embedded, hidden.embedded)]
        losses += [self._hint("blocks", i, own.blocks[i], hidden.blocks[i]) for i in range(len(own.blocks))]
        figures = self._final(own.normed, answers.normed)
        mean = torch.stack(losses).mean()
        return {**figures, "loss": figures["loss"] + HINTS * self.hint_weight * mean, "hint_loss": mean}

    def _hint(self, name: str, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        variance = getattr(self.spread, name)[index]
        return _smooth((student.float() - teacher.float()) * (variance + FLOOR * variance.median()).rsqrt())

    def _final(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        figures: dict[str, Tensor] = {}
        loss = torch.zeros((), device=student.device)
        for row, (name, first, last, weight) in enumerate(
            (("class", 0, 1, 1.0), ("patch", self.spread.prefix, None, PATCHES))
        ):
            mean, variance = self.spread.mean[row], self.spread.variance[row]
            own, wanted = student[:, first:last].float(), teacher[:, first:last].float()
            distance = 1 - functional.cosine_similarity(own - mean, wanted - mean, dim=-1).mean()
            loss = loss + weight * (
                distance + _smooth((own - wanted) * (variance + FINAL_FLOOR * variance.median()).rsqrt())
            )
            figures[f"{name}_distance"] = distance
        return {"loss": loss, **figures}


def _way(answers: Answers) -> Hidden:
    assert answers.hidden is not None, "cached answers have no hidden states; _check refuses that"
    return answers.hidden


def _smooth(difference: Tensor) -> Tensor:
    return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=BETA)


def _moments(tokens: Tensor) -> Tensor:
    """Mean and mean square of each channel over images and tokens, (2, D): these average over processes."""
    rows = tokens.float().flatten(0, 1)
    return torch.stack([rows.mean(dim=0), rows.square().mean(dim=0)])
