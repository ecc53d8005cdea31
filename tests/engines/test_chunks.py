"""A batch is covered by pieces of few sizes, and smaller ones where memory does not suffice."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from vitseek.engines.chunks import FULL_ENOUGH, Chunk, Ladder, cut

SIZES = (1, 2, 4, 8, 16)


class TooLittle(Exception):
    """Stands for a runtime's own."""


@pytest.mark.parametrize("images", [1, 2, 3, 5, 6, 7, 11, 16, 17, 31, 97])
def test_pieces_cover_every_image_once_and_waste_little(images: int) -> None:
    chunks = cut(5, 5 + images, SIZES)
    assert [number for chunk in chunks for number in range(chunk.start, chunk.stop)] == list(range(5, 5 + images))
    assert {chunk.rows for chunk in chunks} <= set(SIZES)
    *full, last = chunks
    assert all(chunk.stop - chunk.start == chunk.rows for chunk in full)
    assert FULL_ENOUGH * last.rows <= last.stop - last.start <= last.rows


def test_the_largest_piece_comes_first_and_a_nearly_full_one_is_filled_up() -> None:
    assert cut(0, 31, SIZES) == [Chunk(0, 16, 16), Chunk(16, 31, 16)]
    assert cut(0, 9, SIZES) == [Chunk(0, 8, 8), Chunk(8, 9, 1)]
    assert cut(3, 3, SIZES) == []


def ladder_that_fits(limit: int, **options: object) -> tuple[Ladder, list[Chunk], "object"]:
    """A ladder, and what computes on a machine with room for ``limit`` rows: it notes what it has computed."""
    done: list[Chunk] = []

    def compute(chunk: Chunk) -> None:
        if chunk.rows > limit:
            raise TooLittle(f"{chunk.rows} rows")
        done.append(chunk)

    return Ladder(SIZES, TooLittle, **options), done, compute  # type: ignore[arg-type]


def test_a_piece_that_does_not_fit_comes_again_in_halves_and_that_is_said_once() -> None:
    said: list[str] = []
    shrunk: list[int] = []
    ladder, done, compute = ladder_that_fits(4, report=said.append, on_shrink=shrunk.append)
    ladder.run(23, compute)  # type: ignore[arg-type]
    assert [number for chunk in done for number in range(chunk.start, chunk.stop)] == list(range(23))
    assert (ladder.sizes, shrunk) == ((1, 2, 4), [8, 4])
    assert said == ["memory does not suffice for 16 pictures at a time: 8 or fewer are computed at once"]
    ladder.run(16, compute)  # type: ignore[arg-type]
    assert len(said) == 1


def test_what_was_computed_before_memory_ran_out_is_not_computed_again() -> None:
    done: list[Chunk] = []

    def compute(chunk: Chunk) -> None:
        if chunk.start == 16 and chunk.rows == 16:
            raise TooLittle
        done.append(chunk)

    Ladder(SIZES, TooLittle).run(32, compute)
    assert done == [Chunk(0, 16, 16), Chunk(16, 24, 8), Chunk(24, 32, 8)]


def test_a_single_image_that_does_not_fit_is_the_caller_s_to_know() -> None:
    ladder, done, compute = ladder_that_fits(0)
    with pytest.raises(TooLittle, match="1 rows"):
        ladder.run(5, compute)  # type: ignore[arg-type]
    assert not done


def test_another_failure_is_not_taken_for_want_of_memory() -> None:
    def compute(chunk: Chunk) -> None:
        raise ValueError("something else")

    ladder = Ladder(SIZES, TooLittle)
    with pytest.raises(ValueError, match="something else"):
        ladder.run(16, compute)
    assert ladder.sizes == SIZES


def test_threads_that_fail_at_once_shrink_once() -> None:
    said: list[str] = []
    shrunk: list[int] = []
    ladder, _, compute = ladder_that_fits(8, report=said.append, on_shrink=shrunk.append)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ladder.run(16, compute), range(8)))  # type: ignore[arg-type]
    assert (shrunk, len(said), ladder.sizes) == ([8], 1, (1, 2, 4, 8))
