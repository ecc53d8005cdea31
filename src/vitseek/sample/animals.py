"""Cats, fish, butterflies."""

import math
from collections.abc import Callable

from vitseek.sample.canvas import Canvas, Colour, Point, arc, darker, hsv, lighter, mix, placed, smooth

Placing = Callable[[list[Point]], list[Point]]

COATS: tuple[tuple[Colour, Colour, bool], ...] = (  # fur, muzzle and chest, tabby
    ((226, 148, 72), (252, 232, 206), True),
    ((140, 136, 134), (226, 222, 218), True),
    ((52, 48, 52), (250, 248, 244), False),
    ((42, 38, 42), (62, 56, 60), False),
    ((246, 240, 230), (255, 252, 246), False),
    ((150, 116, 84), (236, 220, 196), True),
    ((120, 130, 146), (170, 178, 190), False),
    ((226, 206, 176), (240, 226, 204), False),
)
EYES: tuple[Colour, ...] = ((120, 180, 80), (236, 190, 60), (90, 170, 210), (170, 200, 90), (210, 140, 50))
ROOMS: tuple[Colour, ...] = (
    (150, 180, 190),
    (214, 184, 160),
    (168, 196, 160),
    (190, 170, 200),
    (220, 204, 150),
    (200, 150, 140),
    (120, 140, 170),
)
FISH: tuple[tuple[Colour, Colour], ...] = (  # body, bands
    ((250, 130, 36), (255, 250, 240)),
    ((250, 214, 50), (60, 90, 160)),
    ((60, 120, 220), (250, 220, 70)),
    ((226, 70, 80), (255, 210, 190)),
    ((150, 90, 200), (250, 190, 90)),
    ((90, 200, 190), (30, 90, 120)),
    ((240, 240, 236), (40, 44, 60)),
)


