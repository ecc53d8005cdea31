"""The Vision Transformer that the recipes train: one module whose parameters are what the NumPy engine reads.

Papers: "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2021), with the distillation token of DeiT (Touvron et al.,
2021), LayerScale of CaiT (Touvron et al., 2021), stochastic depth (Huang et al., 2016) and register tokens (Darcet et
al., 2024). Parameter names are timm's, so a state dict is a runtime checkpoint without renaming.

Shapes on the way: pixels (B, C, height, width) -> patches (B, P, D) -> tokens (B, N, D), where N = prefix + P and the
prefix is the class token, then the distillation token, then the registers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

INIT_STD = 0.02  # truncated normal of the ViT and DeiT papers
SINCOS_TEMPERATURE = 10_000.0  # of "Attention Is All You Need", kept by MoCo v3 and MAE


@dataclasses.dataclass(frozen=True)
class VitConfig:
    """What decides the shape of a Vision Transformer; everything else is a weight.

    Parameters
    ----------
    image_size
        Side in pixels that the learned position embedding is laid out for. Other sizes work: it is resized.
    pos_embed
        ``"learned"``, or ``"sincos"`` for the fixed two-dimensional sine-cosine table of MoCo v3 and MAE. The fixed
        table is saved with the weights, so that the runtime need not know how it was made.
    num_classes
        Outputs of the classification head; 0 for none.
    distilled
        Adds DeiT's distillation token and, with classes, its head ``head_dist``.
    init_values
        Start of LayerScale; ``None`` for none.
    drop_path
        Stochastic depth of the last block; the rate rises linearly from 0 in the first.
    """

    image_size: int = 224
    patch_size: int = 16
    in_chans: int = 3
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    num_classes: int = 0
    num_registers: int = 0
    distilled: bool = False
    pos_embed: str = "learned"
    init_values: float | None = None
    drop_path: float = 0.0
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} cannot be split over {self.num_heads} heads; choose a multiple"
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} px is not a whole number of {self.patch_size} px patches; "
                f"use {self.image_size // self.patch_size * self.patch_size} px"
            )
        if self.pos_embed not in ("learned", "sincos"):
            raise ValueError(f"pos_embed must be 'learned' or 'sincos', not {self.pos_embed!r}")
        if self.pos_embed == "sincos" and self.embed_dim % 4:
            raise ValueError(f"a sincos position embedding needs embed_dim divisible by 4, not {self.embed_dim}")
        if self.distilled and self.num_registers:
            raise ValueError("no published model has both a distillation token and registers; choose one of them")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path is a probability in [0, 1), not {self.drop_path}")

    @property
    def grid(self) -> int:
        """Patches on one side of the native image."""
        return self.image_size // self.patch_size

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the first patch: class, distillation, registers."""
        return 1 + int(self.distilled) + self.num_registers


# Width, depth, heads of the papers: tiny and small from DeiT, base to huge from ViT (huge is usually patch 14).
VARIANTS: Mapping[str, VitConfig] = {
    "tiny": VitConfig(embed_dim=192, depth=12, num_heads=3),
    "small": VitConfig(embed_dim=384, depth=12, num_heads=6),
    "base": VitConfig(embed_dim=768, depth=12, num_heads=12),
    "large": VitConfig(embed_dim=1024, depth=24, num_heads=16),
    "huge": VitConfig(embed_dim=1280, depth=32, num_heads=16, patch_size=14),
}


def variant(name: str, **overrides: object) -> VitConfig:
    """Return a named configuration (``tiny`` … ``huge``) with some fields changed."""
    if name not in VARIANTS:
        raise ValueError(f"no ViT variant {name!r}; choose one of {', '.join(VARIANTS)}")
    return dataclasses.replace(VARIANTS[name], **overrides)  # type: ignore[arg-type]


def sincos_table(grid_height: int, grid_width: int, width: int) -> Tensor:
    """Return the fixed two-dimensional sine-cosine position table.

    Half of the channels say the row, half the column; in each half, sines then cosines of geometrically falling
    frequencies.

    Returns
    -------
    shape (grid_height * grid_width, width), float32

    Source
    ------
    MoCo v3 (Chen et al., 2021) and MAE (He et al., 2022).
    """
    quarter = width // 4
    frequencies = SINCOS_TEMPERATURE ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = torch.meshgrid(
        torch.arange(grid_height, dtype=torch.float64),
        torch.arange(grid_width, dtype=torch.float64),
        indexing="ij",
    )
    halves = [axis.reshape(-1, 1) * frequencies for axis in (columns, rows)]
    return torch.cat([wave for half in halves for wave in (half.sin(), half.cos())], dim=1).float()


