"""CLIP's text tower: a causal transformer whose feature is the output at the end token.

Source: section 2.4 of Radford et al. (2021). Parameter names follow the image tower: ``token_embed``, ``pos_embed``,
``blocks.i.*`` as timm's, ``norm``.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitseek.train.vit import INIT_STD, Attention, Block, VitConfig

POSITION_STD = 0.01  # of CLIP's code


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Shape of the text tower; ``context`` is the longest text in tokens, start and end included."""

    vocabulary: int
    context: int
    width: int
    depth: int
    num_heads: int


class CausalAttention(Attention):
    """Self-attention in which a token sees itself and what came before it."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D / H)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return out


class TextTower(nn.Module):
    """Token numbers (B, context) to features (B, width)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        shape = VitConfig(embed_dim=config.width, depth=config.depth, num_heads=config.num_heads, layer_norm_eps=1e-5)
        self.token_embed = nn.Parameter(torch.empty(config.vocabulary, config.width))
        self.pos_embed = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(Block(shape, 0.0) for _ in range(config.depth))
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn = CausalAttention(shape)
        self.norm = nn.LayerNorm(config.width, eps=shape.layer_norm_eps)
        nn.init.normal_(self.token_embed, std=INIT_STD)
        nn.init.normal_(self.pos_embed, std=POSITION_STD)
        for name, parameter in self.blocks.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the normalised output at each row's end token, which has the largest number: (B, width)."""
        tokens = functional.embedding(numbers, self.token_embed) + self.pos_embed[: numbers.shape[1]]
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens[torch.arange(len(numbers)), numbers.argmax(dim=1)])
        return out