def cat(canvas: Canvas) -> None:
    """A cat that looks at us."""
    fur, pale, tabby = COATS[canvas.count(0, len(COATS) - 1)]
    fur = canvas.near(fur, 7)
    room = canvas.pick(ROOMS)
    canvas.backdrop(lighter(room, 0.25), room, darker(room, 0.12))
    for _ in range(canvas.count(3, 9)):  # a room out of focus
        spot = canvas.between(0, canvas.width), canvas.between(0, canvas.height)
        tint = canvas.near(lighter(room, 0.3) if canvas.chance(0.6) else darker(room, 0.2), 18)
        canvas.glow(spot, canvas.between(0.15, 0.4) * canvas.unit, canvas.between(0.15, 0.4) * canvas.unit, tint, 0.7)
    size = canvas.between(0.25, 0.33) * canvas.unit
    x, y = canvas.between(0.4, 0.6) * canvas.width, canvas.between(0.42, 0.54) * canvas.height
    body = [(-0.62, 0.5), (-1.05, 1.4), (-1.2, 3.4), (1.2, 3.4), (1.05, 1.4), (0.62, 0.5)]
    canvas.shape(smooth(placed(body, (x, y), size)), fur, darker(fur, 0.3))
    canvas.ball((x, y + 1.75 * size), 0.55 * size, 0.95 * size, pale, light=0.15)
    tilt = canvas.between(-0.16, 0.16)

    def on_head(points: list[Point]) -> list[Point]:
        return placed(points, (x, y), size, angle=tilt)

    for side in (-1, 1):
        ear = [(0.38, -0.78), (0.86, -1.5), (1.02, -0.3)]
        outline = on_head([(side * a, b) for a, b in ear])
        canvas.shape(outline, lighter(fur, 0.1), darker(fur, 0.2))
        inner = on_head([(side * a, b) for a, b in ((0.53, -0.78), (0.82, -1.28), (0.92, -0.5))])
        canvas.shape(inner, mix(fur, (240, 170, 160), 0.7), mix(fur, (200, 120, 120), 0.6))
    head = [(0, -0.9), (0.55, -0.82), (0.98, -0.3), (1.08, 0.2), (0.72, 0.72), (0, 0.95)]
    head += [(-a, b) for a, b in reversed(head[1:-1])]
    canvas.shape(smooth(on_head(head)), lighter(fur, 0.12), darker(fur, 0.14))
    _fur(canvas, on_head, fur, size)
    if tabby:
        _stripes(canvas, on_head, darker(fur, 0.45))
    for side in (-1, 1):
        canvas.ball(on_head([(side * 0.24, 0.42)])[0], 0.34 * size, 0.27 * size, pale, light=0.1)
    canvas.ball(on_head([(0, 0.66)])[0], 0.24 * size, 0.17 * size, pale, light=0.1)
    iris = canvas.pick(EYES)
    slit = canvas.between(0.05, 0.13)
    gaze = canvas.between(-0.05, 0.05)
    for side in (-1, 1):
        almond = [(side * 0.19, -0.02), (side * 0.44, -0.25), (side * 0.72, -0.12), (side * 0.46, 0.12)]
        canvas.pen.polygon(smooth(on_head([(a * 1.03, b * 1.14) for a, b in almond])), fill=(34, 28, 30))
        canvas.shape(smooth(on_head(almond)), darker(iris, 0.2), lighter(iris, 0.3))
        centre = (side * 0.455 + gaze, -0.07)
        pupil = arc(centre, slit, 0.17, 0, math.tau)
        canvas.pen.polygon(on_head(pupil), fill=(20, 18, 20))
        canvas.dot(on_head([(centre[0] - 0.06, -0.14)])[0], 0.035 * size, (255, 255, 255))
    nose = canvas.pick(((226, 140, 140), (90, 62, 60), (200, 116, 110)))
    canvas.shape(smooth(on_head([(-0.12, 0.22), (0.12, 0.22), (0, 0.36)]), steps=4), lighter(nose, 0.15), nose)
    mouth = darker(nose, 0.5)
    for side in (-1, 1):
        curve = [(0, 0.36), (side * 0.03, 0.47), (side * 0.15, 0.54), (side * 0.27, 0.47)]
        canvas.line(smooth(on_head(curve), closed=False), mouth, 0.03 * size)
        for whisker in range(3):
            start, end = (side * 0.3, 0.38 + 0.07 * whisker), (side * 1.35, 0.2 + 0.2 * whisker)
            bend = (side * 0.85, 0.24 + 0.13 * whisker)
            canvas.line(smooth(on_head([start, bend, end]), closed=False), (250, 250, 250), 0.014 * size)


def fish(canvas: Canvas) -> None:
    """One to five fish over sand and weed, in light from above."""
    hue = canvas.between(0.47, 0.62)
    canvas.backdrop(hsv(hue, 0.35, 0.9), hsv(hue, 0.65, 0.72), hsv(hue + 0.03, 0.8, 0.38))
    canvas.rays(hsv(hue, 0.1, 1.0))
    sand = hsv(0.11, 0.3, 0.75)
    canvas.shape(canvas.ridge(canvas.between(0.88, 0.97), 0.06, 0.3), mix(sand, hsv(hue, 0.6, 0.6), 0.35))
    for _ in range(canvas.count(3, 11)):
        _weed(canvas, hsv(canvas.between(0.25, 0.45), 0.6, canvas.between(0.25, 0.55)))
    for _ in range(canvas.count(0, 4)):
        stone = canvas.between(0, canvas.width), canvas.between(0.93, 1.0) * canvas.height
        canvas.ball(stone, canvas.between(0.05, 0.12) * canvas.unit, 0.06 * canvas.unit, hsv(hue, 0.2, 0.45))
    number = canvas.count(1, 5)
    body, band = FISH[canvas.count(0, len(FISH) - 1)]
    flip = canvas.chance(0.5)
    size = canvas.unit * (0.36 if number == 1 else 0.27 if number < 4 else 0.19) * canvas.between(0.85, 1.15)
    for place in range(number):
        x = canvas.width * ((place + 0.5) / number * 0.8 + 0.1) + canvas.between(-0.06, 0.06) * canvas.unit
        y = canvas.between(0.25, 0.72) * canvas.height
        if number > 2 and canvas.chance(0.4):
            body, band = FISH[canvas.count(0, len(FISH) - 1)]
        _one_fish(canvas, (x, y), size * canvas.between(0.8, 1.1), canvas.near(body, 8), band, flip)
    for _ in range(canvas.count(6, 26)):
        centre = canvas.between(0, canvas.width), canvas.between(0, 0.9) * canvas.height
        radius = canvas.between(0.005, 0.02) * canvas.unit
        canvas.ball(centre, radius, radius, hsv(hue, 0.15, 0.95), light=0.3)
        canvas.dot((centre[0] - radius * 0.3, centre[1] - radius * 0.3), radius * 0.25, (255, 255, 255))


