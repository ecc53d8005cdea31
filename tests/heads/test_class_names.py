import re

import pytest

from vitseek.errors import UsageError
from vitseek.heads.class_names import class_names, distinct, imagenet_1k


def test_the_thousand_classes_are_in_the_order_of_their_wordnet_ids() -> None:
    ids = [one.wordnet_id for one in imagenet_1k()]
    assert len(ids) == 1000
    assert all(re.fullmatch(r"n\d{8}", one) for one in ids)
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    ("number", "wordnet_id", "name"),
    [  # places that are quoted all over the field
        (0, "n01440764", "tench"),
        (1, "n01443537", "goldfish"),
        (207, "n02099601", "golden retriever"),
        (281, "n02123045", "tabby"),
        (283, "n02123394", "Persian cat"),
        (388, "n02510455", "giant panda"),
        (850, "n04399382", "teddy"),
        (954, "n07753592", "banana"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_known_classes_stand_at_their_numbers(number: int, wordnet_id: str, name: str) -> None:
    assert imagenet_1k()[number] == (wordnet_id, name)


def test_every_class_has_a_name_of_its_own_also_without_case() -> None:
    names = [one.name for one in imagenet_1k()]
    assert len({name.casefold() for name in names}) == 1000
    assert all(name == " ".join(name.split()) and name.isprintable() for name in names)
    assert [name for name in names if name.startswith("crane")] == ["crane (bird)", "crane (machine)"]


def test_names_of_the_checkpoint_go_before_ours_and_others_are_not_invented() -> None:
    assert class_names(2, known=["cat", "dog"])[0] == ["cat", "dog"]
    names, why = class_names(1000)
    assert names is not None
    assert names[1] == "goldfish"
    assert "ImageNet-1k" in why
    assert class_names(21843) == (None, "no names are known for a head with 21,843 outputs")
    with pytest.raises(UsageError, match="3 class names for a head with 2 outputs"):
        class_names(2, known=["a", "b", "c"])


def test_names_that_come_twice_get_their_number() -> None:
    assert distinct(["crane", "hen", "Crane", "", " a  b "]) == ["crane", "hen", "Crane (2)", "class 3", "a b"]
