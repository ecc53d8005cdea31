"""The brush box: shapes with light and paint texture on a canvas that is drawn twice as large and then reduced.

Coordinates are canvas pixels, x to the right and y down. ``unit`` is the shorter side: sizes given in it look the same
on every format.
"""

import colorsys
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLE = 2
LINEAR = Image.linear_gradient("L")  # black at the top, white at the bottom; 256 × 256
RADIAL = Image.radial_gradient("L")  # black in the middle; 181 at the middle of each side, white in the corners
FADING = RADIAL.point([round(255 * (t := max(0.0, 1 - d / 181)) * t * (3 - 2 * t)) for d in range(256)])


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Between two colours: the first at 0, the second at 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def lighter(colour: Colour, share: float = 0.3) -> Colour:
    return mix(colour, (255, 250, 240), share)


def darker(colour: Colour, share: float = 0.3) -> Colour:
    return mix(colour, (20, 16, 40), share)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue (a turn of the wheel is 1), saturation and value between 0 and 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return round(red * 255), round(green * 255), round(blue * 255)


def smooth(points: Sequence[Point], *, closed: bool = True, steps: int = 8) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    corners = np.asarray(points, dtype=float)
    if closed:
        padded = np.vstack([corners[-1], corners, corners[:2]])
    else:
        padded = np.vstack([corners[0], corners, corners[-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        curve.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    if not closed:
        curve.append(corners[-1:])
    return [(float(x), float(y)) for x, y in np.vstack(curve)]


def placed(points: Iterable[Point], at: Point, size: float, *, angle: float = 0.0, flip: bool = False) -> list[Point]:
    """Unit points scaled, mirrored, turned (radians, clockwise on screen) and moved."""
    cos, sin = math.cos(angle), math.sin(angle)
    result = []
    for raw_x, y in points:
        x = -raw_x if flip else raw_x
        result.append((at[0] + size * (x * cos - y * sin), at[1] + size * (x * sin + y * cos)))
    return result


def arc(centre: Point, radius_x: float, radius_y: float, start: float, stop: float, steps: int = 24) -> list[Point]:
    """Points on an ellipse between two angles in radians, clockwise on screen from the right."""
    angles = np.linspace(start, stop, steps)
    return [(centre[0] + radius_x * math.cos(a), centre[1] + radius_y * math.sin(a)) for a in angles]


def box(x: float, foot: float, width: float, height: float) -> list[Point]:
    """An upright rectangle standing on (x, foot)."""
    left, right, top = x - width / 2, x + width / 2, foot - height
    return [(left, foot), (left, top), (right, top), (right, foot)]


class Canvas:
    """A picture in the making, with its own random generator."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.width, self.height = width * SUPERSAMPLE, height * SUPERSAMPLE
        self.unit = min(self.width, self.height)
        self.image = Image.new("RGB", (self.width, self.height))
        self.pen = ImageDraw.Draw(self.image)
        self._strokes = self._brush_strokes()

    # --- chance ---

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def count(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, options: Sequence[Colour]) -> Colour:
        return options[int(self.rng.integers(len(options)))]

    def near(self, colour: Colour, spread: float = 12.0) -> Colour:
        """A colour a little off the given one."""
        red, green, blue = np.clip(np.asarray(colour) + self.rng.normal(0, spread, 3), 0, 255).astype(int).tolist()
        return red, green, blue

    # --- areas ---

    def backdrop(self, *colours: Colour, top: float = 0.0, bottom: float = 1.0) -> None:
        """Colours from top to bottom across the canvas, between two heights given as shares of it."""
        strip = Image.new("RGB", (1, len(colours)))
        strip.putdata(colours)
        first, last = round(top * self.height), round(bottom * self.height)
        # One colour at each end and the others evenly between: the outer halves of the first and last are cut off.
        box = (0, 0.5, 1, len(colours) - 0.5) if len(colours) > 1 else (0, 0, 1, 1)
        area = strip.resize((1, last - first), Image.Resampling.BILINEAR, box=box)
        area = area.resize((self.width, last - first), Image.Resampling.NEAREST)
        self.image.paste(area, (0, first))

    def shape(
        self, points: Sequence[Point], colour: Colour, to: Colour | None = None, *, sideways: bool = False
    ) -> None:
        """Fill an outline, shaded from one colour at its top (or left) to another, with the mark of the brush."""
        to = darker(colour, 0.22) if to is None else to
        left, top = (math.floor(min(p[axis] for p in points)) for axis in (0, 1))
        right, bottom = (math.ceil(max(p[axis] for p in points)) + 1 for axis in (0, 1))
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, self.width), min(bottom, self.height)
        if right <= left or bottom <= top:
            return
        size = right - left, bottom - top
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
        light = LINEAR.transpose(Image.Transpose.ROTATE_90) if sideways else LINEAR
        self._paste(light.resize(size, Image.Resampling.NEAREST), mask, (left, top), colour, to)

    def ball(self, centre: Point, radius_x: float, radius_y: float, colour: Colour, *, light: float = 0.35) -> None:
        """An ellipse lit from the upper left like a ball; ``light`` is the strength of highlight and shadow."""
        left, top = round(centre[0] - radius_x), round(centre[1] - radius_y)
        size = max(2, round(2 * radius_x)), max(2, round(2 * radius_y))
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).ellipse((0, 0, size[0] - 1, size[1] - 1), fill=255)
        shade = RADIAL.resize(size, Image.Resampling.NEAREST, box=(50, 60, 226, 236))  # off centre: lit from there
        self._paste(shade, mask, (left, top), lighter(colour, light), darker(colour, light))

    def dot(self, centre: Point, radius: float, colour: Colour) -> None:
        x, y = centre
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def glow(self, centre: Point, radius_x: float, radius_y: float, colour: Colour, strength: float) -> None:
        """Soft light (or mist, or shadow) that fades outwards; strength between 0 and 1."""
        left, top = centre[0] - radius_x, centre[1] - radius_y
        first_x, first_y = max(0, math.ceil(left)), max(0, math.ceil(top))
        last_x = min(self.width, math.floor(centre[0] + radius_x))
        last_y = min(self.height, math.floor(centre[1] + radius_y))
        if last_x - first_x < 1 or last_y - first_y < 1:
            return
        scale_x, scale_y = 128 / radius_x, 128 / radius_y  # from the canvas to the 256 px of the pattern
        box = (
            (first_x - left) * scale_x,
            (first_y - top) * scale_y,
            (last_x - left) * scale_x,
            (last_y - top) * scale_y,
        )
        fading = FADING.resize((last_x - first_x, last_y - first_y), Image.Resampling.NEAREST, box=box)
        self.image.paste(colour, (first_x, first_y), fading.point(lambda level: level * strength))

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        self.pen.line([(x, y) for x, y in points], fill=colour, width=max(1, round(width)), joint="curve")

    # --- things that many pictures have ---

    def ridge(self, base: float, height: float, roughness: float, *, steps: int = 64) -> list[Point]:
        """The outline of hills or mountains, closed along the bottom of the canvas.

        ``base`` and ``height`` are shares of the canvas; ``roughness`` goes from rolling (0.2) to jagged (0.7).
        """
        x = np.linspace(0, 1, steps + 1)
        y = np.zeros(steps + 1)
        weight = 1.0
        for octave in range(5):
            knots = 2 ** (octave + 1) + 1
            y += weight * np.interp(x, np.linspace(0, 1, knots), self.rng.uniform(-1, 1, knots))
            weight *= roughness
        y = base - height * (y - y.min()) / (y.max() - y.min() + 1e-9)
        outline = [(float(a) * self.width, float(b) * self.height) for a, b in zip(x, y, strict=True)]
        return [*outline, (self.width + 1.0, self.height + 1.0), (-1.0, self.height + 1.0)]

    def clouds(self, number: int, colour: Colour, *, top: float = 0.05, bottom: float = 0.4) -> None:
        """Heaps of soft round shapes with a flat foot."""
        for _ in range(number):
            x, y = self.between(0, self.width), self.between(top, bottom) * self.height
            size = self.between(0.05, 0.11) * self.unit
            for _ in range(self.count(6, 10)):
                offset = self.between(-2.4, 2.4)
                radius = size * (1.25 - 0.3 * abs(offset)) * self.between(0.8, 1.2)
                centre = x + offset * size, y - radius * 0.35
                self.glow(centre, radius * 1.5, radius, colour, 0.75)

    def grass(self, horizon: float, colour: Colour, *, blades: int = 160) -> None:
        """A meadow from the horizon (a share of the canvas) down, with blades that grow towards the viewer."""
        self.backdrop(lighter(colour, 0.22), colour, darker(colour, 0.25), top=horizon)
        for _ in range(blades):
            depth = self.rng.random() ** 0.7
            x, y = self.between(0, self.width), (horizon + (1 - horizon) * depth) * self.height
            length = (0.008 + 0.035 * depth) * self.unit
            tint = mix(darker(colour, 0.25), lighter(colour, 0.35), self.rng.random())
            self.line([(x, y), (x + self.between(-0.4, 0.4) * length, y - length)], tint, 1 + 2.5 * depth)

    def mirror(self, shore: float, water: Colour, *, share: float, blur: float) -> None:
        """Still water from a height (a share of the canvas) down, showing what is above it upside down."""
        row = round(shore * self.height)
        depth = self.height - row
        if depth < 1:
            return
        above = self.image.crop((0, max(0, row - 2 * depth), self.width, row)).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )
        picture = above.resize((self.width, depth), Image.Resampling.BILINEAR).filter(ImageFilter.BoxBlur(blur))
        self.image.paste(Image.blend(picture, Image.new("RGB", picture.size, water), share), (0, row))

    def rays(self, light: Colour) -> None:
        """Shafts of light from above, fanning out from a point beyond the upper edge."""
        mask = Image.new("L", (self.width // 8, self.height // 8))
        pen = ImageDraw.Draw(mask)
        origin = self.between(-0.2, 1.2) * mask.width
        for _ in range(self.count(3, 6)):
            x, width = self.between(0, 1) * mask.width, self.between(0.04, 0.12) * mask.width
            shaft = [(origin, -mask.height * 0.4), (x, mask.height), (x + width, mask.height)]
            pen.polygon(shaft, fill=self.count(50, 100))
        soft = mask.filter(ImageFilter.GaussianBlur(3)).resize(self.image.size, Image.Resampling.BILINEAR)
        self.image.paste(light, (0, 0), soft)

    def finished(self, *, softness: float = 0.6) -> Image.Image:
        """Reduce to the final size, soften, and add the grain of paper and a little shade in the corners."""
        picture = self.image.reduce(SUPERSAMPLE).filter(ImageFilter.GaussianBlur(softness))
        width, height = picture.size
        grain = 3 * self.rng.standard_normal((height, width, 1), dtype=np.float32)
        rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
        shade = 1.03 - self.between(0.04, 0.12) * (rows**2 + columns**2)
        levels = np.asarray(picture, dtype=np.float32) * shade[..., None].astype(np.float32) + grain
        return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))

    def _paste(self, shade: Image.Image, mask: Image.Image, at: tuple[int, int], light: Colour, dark: Colour) -> None:
        x, y = at[0] % 64, at[1] % 64
        strokes = self._strokes.crop((x, y, x + shade.width, y + shade.height))
        shade = ImageChops.add(shade, strokes, 1, -128)
        self.image.paste(light, at, mask)
        self.image.paste(dark, at, ImageChops.multiply(mask, shade))

    def _brush_strokes(self) -> Image.Image:
        """Grey noise around 128, drawn out along a slant: added to the shading of every shape."""
        rows, columns = self.height // 6 + 12, self.width // 22 + 4
        noise = self.rng.normal(128, 26, (rows, columns)).clip(0, 255).astype(np.uint8)
        sheet = Image.fromarray(noise).resize((self.width + 64, self.height + 64), Image.Resampling.BILINEAR)
        return sheet if self.chance(0.5) else sheet.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
