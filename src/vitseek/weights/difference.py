"""Say in one readable message how the names and shapes of a file differ from what a model wants."""

import re
from collections.abc import Iterable

BLOCK = re.compile(r"\.(\d+)\.(?!.*\.\d+\.)")  # the last number between dots


def listing(title: str, items: Iterable[str]) -> list[str]:
    """Lines that list items, those of many blocks in one line: ``blocks.{0…11}.ls1.gamma``."""
    collected = list(items)
    if not collected:
        return []
    groups: dict[str, list[int]] = {}
    for item in collected:
        name, _, rest = item.partition(" ")
        numbers = BLOCK.search(name)
        # Only the number of the first name is folded; the rest (shapes, further names) must agree but for it.
        key = re.sub(rf"\.{numbers[1]}\.", ".{#}.", f"{name} {rest}".rstrip()) if numbers else item
        groups.setdefault(key, []).append(int(numbers[1]) if numbers else -1)
    lines = [key.replace("{#}", _span(sorted(numbers))) for key, numbers in groups.items()]
    return [f"  {len(collected)} {title}:", *(f"    {line}" for line in lines)]


def _span(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}…{run[-1]}" for run in runs]
    return parts[0] if len(numbers) == 1 else "{" + ", ".join(parts) + "}"