def butterfly(canvas: Canvas) -> None:
    """A butterfly with open wings over leaves or blossom out of focus."""
    hue = canvas.between(0.2, 0.42)
    canvas.backdrop(hsv(hue, 0.25, 0.9), hsv(hue + 0.03, 0.4, 0.7), hsv(hue, 0.5, 0.5))
    bloom = canvas.between(0, 1)
    for _ in range(canvas.count(8, 22)):
        spot = canvas.between(0, canvas.width), canvas.between(0, canvas.height)
        radius = canvas.between(0.06, 0.22) * canvas.unit
        tint = (
            hsv(bloom + canvas.between(-0.06, 0.06), 0.45, 0.95)
            if canvas.chance(0.35)
            else hsv(hue, 0.4, canvas.between(0.4, 0.9))
        )
        canvas.glow(spot, radius, radius, tint, 0.7)
    for _ in range(canvas.count(2, 5)):
        _leaf(
            canvas,
            canvas.between(0, canvas.width),
            canvas.between(0.6, 1.1) * canvas.height,
            hsv(hue + 0.02, 0.6, canvas.between(0.3, 0.55)),
        )
    wing_hue, second = canvas.between(0, 1), canvas.between(0, 1)
    number = 2 if canvas.chance(0.2) else 1
    for place in range(number):
        size = canvas.unit * (canvas.between(0.33, 0.44) if number == 1 else canvas.between(0.2, 0.26))
        x = canvas.width * ((place + 0.5) / number + canvas.between(-0.08, 0.08))
        y = canvas.between(0.42, 0.58) * canvas.height
        _one_butterfly(canvas, (x, y), size, wing_hue, second)


def _fur(canvas: Canvas, on_head: Placing, fur: Colour, size: float) -> None:
    for _ in range(170):
        turn, far = canvas.between(0, math.tau), math.sqrt(canvas.rng.random())
        start = 0.98 * far * math.cos(turn), 0.05 + 0.82 * far * math.sin(turn)
        end = start[0] + 0.09 * math.cos(turn), start[1] + 0.09 * math.sin(turn)
        tint = lighter(fur, 0.2) if canvas.chance(0.5) else darker(fur, 0.16)
        canvas.line(on_head([start, end]), tint, 0.014 * size)


def _stripes(canvas: Canvas, on_head: Placing, ink: Colour) -> None:
    for x in (-0.26, 0.0, 0.26):
        stripe = [(x - 0.05, -0.86 + 0.3 * abs(x)), (x + 0.05, -0.86 + 0.3 * abs(x)), (x * 0.7, -0.34)]
        canvas.pen.polygon(smooth(on_head(stripe), steps=4), fill=ink)
    for side in (-1, 1):
        for row in range(3):
            y = 0.02 + 0.2 * row
            stripe = [(side * 1.03, y - 0.05), (side * (0.68 + 0.03 * row), y + 0.06), (side * 1.0, y + 0.06)]
            canvas.pen.polygon(on_head(stripe), fill=ink)


