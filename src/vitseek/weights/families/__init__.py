"""The families whose checkpoints are read: one file each. docs/adding-a-family.md says how to add one."""

from collections.abc import Mapping

from vitseek.weights.families import (
    aimv2,
    chinese_clip,
    clip,
    dinov2,
    dinov3,
    ijepa,
    mae,
    metaclip2,
    msn,
    open_clip,
    siglip,
    swin,
    timm,
    vit,
)
from vitseek.weights.family import Family
from vitseek.weights.naming import Naming

# In this order: where two tables explain a file equally well, the simpler one comes first.
FAMILIES: tuple[Family, ...] = (
    timm.FAMILY,
    dinov2.FAMILY,
    vit.FAMILY,
    mae.FAMILY,
    clip.FAMILY,
    open_clip.FAMILY,
    chinese_clip.FAMILY,
    metaclip2.FAMILY,
    siglip.FAMILY,
    dinov3.FAMILY,
    swin.FAMILY,
    ijepa.FAMILY,
    msn.FAMILY,
    aimv2.FAMILY,
)

NAMINGS: Mapping[str, Naming] = {naming.name: naming for family in FAMILIES for naming in family.namings}
FAMILY_OF: Mapping[str, Family] = {naming.name: family for family in FAMILIES for naming in family.namings}
