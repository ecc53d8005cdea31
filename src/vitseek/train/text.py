"""CLIP's text tower in torch: a causal transformer whose feature is the output at the end token, projected.

Source: section 2.4 of Radford et al. (2021). Shape and rules are the runtime's own
:class:`vitseek.models.text.TextConfig`, and parameter names are the runtime's without their ``text.``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitseek.models.text import TextConfig
from vitseek.train.vit import INIT_STD, Attention, Block, Mlp, VitConfig

POSITION_STD = 0.01  # of CLIP's code
QUICK = 1.702  # of OpenAI's GELU: x * sigmoid(1.702 x)


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


class QuickMlp(Mlp):
    """Two linear layers around OpenAI's approximation of GELU."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        hidden = self.fc1(tokens)
        out: Tensor = self.fc2(hidden * torch.sigmoid(QUICK * hidden))
        return out


class TextTower(nn.Module):
    """Token numbers (B, N), N at most the context, to embeddings (B, embedding_dim), not normalised.

    Parameters
    ----------
    dropout
        Part of the entries of token embeddings and branches that is dropped while training.

    Raises
    ------
    ValueError
        If the config is of another family than CLIP's.
    """

    def __init__(self, config: TextConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        if not (config.causal and config.norm_first and config.pooling == "eos" and config.embedding_dim):
            raise ValueError("this tower is CLIP's: causal, norms first, the end token's output, projected")
        if config.embed_norm or config.token_types or config.projection_bias or config.attend_padding:
            raise ValueError("CLIP's text tower has no embedding norm, segments, projection bias or read padding")
        if config.mlp_layer == "gelu-tanh":
            raise ValueError("CLIP's text tower has exact or quick GELU")
        self.config = config
        shape = VitConfig(
            embed_dim=config.width, depth=config.depth, num_heads=config.num_heads,
            mlp_ratio=config.mlp_dim / config.width, layer_norm_eps=config.norm_eps,
        )  # fmt: skip
        self.token_embed = nn.Embedding(config.vocab_size, config.width)
        self.pos_embed = nn.Parameter(torch.empty(config.context_length, config.width))
        self.blocks = nn.ModuleList(Block(shape, 0.0) for _ in range(config.depth))
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn = CausalAttention(shape)
            if config.mlp_layer == "quick-gelu":
                block.mlp = QuickMlp(shape)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection = nn.Linear(config.width, config.embedding_dim, bias=False)
        self.drop = nn.Dropout(dropout)
        nn.init.normal_(self.token_embed.weight, std=INIT_STD)
        nn.init.normal_(self.pos_embed, std=POSITION_STD)
        nn.init.normal_(self.projection.weight, std=config.width**-0.5)
        for name, parameter in self.blocks.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the projected output at each row's first end token: (B, embedding_dim)."""
        ends = (numbers == self.config.eos_token_id).int().argmax(dim=1)  # the first of the largest
        numbers = numbers[:, : int(ends.max()) + 1]  # no text looks at what comes after it
        tokens: Tensor = self.drop(self.token_embed(numbers) + self.pos_embed[: numbers.shape[1]])
        for block in self.blocks:
            assert isinstance(block, Block)
            tokens = tokens + self.drop(block.attn(block.norm1(tokens)))
            tokens = tokens + self.drop(block.mlp(block.norm2(tokens)))
        out: Tensor = self.projection(self.norm(tokens[torch.arange(len(numbers), device=numbers.device), ends]))
        return out
