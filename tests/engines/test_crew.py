"""The crew: every image once, whatever the numbers of images and threads, and nobody left waiting."""

import threading
from collections import Counter

import pytest

from vitseek.engines.crew import Crew, Team


class Counting:
    """A task that notes which rows of which image were worked on."""

    rows = 13

    def __init__(self, failing: int | None = None) -> None:
        self.done: Counter[tuple[int, int]] = Counter()
        self.spaces: list[tuple[int, int]] = []
        self.failing = failing
        self.lock = threading.Lock()

    def prepare(self, space: object, images: int, members: int) -> None:
        with self.lock:
            self.spaces.append((images, members))

    def run(self, images: range, space: object, member: int, team: Team) -> None:
        mine = team.rows_of(member, self.rows)
        if self.failing in images and member == team.size - 1:
            raise RuntimeError(f"image {self.failing}")
        team.meet()
        with self.lock:
            self.done.update((image, row) for image in images for row in range(mine.start, mine.stop))


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 17])
@pytest.mark.parametrize("images", [0, 1, 2, 7, 11])
def test_every_row_of_every_image_is_worked_on_once(threads: int, images: int) -> None:
    task = Counting()
    Crew(threads, object).run(task, images, largest_pack=3)
    assert task.done == Counter({(image, row): 1 for image in range(images) for row in range(task.rows)})
    assert all(together == 1 for together, members in task.spaces if members > 1)
    assert max((together for together, _ in task.spaces), default=0) <= 3


def test_a_batch_can_stay_together_in_the_calling_thread() -> None:
    task = Counting()
    Crew(5, object).run(task, 7, largest_pack=3, together=True)
    assert task.spaces == [(7, 1)]


@pytest.mark.parametrize("failing", [0, 4, 6])
def test_a_member_that_fails_leaves_nobody_waiting_and_its_error_comes_out(failing: int) -> None:
    crew, task = Crew(3, object), Counting(failing)
    with pytest.raises(RuntimeError, match=f"image {failing}"):
        crew.run(task, 7, largest_pack=2)
    again = Counting()
    crew.run(again, 7, largest_pack=2)
    assert len(again.done) == 7 * again.rows


def test_working_memory_is_made_once_and_used_again() -> None:
    made: list[object] = []

    def new() -> object:
        made.append(object())
        return made[-1]

    crew = Crew(2, new)
    for _ in range(5):
        crew.run(Counting(), 4, largest_pack=1)
    assert 1 <= len(made) <= 2


@pytest.mark.parametrize(
    ("images", "threads", "largest_pack"), [(8, 2, 3), (8, 2, 4), (14, 2, 3), (16, 3, 2), (4, 4, 9)]
)
def test_every_thread_gets_as_many_packs_as_the_others_of_nearly_one_size(
    images: int, threads: int, largest_pack: int
) -> None:
    packs: list[int] = []

    class Noting(Counting):
        def run(self, images: range, space: object, member: int, team: Team) -> None:
            if team.size == 1:
                packs.append(len(images))

    Crew(threads, object).run(Noting(), images, largest_pack=largest_pack)
    assert len(packs) % threads == 0
    assert max(packs) - min(packs) <= 1
    assert max(packs) <= largest_pack
    assert sum(packs) == images - images % threads
