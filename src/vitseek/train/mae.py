"""A masked autoencoder: three quarters of an image are hidden, and the model paints them.

Paper: "Masked Autoencoders Are Scalable Vision Learners" (He et al., 2022). The encoder sees the visible patches alone,
which makes it four times cheaper; a small decoder gets a mask token for each hidden patch and predicts its pixels,
normalised within the patch. The decoder is thrown away afterwards.

Command:

    vitseek train mae --data photos --image-size 96 --epochs 200
    vitseek train finetune --data photos/train --start runs/mae     # what the features are for

Cost and result: 6 blocks of width 96 at 64 px on 950 photos (Corel), 60 epochs: 146 s of one busy CPU core; the loss on
held-out photos falls from 0.941 after 5 epochs to 0.785. docs/training.md has the command.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from vitseek.errors import UsageError
from vitseek.train import augment
from vitseek.train.bridge import HALF, configured, to_runtime
from vitseek.train.data import Augmented, Batch, Sample, Still, preprocessing_for
from vitseek.train.images import data_of, decoded
from vitseek.train.options import MaeOptions
from vitseek.train.sources import NO_LABEL, hold_out_indices, read_images
from vitseek.train.task import Card, Clock, Reporter, Task
from vitseek.train.team import Team
from vitseek.train.vit import INIT_STD, Block, VisionTransformer, VitConfig, sincos_table

EPSILON = 1e-6  # added to a patch's variance, of the paper's code
SHOWN = 6  # images in the picture of reconstructions
HELD_OUT = 0.05
MOST_HELD = 256  # images that the loss on held-out images is measured on
PICTURE = "reconstruction.png"


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder. ``forward`` returns the loss, what was predicted, and which patches were hidden."""

    def __init__(self, config: VitConfig, options: MaeOptions) -> None:
        super().__init__()
        self.options = options
        self.encoder = VisionTransformer(config)
        heads = options.decoder_heads or config.num_heads
        width = options.decoder_width or max(4 * heads, config.embed_dim * 2 // 3 // (4 * heads) * 4 * heads)
        try:
            shape = VitConfig(
                image_size=config.image_size, patch_size=config.patch_size, embed_dim=width,
                depth=options.decoder_depth, num_heads=heads,
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(f"the decoder does not hold together: {error}") from error
        self.decoder_embed = nn.Linear(config.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_positions", sincos_table(config.grid, config.grid, width)[None], persistent=False)
        self.decoder_blocks = nn.ModuleList(Block(shape, 0.0) for _ in range(shape.depth))
        self.decoder_norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.decoder_head = nn.Linear(width, config.in_chans * config.patch_size**2)
        for name, parameter in self.named_parameters():
            if name.startswith("decoder") and parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=INIT_STD)
            elif name.startswith("decoder") and name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.trunc_normal_(self.mask_token, std=INIT_STD)

    def forward(self, pixels: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Hide, encode, decode.

        Parameters
        ----------
        noise : shape (B, P)
            Patches with the smallest numbers stay visible; random by default.

        Returns
        -------
        loss, predicted patches (B, P, 3 * patch_size ** 2), and hidden (B, P) as 0 or 1
        """
        count = self.encoder.config.grid**2
        visible = max(1, int(count * (1 - self.options.mask_ratio)))
        if noise is None:
            noise = torch.rand(len(pixels), count, device=pixels.device)
        order = noise.argsort(dim=1)
        seen = order[:, :visible]
        predicted = self._decode(self._encode(pixels, seen), order, visible)
        hidden = torch.ones_like(noise).scatter_(1, seen, 0.0)
        errors = (predicted.float() - self.target(pixels)).square().mean(dim=2)  # (B, P)
        return (errors * hidden).sum() / hidden.sum(), predicted, hidden

    def _encode(self, pixels: Tensor, seen: Tensor) -> Tensor:
        """Tokens of the visible patches after the encoder: (B, prefix + visible, D)."""
        prefix = self.encoder.config.num_prefix_tokens
        tokens = self.encoder.embed(pixels)
        chosen = seen[..., None].expand(-1, -1, tokens.shape[2])
        tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, chosen)], dim=1)
        for block in self.encoder.blocks:
            tokens = block(tokens)
        out: Tensor = self.encoder.norm(tokens)
        return out

    def _decode(self, tokens: Tensor, order: Tensor, visible: int) -> Tensor:
        """Predicted patches in image order, from encoded visible tokens."""
        prefix = self.encoder.config.num_prefix_tokens
        tokens = self.decoder_embed(tokens)
        patches = tokens[:, prefix:]
        masks = self.mask_token.to(tokens.dtype).expand(len(tokens), order.shape[1] - visible, -1)
        shuffled = torch.cat([patches, masks], dim=1)
        back = order.argsort(dim=1)[..., None].expand(-1, -1, shuffled.shape[2])
        stream = torch.cat([tokens[:, :prefix], shuffled.gather(1, back) + self.decoder_positions], dim=1)
        for block in self.decoder_blocks:
            stream = block(stream)
        out: Tensor = self.decoder_head(self.decoder_norm(stream[:, prefix:]))
        return out

    def patches(self, pixels: Tensor) -> Tensor:
        """Cut (B, 3, height, width) into (B, P, 3 * size ** 2), channels first in a patch."""
        size = self.encoder.config.patch_size
        batch, channels, height, width = pixels.shape
        cut = pixels.reshape(batch, channels, height // size, size, width // size, size)
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatch(self, patches: Tensor) -> Tensor:
        """Put patches together again: the inverse of :meth:`patches`."""
        size, grid = self.encoder.config.patch_size, self.encoder.config.grid
        cut = patches.reshape(len(patches), grid, grid, -1, size, size)
        return cut.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, grid * size, grid * size)

    def target(self, pixels: Tensor) -> Tensor:
        """What the decoder should say of each patch: (B, P, 3 * size ** 2)."""
        patches = self.patches(pixels).float()
        if self.options.normalise_patches:
            mean, scale = self._statistics(patches)
            patches = (patches - mean) / scale
        return patches

    def painted(self, pixels: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """The image with its hidden patches as predicted, (B, 3, height, width).

        Where patches are normalised, mean and contrast of a hidden patch are its true ones, as in the paper's pictures.
        """
        true, predicted = self.patches(pixels).float(), predicted.float()
        if self.options.normalise_patches:
            mean, scale = self._statistics(true)
            predicted = predicted * scale + mean
        return self.unpatch(torch.where(hidden[..., None] > 0, predicted, true))

    @staticmethod
    def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
        return mean, (variance + EPSILON).sqrt()


def build(options: MaeOptions, team: Team, reporter: Reporter) -> Task:
    """Prepare a run; see :class:`vitseek.train.task.Task`."""
    if not 0.0 < options.mask_ratio < 1.0:
        raise UsageError(f"--mask-ratio is a part between 0 and 1, not {options.mask_ratio:g}")
    config = configured(options)
    torch.manual_seed(options.seed)
    module = MaskedAutoencoder(config, options)
    preprocessing = preprocessing_for(options.image_size, HALF, HALF, config.patch_size)
    source = data_of(options, team, reporter)
    images, pictures = decoded(
        read_images(source), source, options, team, reporter, size_px=options.image_size, min_scale=options.min_scale
    )
    unlabelled = dataclasses.replace(images, labels=[NO_LABEL] * len(images), classes=())
    kept, held = hold_out_indices(unlabelled, min(HELD_OUT, MOST_HELD / len(images)), options.seed)
    still = Still(images.subset(held), preprocessing)
    if team.leads:
        reporter.note(f"{len(kept)} training images, {len(held)} held out")

    def view(image: Image.Image, rng: np.random.Generator) -> Sample:
        image = augment.random_resized_crop(image, options.image_size, rng, scale=(options.min_scale, 1.0))
        return {"pixels": augment.to_tensor(augment.random_flip(image, rng), HALF, HALF)}

    def step(model: nn.Module, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        loss, _, _ = model(batch["pixels"])
        return {"loss": loss}

    def evaluate(bare: nn.Module) -> dict[str, float]:
        total = 0.0
        for number, (pixels, _) in enumerate(still.batches(64, team.device)):
            loss, _, _ = bare(pixels, _fixed_noise(len(pixels), config.grid**2, number).to(team.device))
            total += float(loss) * len(pixels)
        return {"val_loss": total / len(still)}

    def finish(bare: nn.Module, out: Path) -> list[Path]:
        assert isinstance(bare, MaskedAutoencoder)
        return [draw_reconstructions(bare, still, out / PICTURE, team)]

    return Task(
        recipe="mae",
        options=options,
        module=module,
        card=Card(to_runtime(config).to_dict(), preprocessing.to_dict(), prefix="encoder."),
        data=Augmented(pictures.subset(kept), view, seed=options.seed),
        fingerprint=images.subset(kept).fingerprint(),
        step=step,
        evaluate=evaluate,
        finish=finish,
        betas=(0.9, 0.95),  # of the paper
    )


def _fixed_noise(batch: int, patches: int, number: int) -> Tensor:
    """The same masks in every epoch, so that held-out losses can be compared."""
    return torch.from_numpy(np.random.default_rng((0, number)).random((batch, patches), dtype=np.float32))


@torch.no_grad()
def draw_reconstructions(module: MaskedAutoencoder, still: Still, path: Path, team: Team) -> Path:
    """Draw images, what the encoder saw of them, and what the model made of that, in three rows."""
    spread = np.linspace(0, len(still) - 1, min(SHOWN, len(still))).round().astype(int)  # not all of one class
    pixels = torch.cat([part for part, _ in still.batches(64, team.device)])[torch.from_numpy(spread)]
    with team.autocast():
        _, predicted, hidden = module(
            pixels, _fixed_noise(len(pixels), module.encoder.config.grid**2, 0).to(team.device)
        )
    seen = module.unpatch(torch.where(hidden[..., None] > 0, torch.zeros(()).to(pixels), module.patches(pixels)))
    rows = torch.cat([pixels, seen, module.painted(pixels, predicted, hidden)])
    framed = functional.pad(rows.float() * 0.5 + 0.5, (2, 2, 2, 2), value=1.0).clamp(0, 1)  # mean and std are 0.5
    count, _, height, width = framed.shape
    sheet = framed.reshape(3, count // 3, 3, height, width).permute(0, 3, 1, 4, 2).reshape(3 * height, -1, 3)
    picture = Image.fromarray((sheet.cpu().numpy() * 255).round().astype(np.uint8))
    factor = max(1, round(1200 / picture.width))
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(path)
    return path