def _one_fish(canvas: Canvas, at: Point, size: float, body: Colour, band: Colour, flip: bool) -> None:
    angle = canvas.between(-0.22, 0.22)
    deep = canvas.between(0.75, 1.25)  # from slender to disc-shaped

    def on_fish(points: list[Point]) -> list[Point]:
        return placed([(a, b * deep) for a, b in points], at, size, angle=angle, flip=flip)

    fin = mix(body, band, 0.4) if canvas.chance(0.5) else darker(body, 0.12)
    wave = canvas.between(-0.08, 0.08)
    tail = [(-0.72, -0.04), (-1.12, -0.42 + wave), (-1.02, wave), (-1.12, 0.42 + wave), (-0.72, 0.06)]
    canvas.shape(smooth(on_fish(tail)), lighter(fin, 0.2), fin, sideways=True)
    canvas.shape(
        smooth(on_fish([(-0.45, -0.3), (-0.25, -0.66), (0.25, -0.62), (0.42, -0.34)])), lighter(fin, 0.15), fin
    )
    canvas.shape(smooth(on_fish([(-0.4, 0.28), (-0.35, 0.58), (0.0, 0.5), (0.1, 0.36)])), fin, darker(fin, 0.2))
    outline = [(0.95, 0.02), (0.7, -0.25), (0.2, -0.44), (-0.35, -0.32), (-0.8, -0.08)]
    outline += [(-0.8, 0.1), (-0.35, 0.34), (0.2, 0.43), (0.7, 0.25)]
    canvas.shape(smooth(on_fish(outline)), lighter(body, 0.25), darker(body, 0.22))
    style = canvas.count(0, 2)
    if style == 0:
        for x, half, tall in ((0.42, 0.07, 0.36), (-0.02, 0.1, 0.4), (-0.5, 0.06, 0.24)):
            stripe = [
                (x - half, -tall),
                (x + half, -tall),
                (x + half * 1.3, 0),
                (x + half, tall),
                (x - half, tall),
                (x - half * 0.7, 0),
            ]
            canvas.shape(smooth(on_fish(stripe), steps=4), lighter(band, 0.1), darker(band, 0.12))
    elif style == 1:
        canvas.shape(smooth(on_fish([(0.5, -0.06), (-0.7, -0.07), (-0.7, 0.08), (0.5, 0.1)]), steps=4), band)
    else:
        for column in range(9):
            for row in (-1, 0, 1):
                x = -0.6 + 0.11 * column
                if abs(row) * 0.17 < 0.34 - 0.4 * abs(x):
                    spot = on_fish([(x + 0.05 * (row % 2), row * 0.16)])[0]
                    canvas.pen.arc(
                        (spot[0] - 0.06 * size, spot[1] - 0.06 * size, spot[0] + 0.06 * size, spot[1] + 0.06 * size),
                        90,
                        270,
                        fill=darker(body, 0.3),
                        width=3,
                    )
    canvas.shape(smooth(on_fish([(0.3, 0.05), (-0.02, 0.0), (-0.1, 0.2), (0.18, 0.24)])), lighter(fin, 0.3), fin)
    eye = on_fish([(0.62, -0.08)])[0]
    canvas.dot(eye, 0.085 * size, (250, 250, 246))
    canvas.dot((eye[0] + (-0.015 if flip else 0.015) * size, eye[1]), 0.052 * size, (20, 22, 30))
    canvas.dot((eye[0] - 0.02 * size, eye[1] - 0.025 * size), 0.018 * size, (255, 255, 255))
    canvas.line(on_fish([(0.93, 0.07), (0.82, 0.1)]), darker(body, 0.5), 0.02 * size)


def _weed(canvas: Canvas, colour: Colour) -> None:
    x, tall = canvas.between(0, canvas.width), canvas.between(0.15, 0.5) * canvas.height
    sway, phase = canvas.between(0.02, 0.05) * canvas.unit, canvas.between(0, 6)
    left, right = [], []
    for step in range(9):
        t = step / 8
        centre = x + sway * math.sin(phase + 5 * t) * (0.3 + t)
        half = 0.018 * canvas.unit * (1 - t) ** 0.6
        y = canvas.height - tall * t
        left.append((centre - half, y))
        right.append((centre + half, y))
    canvas.shape([*left, *reversed(right)], lighter(colour, 0.2), darker(colour, 0.3))


