"""The text side of a model: tokenizer and tower, both read at the first text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitseek import zoo
from vitseek.errors import TextUnsupportedError, TokenizerError, WeightsError
from vitseek.models.text import TextConfig
from vitseek.weights.loaded import LoadedText

if TYPE_CHECKING:
    from vitseek.engines.text_engine import TextEngine
    from vitseek.preprocess.text import Tokenizer

Array = NDArray[np.float32]

NAMED = 4  # models in a message; `vitseek models` lists all


class TextSide:
    """Turns words into embeddings. Images alone never read anything of it. May be called from several threads."""

    def __init__(self, loaded: LoadedText, *, model: str, threads: int | None = None) -> None:
        self._loaded = loaded
        self._model = model
        self._threads = threads
        self._lock = threading.Lock()
        self._ready: tuple[Tokenizer, TextEngine] | None = None

    @property
    def config(self) -> TextConfig:
        return self._loaded.config

    def embed(self, texts: Sequence[str], *, report: Callable[[str], None] | None = None) -> Array:
        """Return the embeddings of texts, shape (n, D), not normalised.

        Raises
        ------
        EmptyTextError
            If a text has no word.
        TokenizerError
            If the tokenizer is missing, damaged, or another model's.
        WeightsError
            If an embedding is zero or not a number, so that it is near nothing.
        """
        tokenizer, engine = self._open()
        ids, mask = tokenizer(texts, report=report, allow_empty=False)
        embeddings = engine.encode(ids, mask).astype(np.float32, copy=False)
        usable = np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)
        if not usable.all():
            place = int(usable.argmin())
            from vitseek.preprocess.text import shown

            came = "zeros alone" if not embeddings[place].any() else "something that is not a number"
            raise WeightsError(
                f"the text tower of {self._model} makes {came} of {shown(texts[place])}: its weights are empty or "
                "damaged. Fetch them again (`vitseek models pull NAME`), or export the model again"
            )
        return embeddings

    def _open(self) -> tuple[Tokenizer, TextEngine]:
        with self._lock:
            if self._ready is None:
                # Most models have no text tower, and most searches no words.
                from vitseek.engines.text_engine import TextEngine
                from vitseek.preprocess.text import WAY_OUT, Tokenizer

                if self._loaded.tokenizer is None:
                    raise TokenizerError(f"{self._model} has a text tower, but no tokenizer beside it. {WAY_OUT}.")
                tokenizer = Tokenizer.from_file(self._loaded.tokenizer, config=self.config)
                engine = TextEngine(self._loaded.params, self.config, self._threads)
                self._ready = tokenizer, engine
            return self._ready


def no_text_tower(model: str) -> TextUnsupportedError:
    """The error for words that meet a model which reads pictures alone."""
    readers = [row.name for row in zoo.ZOO.values() if getattr(row, "text", None) is not None]
    named = ", ".join(readers[:NAMED]) + (f" and {len(readers) - NAMED} more" if len(readers) > NAMED else "")
    ways = f" Models that do: {named} (`vitseek models` lists all)." if readers else ""
    example = readers[0] if readers else "NAME"
    return TextUnsupportedError(
        f"{model} does not read text: it was trained on pictures alone, so words have no place among its features."
        f"{ways} To search by words, index the pictures with one of them as well: "
        f"vitseek index FOLDER --model {example}"
    )


def other_pooling(model: str, pooling: str) -> TextUnsupportedError:
    """The error for words that meet features which are not the model's joint embedding."""
    return TextUnsupportedError(
        f"{model} reads text, but was loaded with pooling {pooling!r}, whose features cannot be compared with words. "
        "Load it without a pooling of your own (its own is 'embedding'), or index the pictures again that way"
    )
