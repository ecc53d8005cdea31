"""What a file of a zoo model tells without any description is what its row says, but for what no shape can tell."""

from typing import Any

import pytest

from vitseek.models.architectures import parameter_shapes
from vitseek.models.text import text_parameter_shapes
from vitseek.weights.families import FAMILY_OF, NAMINGS
from vitseek.weights.infer import infer_text
from vitseek.zoo import ZOO, ZooRow

# Facts of a training or a trainer that neither shapes nor names show.
OPENAI = {"mlp_layer": "quick-gelu", "pos_resize": "bicubic"}
UNTOLD: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("clip-vit-b32", "clip-vit-b16", "clip-vit-l14-336"), OPENAI),
    **{name: {"pos_resize": "bicubic"} for name in ("mae-base", "mae-large", "mae-huge")},
}
FAMILIES = ("CLIP", "SigLIP", "SigLIP 2", "DINOv3", "MAE")
ROWS = [row for row in ZOO.values() if row.family in FAMILIES]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_shapes_and_names_alone_give_the_config_of_a_row(row: ZooRow) -> None:
    naming = NAMINGS[row.naming]
    infer = FAMILY_OF[row.naming].infer
    config, notes = infer(parameter_shapes(row.config), naming, where=row.name, known=UNTOLD.get(row.name))
    assert config == row.config
    assert notes


@pytest.mark.parametrize("row", [row for row in ROWS if row.text], ids=lambda row: row.name)
def test_shapes_and_names_alone_give_the_text_tower_of_a_row(row: ZooRow) -> None:
    assert row.text is not None
    untold: dict[str, Any] = {}
    if row.family == "CLIP":
        # "largest" and "eos" are the same token in CLIP's vocabulary.
        untold = {"pooling": "eos", **({"mlp_layer": "quick-gelu"} if row.name in UNTOLD else {})}
    if row.family == "SigLIP 2":
        untold = {"pad_token_id": 0, "cleaning": "lower"}
    config, _ = infer_text(text_parameter_shapes(row.text), NAMINGS[row.naming], where=row.name, known=untold)
    assert config == row.text