def _leaf(canvas: Canvas, x: float, y: float, colour: Colour) -> None:
    size, angle = canvas.between(0.2, 0.4) * canvas.unit, canvas.between(-2.8, -0.3)
    blade = [(0, 0), (0.35, -0.24), (0.75, -0.2), (1.1, 0), (0.75, 0.2), (0.35, 0.24)]
    canvas.shape(smooth(placed(blade, (x, y), size, angle=angle)), lighter(colour, 0.2), darker(colour, 0.15))
    canvas.line(placed([(0, 0), (1.05, 0)], (x, y), size, angle=angle), lighter(colour, 0.35), 0.015 * size)


def _one_butterfly(canvas: Canvas, at: Point, size: float, hue: float, second: float) -> None:
    angle = canvas.between(-0.6, 0.6)
    fold = canvas.between(0.72, 1.0)  # how far the wings are open
    main, accent, rim = hsv(hue, canvas.between(0.55, 0.85), 0.95), hsv(second, 0.5, 1.0), hsv(hue + 0.04, 0.7, 0.2)
    upper = [(0.04, -0.12), (0.25, -0.62), (0.72, -0.98), (1.04, -0.86), (0.98, -0.42), (0.62, -0.06), (0.1, 0.02)]
    lower = [(0.05, 0.0), (0.58, 0.0), (0.84, 0.26), (0.72, 0.66), (0.42, 0.82), (0.2, 0.5)]
    tails = canvas.chance(0.35)
    if tails:
        lower[4:4] = [(0.62, 0.8), (0.6, 1.12), (0.5, 0.84)]
    spots, veins = canvas.count(2, 4), canvas.chance(0.6)
    for side in (-1, 1):

        def on_wing(points: list[Point], side: int = side) -> list[Point]:
            return placed([(side * a * fold, b) for a, b in points], at, size, angle=angle)

        for wing, middle in ((lower, (0.5, 0.36)), (upper, (0.62, -0.5))):
            canvas.shape(smooth(on_wing(wing)), rim, darker(rim, 0.2))

            def inward(share: float, wing: list[Point] = wing, middle: Point = middle) -> list[Point]:
                return [(middle[0] + (a - middle[0]) * share, middle[1] + (b - middle[1]) * share) for a, b in wing]

            canvas.shape(smooth(on_wing(inward(0.84))), lighter(main, 0.18), darker(main, 0.14))
            canvas.shape(smooth(on_wing(inward(0.45))), accent, mix(accent, main, 0.6))
            if veins:
                for tip in wing[1:-1]:
                    canvas.line(
                        on_wing([(0.06, wing[0][1]), (tip[0] * 0.93, tip[1] * 0.93)]),
                        mix(rim, main, 0.35),
                        0.012 * size,
                    )
            for spot in range(spots):
                corner = wing[1 + (spot + 1) % (len(wing) - 2)]
                place = middle[0] + (corner[0] - middle[0]) * 0.84, middle[1] + (corner[1] - middle[1]) * 0.84
                canvas.dot(on_wing([place])[0], 0.045 * size, lighter(accent, 0.5))
    body = [(0, -0.34), (0.06, -0.2), (0.05, 0.3), (0, 0.56), (-0.05, 0.3), (-0.06, -0.2)]
    for side in (-1, 1):
        feeler = smooth(
            placed([(0, -0.3), (side * 0.12, -0.6), (side * 0.3, -0.78)], at, size, angle=angle), closed=False
        )
        canvas.line(feeler, (40, 32, 30), 0.018 * size)
        canvas.dot(feeler[-1], 0.026 * size, (40, 32, 30))
    canvas.shape(smooth(placed(body, at, size, angle=angle)), (86, 70, 60), (34, 28, 28))