def resize_pos_embed(pos_embed: Tensor, grid_height: int, grid_width: int, *, num_prefix_tokens: int) -> Tensor:
    """Resize a position embedding to another patch grid, bicubically; prefix positions are kept.

    Parameters
    ----------
    pos_embed : shape (1, prefix + P, D)
        P must be a square number: the native grid is square.

    Returns
    -------
    shape (1, prefix + grid_height * grid_width, D)

    Source
    ------
    As Hugging Face's ViT and DINOv2 do it: ``align_corners=False`` and no antialiasing. The NumPy engine follows.
    """
    prefix, patches = pos_embed[:, :num_prefix_tokens], pos_embed[:, num_prefix_tokens:]
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise ValueError(f"pos_embed holds {patches.shape[1]} patch positions, which is not a square grid")
    if (side, side) == (grid_height, grid_width):
        return pos_embed
    square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(
        square.float(), size=(grid_height, grid_width), mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([prefix, resized.to(patches.dtype).permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class Hidden(NamedTuple):
    """Everything a forward pass met on its way, for hints and probes.

    ``embedded`` is the input of block 0; ``attended[i]`` the residual stream after the attention of block i;
    ``blocks[i]`` its output; ``normed`` the last one after the final norm. All have shape (B, N, D).
    """

    embedded: Tensor
    attended: list[Tensor]
    blocks: list[Tensor]
    normed: Tensor


class PatchEmbed(nn.Module):
    """Cut the image into patches and project each: a convolution whose stride is its kernel, done as one matmul."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        # A Conv2d holds the parameters under timm's names and shapes; its own forward is the slower path on CPU.
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, config.patch_size, stride=config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, P, D) from (B, C, height, width); sides must be whole patches."""
        batch, channels, height, width = pixels.shape
        size = self.patch_size
        if height % size or width % size:
            raise ValueError(
                f"image of {height} x {width} px is not a whole number of {size} px patches; "
                f"resize it to {height // size * size} x {width // size * size}"
            )
        patches = pixels.reshape(batch, channels, height // size, size, width // size, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, P, C * size * size)
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for query, key and value."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D / H)
        if tokens.device.type == "cpu" and torch.is_grad_enabled():
            # The flash kernel's backward pass on CPU is slow: 55 against 73 images/s for a ViT-Ti at 160 px.
            weights = (query * (width // self.num_heads) ** -0.5) @ key.transpose(-2, -1)
            mixed = weights.softmax(dim=-1, dtype=query.dtype) @ value
        else:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return out


class Mlp(nn.Module):
    """Two linear layers around the exact (erf) GELU."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        hidden = int(config.embed_dim * config.mlp_ratio)
        self.fc1 = nn.Linear(config.embed_dim, hidden)
        self.fc2 = nn.Linear(hidden, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return out


class LayerScale(nn.Module):
    """One learned factor a channel on a residual branch."""

    def __init__(self, width: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), init_value))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return tokens * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to the residual stream."""

    def __init__(self, config: VitConfig, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)
        scaled = config.init_values is not None
        self.ls1 = LayerScale(config.embed_dim, config.init_values or 0.0) if scaled else nn.Identity()
        self.ls2 = LayerScale(config.embed_dim, config.init_values or 0.0) if scaled else nn.Identity()

    def attend(self, tokens: Tensor) -> Tensor:
        """Return the stream after the attention half: (B, N, D) -> (B, N, D)."""
        return tokens + self._drop(self.ls1(self.attn(self.norm1(tokens))))

    def think(self, tokens: Tensor) -> Tensor:
        """Return the stream after the MLP half: (B, N, D) -> (B, N, D)."""
        return tokens + self._drop(self.ls2(self.mlp(self.norm2(tokens))))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.think(self.attend(tokens))

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth: while training, leave the branch out for some images and scale up the others."""
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        mask = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep)
        return branch * mask / keep


class VisionTransformer(nn.Module):
    """A Vision Transformer with timm's parameter names.

    ``forward`` returns class logits where there is a head and the class-token feature where there is none, as timm
    does; the recipes mostly want ``features`` or ``hidden``.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        width, positions = config.embed_dim, config.grid**2
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.num_registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.num_registers, width))
        self.pos_embed = nn.Parameter(
            torch.zeros(1, self.num_positioned + positions, width),
            requires_grad=config.pos_embed == "learned",
        )
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        if config.num_classes:
            self.head = nn.Linear(width, config.num_classes)
            if config.distilled:
                self.head_dist = nn.Linear(width, config.num_classes)
        self.reset()

    @property
    def num_positioned(self) -> int:
        """Prefix tokens that have a position: class and distillation token, not the registers."""
        return 1 + int(self.config.distilled)

    def reset(self) -> None:
        """Draw every parameter anew: truncated normal weights, zero biases, unit norms."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        for name in ("cls_token", "dist_token", "reg_token"):
            if hasattr(self, name):
                nn.init.trunc_normal_(getattr(self, name), std=INIT_STD)
        if self.config.pos_embed == "learned":
            nn.init.trunc_normal_(self.pos_embed, std=INIT_STD)
        else:
            table = sincos_table(self.config.grid, self.config.grid, self.config.embed_dim)
            with torch.no_grad():
                self.pos_embed.zero_()
                self.pos_embed[0, self.num_positioned :] = table

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the input of the first block, (B, N, D), from normalised pixels (B, C, height, width)."""
        size = self.config.patch_size
        patches = self.patch_embed(pixels)
        positioned = [self.cls_token] + ([self.dist_token] if self.config.distilled else [])
        tokens = torch.cat([self._every(token, patches) for token in positioned] + [patches], dim=1)
        tokens = tokens + resize_pos_embed(
            self.pos_embed,
            pixels.shape[-2] // size,
            pixels.shape[-1] // size,
            num_prefix_tokens=self.num_positioned,
        )
        if self.config.num_registers:  # between prefix and patches, and without a position, as DINOv2 has them
            tokens = torch.cat(
                [
                    tokens[:, : self.num_positioned],
                    self._every(self.reg_token, tokens),
                    tokens[:, self.num_positioned :],
                ],
                dim=1,
            )
        return tokens

    @staticmethod
    def _every(token: Tensor, like: Tensor) -> Tensor:
        """Return a learned (1, n, D) token once for every image of the batch ``like``."""
        return token.expand(like.shape[0], -1, -1).to(like.dtype)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Return all tokens after the final norm, (B, N, D): what the NumPy engine's ``forward`` returns."""
        stream = self.embed(pixels)
        for block in self.blocks:
            stream = block(stream)
        out: Tensor = self.norm(stream)
        return out

    def features(self, pixels: Tensor) -> Tensor:
        """Return the class token after the final norm, (B, D)."""
        return self.tokens(pixels)[:, 0]

    def hidden(self, pixels: Tensor) -> Hidden:
        """Return the residual stream at every half block, for hints."""
        stream = embedded = self.embed(pixels)
        attended, outputs = [], []
        for block in self.blocks:
            assert isinstance(block, Block)
            attended.append(block.attend(stream))
            stream = block.think(attended[-1])
            outputs.append(stream)
        return Hidden(embedded, attended, outputs, self.norm(stream))

    def logits(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (class logits, distillation logits or None) from normalised tokens (B, N, D)."""
        if not self.config.num_classes:
            raise ValueError("this model has no classification head; build it with num_classes > 0")
        return self.head(tokens[:, 0]), self.head_dist(tokens[:, 1]) if self.config.distilled else None

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, classes) logits, DeiT's two heads averaged; or the (B, D) feature of a model without a head."""
        tokens = self.tokens(pixels)
        if not self.config.num_classes:
            return tokens[:, 0]
        logits, distilled = self.logits(tokens)
        return logits if distilled is None else (logits + distilled) / 2

    def save(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the parameters to a safetensors file under timm's names."""
        state = {name: value.detach().cpu().to(dtype).contiguous() for name, value in self.state_dict().items()}
        save_file(state, str(path), metadata={"format": "pt"})

    def load(self, path: Path, *, ignore: tuple[str, ...] = ()) -> None:
        """Read parameters from a safetensors file with timm's names; every mismatch is told in one error.

        Parameters
        ----------
        ignore
            Prefixes of keys that may be in the file but not in this model, or the other way round (``("head",)`` to
            leave a classifier behind).
        """
        state = {name: value for name, value in load_file(str(path)).items() if not name.startswith(ignore or ("\0",))}
        own = {name: value for name, value in self.state_dict().items() if not name.startswith(ignore or ("\0",))}
        missing = sorted(own.keys() - state.keys())
        extra = sorted(state.keys() - own.keys())
        misshapen = [
            f"{name}: file {tuple(state[name].shape)}, model {tuple(own[name].shape)}"
            for name in sorted(own.keys() & state.keys())
            if state[name].shape != own[name].shape
        ]
        if missing or extra or misshapen:
            raise ValueError(
                f"{path} is not a checkpoint of this architecture.\n"
                f"  missing: {', '.join(missing) or 'none'}\n  extra: {', '.join(extra) or 'none'}\n"
                f"  other shape: {'; '.join(misshapen) or 'none'}\n"
                "Check the variant, the patch and image size and the class count."
            )
        self.load_state_dict(state, strict=False)
