"""Products with weights that were put into the order in which a processor with AVX-512 reads them, once.

BLAS gets a weight as a matrix and copies it into such an order in every product: with the few rows of an image or two,
that is a tenth to a fifth of the time (docs/performance.md). Weights never change, so here they are copied
beforehand; what is left is the innermost loop. BLAS stays in charge of every other product, and of these on processors
without AVX-512.

The loop. A *tile* is up to 8 rows of the result times one *panel* of 48 columns, which are 24 registers of 16 numbers:
each step of the inner dimension loads 3 registers of the panel and, row by row, one number of the rows. A panel of
1024 inner numbers (192 KiB) stays in the level-2 cache while all rows pass, and so does a chunk of rows.

Shapes: x (M, K) times weight (K, N); P = N / 48 panels, rounded up, the last one filled with zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from vitseek.engines.compiled import compiled

Array = NDArray[np.floating]

LANES = 16  # float32 in a register of AVX-512
VECTORS = 3
PANEL = LANES * VECTORS
TILE_ROWS = 8  # 8 * 3 sums, 3 of the panel and 1 of a row are 28 of 32 registers
INNER_LIMIT = 1024
CHUNK_ROWS = 264
NUMBER_BYTES, REGISTER_BYTES = 4, 64
PANEL_BYTES = PANEL * NUMBER_BYTES


def worthwhile() -> bool:
    """Whether this processor has the registers that the loop is written for."""
    return bool(binding.get_host_cpu_features().get("avx512f"))


def pack(weight: Array) -> Array:
    """Return float32 weights (K, N) as panels, shape (P, K, 48), each number where the loop wants it."""
    inner, columns = weight.shape
    panels = _aligned(-(-columns // PANEL), inner, PANEL)
    for place, panel in enumerate(panels):
        part = weight[:, place * PANEL : (place + 1) * PANEL]
        panel[:, : part.shape[1]] = part
        panel[:, part.shape[1] :] = 0
    return panels


def multiply(x: Array, panels: Array, *, out: Array) -> None:
    """Write x (M, K) times the weight of ``panels`` to ``out`` (M, N), which is not ``x``; rows are contiguous."""
    _multiply(x, panels, out)


def _aligned(*shape: int) -> Array:
    """Memory that starts where a register may be loaded at once."""
    size = int(np.prod(shape))
    room = np.empty(size + LANES, dtype=np.float32)
    start = -room.ctypes.data % REGISTER_BYTES // NUMBER_BYTES
    return room[start : start + size].reshape(shape)


def _tile_of(rows: int) -> Any:
    """Write the loop for so many rows, as LLVM's own instructions: nothing else keeps all sums in registers.

    The function gets addresses, and distances in bytes: of the rows of x and how far apart they are, of the panel, of
    the result and how far apart its rows are; the inner dimension, at least 1; and whether to forget what the result
    holds, or add to it.
    """
    whole, small = ir.IntType(64), ir.IntType(32)
    number, register = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
    undefined, everywhere = ir.Constant(register, ir.Undefined), ir.Constant(ir.VectorType(small, LANES), None)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, x_step, panel, out, out_step, inner, first = arguments
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(register, [register] * 3), f"llvm.fma.v{LANES}f32"
        )

        def at(address: Any, offset: Any, kind: Any) -> Any:
            return builder.inttoptr(builder.add(address, offset), kind.as_pointer())

        x_rows = [builder.add(x, builder.mul(x_step, whole(row))) for row in range(rows)]
        before = builder.block
        names = ("loop", "after", "replace", "add", "end")
        loop, after, replace, add, end = (builder.append_basic_block(name) for name in names)
        builder.branch(loop)

        builder.position_at_end(loop)
        step = builder.phi(whole)
        sums = [[builder.phi(register) for _ in range(VECTORS)] for _ in range(rows)]
        here = builder.add(panel, builder.mul(step, whole(PANEL_BYTES)))
        weights = [
            builder.load(at(here, whole(REGISTER_BYTES * place), register), align=REGISTER_BYTES)
            for place in range(VECTORS)
        ]
        results = []
        for row in range(rows):
            one = builder.load(at(x_rows[row], builder.mul(step, whole(NUMBER_BYTES)), number), align=NUMBER_BYTES)
            spread = builder.shuffle_vector(builder.insert_element(undefined, one, small(0)), undefined, everywhere)
            results.append(
                [builder.call(multiply_add, [spread, *pair]) for pair in zip(weights, sums[row], strict=True)]
            )
        following = builder.add(step, whole(1))
        step.add_incoming(whole(0), before)
        step.add_incoming(following, loop)
        for old, new in zip(sums, results, strict=True):
            for phi, value in zip(old, new, strict=True):
                phi.add_incoming(ir.Constant(register, None), before)
                phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, inner), loop, after)

        builder.position_at_end(after)
        places = [
            [builder.add(out, builder.add(builder.mul(out_step, whole(row)), whole(REGISTER_BYTES * place)))
             for place in range(VECTORS)] for row in range(rows)
        ]  # fmt: skip
        builder.cbranch(first, replace, add)
        for block in (replace, add):
            builder.position_at_end(block)
            for old, new in zip(places, results, strict=True):
                for address, value in zip(old, new, strict=True):
                    there = at(address, whole(0), register)
                    total = builder.fadd(value, builder.load(there, align=NUMBER_BYTES)) if block is add else value
                    builder.store(total, there, align=NUMBER_BYTES)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    def tile(context: Any, x: Any, x_step: Any, panel: Any, out: Any, out_step: Any, inner: Any, first: Any) -> Any:
        return types.void(*[types.int64] * 6, types.boolean), generate

    return intrinsic(tile)


_tile_1, _tile_2, _tile_3, _tile_4, _tile_5, _tile_6, _tile_7, _tile_8 = map(_tile_of, range(1, TILE_ROWS + 1))


@compiled()
def _tile(rows, x, x_step, panel, out, out_step, inner, first):  # type: ignore[no-untyped-def]
    if rows == 8:
        _tile_8(x, x_step, panel, out, out_step, inner, first)
    elif rows == 7:
        _tile_7(x, x_step, panel, out, out_step, inner, first)
    elif rows == 6:
        _tile_6(x, x_step, panel, out, out_step, inner, first)
    elif rows == 5:
        _tile_5(x, x_step, panel, out, out_step, inner, first)
    elif rows == 4:
        _tile_4(x, x_step, panel, out, out_step, inner, first)
    elif rows == 3:
        _tile_3(x, x_step, panel, out, out_step, inner, first)
    elif rows == 2:
        _tile_2(x, x_step, panel, out, out_step, inner, first)
    else:
        _tile_1(x, x_step, panel, out, out_step, inner, first)


@compiled()
def _multiply(x, panels, out):  # type: ignore[no-untyped-def]
    rows, inner = x.shape
    columns = out.shape[1]
    whole_panels = columns // PANEL
    rest = columns - whole_panels * PANEL
    x_address, x_step, out_address, out_step = x.ctypes.data, x.strides[0], out.ctypes.data, out.strides[0]
    panel_address = panels.ctypes.data
    parts = (inner + INNER_LIMIT - 1) // INNER_LIMIT
    chunks = (rows + CHUNK_ROWS - 1) // CHUNK_ROWS
    spare = np.empty((TILE_ROWS, PANEL), dtype=np.float32)
    for part in range(parts):
        start, stop = inner * part // parts, inner * (part + 1) // parts
        for chunk in range(chunks):
            first, last = rows * chunk // chunks, rows * (chunk + 1) // chunks
            tiles = (last - first + TILE_ROWS - 1) // TILE_ROWS
            for place in range(whole_panels):
                panel = panel_address + (place * inner + start) * PANEL_BYTES
                for tile in range(tiles):  # as alike as it goes: a tile of one row would wait for its own sums
                    top = first + (last - first) * tile // tiles
                    count = first + (last - first) * (tile + 1) // tiles - top
                    there = out_address + top * out_step + place * PANEL_BYTES
                    _tile(
                        count, x_address + top * x_step + start * NUMBER_BYTES, x_step, panel, there, out_step,
                        stop - start, part == 0,
                    )  # fmt: skip
    if rest:
        panel = panel_address + whole_panels * inner * PANEL_BYTES
        for top in range(0, rows, TILE_ROWS):
            count = min(TILE_ROWS, rows - top)
            _tile(count, x_address + top * x_step, x_step, panel, spare.ctypes.data, PANEL_BYTES, inner, True)
            out[top : top + count, whole_panels * PANEL :] = spare[:count, :rest]
