"""Flowers, sailing boats, hot-air balloons, snowmen."""

import math

from vitseek.sample.canvas import Canvas, Colour, Point, darker, hsv, lighter, mix, placed, smooth
from vitseek.sample.landscapes import DAY_SKIES, fir

SAILS: tuple[Colour, ...] = (
    (252, 250, 244),
    (244, 226, 190),
    (214, 70, 60),
    (70, 120, 180),
    (246, 190, 70),
    (90, 160, 130),
)
PETALS = (0.93, 0.97, 0.02, 0.08, 0.13, 0.16, 0.6, 0.72, 0.78, 0.85)  # hues: pink to red, orange, yellow, blue, violet


def flower(canvas: Canvas) -> None:
    """A blossom or a bunch, close up, against a meadow out of focus."""
    green = canvas.between(0.22, 0.36)
    canvas.backdrop(hsv(green + 0.15, 0.2, 0.92), hsv(green, 0.35, 0.75), hsv(green, 0.5, 0.42))
    hue = PETALS[canvas.count(0, len(PETALS) - 1)] + canvas.between(-0.02, 0.02)
    for _ in range(canvas.count(10, 26)):  # more of them, far behind
        spot = canvas.between(0, canvas.width), canvas.between(0.1, 1) * canvas.height
        radius = canvas.between(0.04, 0.16) * canvas.unit
        tint = (
            hsv(hue, 0.4, 0.95)
            if canvas.chance(0.35)
            else hsv(green + canvas.between(-0.04, 0.04), 0.45, canvas.between(0.35, 0.8))
        )
        canvas.glow(spot, radius, radius, tint, 0.65)
    kind = canvas.count(0, 3)
    number = canvas.count(1, 4)
    size = canvas.unit * (canvas.between(0.26, 0.34), canvas.between(0.19, 0.24), 0.16, 0.14)[number - 1]
    white = canvas.chance(0.2)
    heads = []
    for place in range(number):
        x = canvas.width * ((place + 0.5) / number + canvas.between(-0.06, 0.06))
        y = canvas.height * canvas.between(0.28, 0.52 if number > 1 else 0.46)
        heads.append((x, y))
    for head in heads:
        _stem(canvas, head, hsv(green, 0.6, 0.45), size)
    for head in heads:
        petal = hsv(
            hue + canvas.between(-0.02, 0.02), 0.06 if white else canvas.between(0.55, 0.85), canvas.between(0.85, 1.0)
        )
        (_daisy, _rose, _tulip, _poppy)[kind](canvas, head, size * canvas.between(0.85, 1.15), petal)


def sailboat(canvas: Canvas) -> None:
    """Sails by day: a hull, a mast, two sails, their reflection."""
    top, low = DAY_SKIES[canvas.count(0, len(DAY_SKIES) - 1)]
    horizon = canvas.between(0.5, 0.66)
    canvas.backdrop(top, low, bottom=horizon)
    canvas.clouds(canvas.count(1, 5), lighter(low, 0.8), bottom=horizon - 0.12)
    hue = canvas.between(0.5, 0.6)
    if canvas.chance(0.5):
        coast = mix(hsv(canvas.between(0.3, 0.6), 0.3, 0.5), low, 0.45)
        canvas.shape(canvas.ridge(horizon + 0.01, canvas.between(0.03, 0.1), 0.45), coast)
    sea = hsv(hue, canvas.between(0.4, 0.65), canvas.between(0.5, 0.75))
    canvas.backdrop(mix(sea, low, 0.5), sea, darker(sea, 0.4), top=horizon)
    _ripples(canvas, horizon, sea, 120)
    number = (1, 1, 1, 2, 3)[canvas.count(0, 4)]
    boats = []
    for place in range(number):
        depth = canvas.between(0.12, 0.5) if number > 1 else canvas.between(0.3, 0.5)
        x = canvas.width * ((place + 0.5) / number + canvas.between(-0.1, 0.1))
        boats.append((depth, x))
    for depth, x in sorted(boats):
        y = (horizon + (1 - horizon) * depth) * canvas.height
        size = canvas.unit * (0.16 + 0.62 * depth) * canvas.between(0.85, 1.1)
        _boat(canvas, x, y, min(size, 0.92 * y), sea)
    for _ in range(canvas.count(0, 5)):
        x, y, span = canvas.between(0, canvas.width), canvas.between(0.06, 0.4) * canvas.height, 0.025 * canvas.unit
        wings = [(x - span, y - span * 0.3), (x - span * 0.4, y - span * 0.6), (x, y), (x + span * 0.4, y - span * 0.6)]
        canvas.line([*wings, (x + span, y - span * 0.3)], (250, 250, 250), 0.008 * canvas.unit)


def balloon(canvas: Canvas) -> None:
    """Hot-air balloons over hills."""
    top, low = DAY_SKIES[canvas.count(0, len(DAY_SKIES) - 1)]
    canvas.backdrop(top, low, lighter(low, 0.3))
    canvas.clouds(canvas.count(1, 5), (255, 255, 255), top=0.2, bottom=0.75)
    land = hsv(canvas.between(0.06, 0.38), canvas.between(0.3, 0.55), canvas.between(0.5, 0.7))
    base = canvas.between(0.86, 0.98)
    for layer in range(3):
        tint = mix(mix(land, low, 0.7), darker(land, 0.15), layer / 2)
        canvas.shape(canvas.ridge(base + 0.04 * layer, 0.1, 0.35), tint, darker(tint, 0.2))
    number = (1, 1, 2, 3, 5)[canvas.count(0, 4)]
    sizes = sorted(
        canvas.unit * (0.3 if number == 1 else 0.22 if number < 4 else 0.15) * canvas.between(0.55, 1.1)
        for _ in range(number)
    )
    places = canvas.rng.permutation(number)
    for place, size in zip(places, sizes, strict=True):
        x = canvas.width * ((place + 0.5) / number * 0.9 + 0.05) + canvas.between(-0.05, 0.05) * canvas.unit
        size = max(size, 0.09 * canvas.unit)
        y = canvas.between(1.08 * size, max(1.1 * size, 0.97 * canvas.height - 1.66 * size))  # room for the basket
        _one_balloon(canvas, (x, y), size)


def snowman(canvas: Canvas) -> None:
    """Three balls of snow with coal, a carrot, a hat and a scarf, while it snows."""
    night = canvas.chance(0.35)
    top, low = ((24, 30, 70), (110, 120, 170)) if night else ((150, 186, 220), (232, 236, 244))
    if not night and canvas.chance(0.4):
        top, low = (170, 150, 190), (250, 214, 200)
    horizon = canvas.between(0.6, 0.72)
    canvas.backdrop(top, low, bottom=horizon + 0.05)
    snow = mix((248, 250, 255), top, 0.22 if night else 0.06)
    hill = mix(snow, low, 0.4)
    canvas.shape(canvas.ridge(horizon, canvas.between(0.06, 0.16), 0.3), hill, mix(hill, top, 0.2))
    for _ in range(canvas.count(3, 10)):
        x, y = canvas.between(0, canvas.width), (horizon + canvas.between(-0.02, 0.08)) * canvas.height
        fir(canvas, x, y, canvas.between(0.2, 0.5) * canvas.unit, mix((74, 110, 100), snow, canvas.between(0.1, 0.5)))
    canvas.shape(canvas.ridge(horizon + 0.1, 0.06, 0.25), snow, mix(snow, (150, 170, 210), 0.5))
    foot = canvas.between(0.86, 0.97) * canvas.height
    size = min(canvas.between(0.15, 0.22) * canvas.unit, foot / 4.5)  # room for the hat
    _one_snowman(canvas, canvas.between(0.25, 0.75) * canvas.width, foot, size, snow)
    for _ in range(canvas.count(40, 150)):
        flake = canvas.between(0, canvas.width), canvas.between(0, canvas.height)
        canvas.dot(flake, canvas.between(0.002, 0.007) * canvas.unit, (255, 255, 255))


def _stem(canvas: Canvas, head: Point, green: Colour, size: float) -> None:
    x, y = head
    foot = x + canvas.between(-0.12, 0.12) * canvas.unit
    bend = (x + foot) / 2 + canvas.between(-0.04, 0.04) * canvas.unit
    canvas.line(
        smooth([(x, y), (bend, (y + canvas.height) / 2), (foot, canvas.height * 1.02)], closed=False), green, 0.1 * size
    )
    for side in (-1, 1):
        start = (bend + foot) / 2, y + (canvas.height - y) * canvas.between(0.5, 0.85)
        blade = [(0, 0), (0.5, -0.2), (1.1, -0.12), (1.5, 0.05), (1.0, 0.14), (0.5, 0.16)]
        angle = -canvas.between(0.4, 1.0) if side > 0 else canvas.between(0.4, 1.0)
        leaf = smooth(placed(blade, start, size * 0.8, angle=angle, flip=side < 0))
        canvas.shape(leaf, lighter(green, 0.22), darker(green, 0.2))


def _ring(canvas: Canvas, at: Point, petals: int, size: float, shape: list[Point], colour: Colour, turn: float) -> None:
    for number in range(petals):
        angle = turn + math.tau * number / petals + canvas.between(-0.05, 0.05)
        tint = canvas.near(colour, 8)
        outline = smooth(placed(shape, at, size * canvas.between(0.93, 1.07), angle=angle))
        canvas.shape(outline, lighter(tint, 0.22), darker(tint, 0.16))
        canvas.line(placed([(0.3, 0), (0.8, 0)], at, size, angle=angle), darker(tint, 0.12), 0.012 * size)


def _daisy(canvas: Canvas, at: Point, size: float, petal: Colour) -> None:
    slim = [(0.1, -0.03), (0.55, -0.15), (0.95, -0.1), (1.02, 0.03), (0.9, 0.13), (0.5, 0.14), (0.1, 0.04)]
    number = canvas.count(11, 17)
    _ring(canvas, at, number, size, slim, darker(petal, 0.12), 0.2)
    _ring(canvas, at, number, size * 0.88, slim, petal, 0.4)
    heart = canvas.pick(((240, 180, 40), (120, 76, 40), (250, 210, 80)))
    canvas.ball(at, 0.3 * size, 0.3 * size, heart)
    for _ in range(60):
        turn, far = canvas.between(0, math.tau), 0.27 * size * math.sqrt(canvas.rng.random())
        tint = lighter(heart, 0.3) if canvas.chance(0.5) else darker(heart, 0.3)
        canvas.dot((at[0] + far * math.cos(turn), at[1] + far * math.sin(turn)), 0.018 * size, tint)


def _rose(canvas: Canvas, at: Point, size: float, petal: Colour) -> None:
    broad = [(0.0, -0.1), (0.4, -0.5), (0.85, -0.42), (1.0, 0.0), (0.85, 0.42), (0.4, 0.5), (0.0, 0.1)]
    for layer in range(5):
        share = 1 - layer * 0.19
        tint = mix(lighter(petal, 0.15), darker(petal, 0.4), layer / 5)
        _ring(canvas, at, 6 - layer // 2, size * share, broad, tint, 0.5 * layer)
    canvas.ball(at, 0.1 * size, 0.1 * size, darker(petal, 0.45))


def _tulip(canvas: Canvas, at: Point, size: float, petal: Colour) -> None:
    for side in (-1, 1):
        back = [(side * 0.05, 0.8), (side * 0.62, 0.45), (side * 0.66, -0.2), (side * 0.36, -0.85), (side * 0.02, -0.2)]
        canvas.shape(smooth(placed(back, at, size)), lighter(petal, 0.05), darker(petal, 0.32))
    canvas.shape(
        smooth(placed([(0, 0.85), (0.42, 0.4), (0.34, -0.4), (0, -0.95), (-0.34, -0.4), (-0.42, 0.4)], at, size)),
        lighter(petal, 0.25),
        darker(petal, 0.12),
    )
    for side in (-1, 1):
        front = [(0, 0.88), (side * 0.5, 0.6), (side * 0.6, 0.0), (side * 0.5, -0.55), (side * 0.24, 0.1)]
        canvas.shape(smooth(placed(front, at, size)), lighter(petal, 0.12), darker(petal, 0.2))


def _poppy(canvas: Canvas, at: Point, size: float, petal: Colour) -> None:
    wide = [(0.0, -0.06), (0.4, -0.6), (0.9, -0.55), (1.05, -0.1), (1.0, 0.3), (0.75, 0.6), (0.3, 0.5), (0.0, 0.06)]
    _ring(canvas, at, 5, size, wide, petal, canvas.between(0, 1))
    canvas.glow(at, 0.5 * size, 0.5 * size, darker(petal, 0.7), 0.8)
    canvas.ball(at, 0.15 * size, 0.15 * size, (110, 130, 70))
    for number in range(26):
        angle = math.tau * number / 26
        far = size * canvas.between(0.2, 0.32)
        canvas.dot((at[0] + far * math.cos(angle), at[1] + far * math.sin(angle)), 0.022 * size, (40, 30, 40))


def _ripples(canvas: Canvas, horizon: float, sea: Colour, number: int) -> None:
    for _ in range(number):
        depth = canvas.rng.random() ** 1.3
        y = (horizon + (1 - horizon) * depth) * canvas.height
        x, length = canvas.between(0, canvas.width), (0.01 + 0.05 * depth) * canvas.width
        thick = (0.001 + 0.0035 * depth) * canvas.unit
        tint = lighter(sea, canvas.between(0.2, 0.6)) if canvas.chance(0.5) else darker(sea, 0.3)
        canvas.pen.ellipse((x - length, y - thick, x + length, y + thick), fill=tint)


def _boat(canvas: Canvas, x: float, y: float, size: float, sea: Colour) -> None:
    flip = canvas.chance(0.5)
    heel = canvas.between(-0.1, 0.1)

    def on_boat(points: list[Point]) -> list[Point]:
        return placed(points, (x, y), size, angle=heel, flip=flip)

    sail, second = canvas.pick(SAILS), canvas.pick(SAILS)
    for row in range(14):  # the reflection, broken into strips
        depth = row / 14
        half = size * (0.3 - 0.2 * depth) * canvas.between(0.6, 1.1)
        middle, level = x + canvas.between(-0.05, 0.05) * size, y + size * (0.08 + 0.55 * depth)
        tint = mix(sail, sea, 0.35 + 0.5 * depth)
        canvas.pen.ellipse((middle - half, level - 0.012 * size, middle + half, level + 0.012 * size), fill=tint)
    wood = (96, 66, 48)
    canvas.line(on_boat([(0.02, 0.0), (0.02, -1.0)]), wood, 0.02 * size)
    main = [(0.05, -0.97), *smooth([(0.05, -0.97), (0.3, -0.55), (0.47, -0.12)], closed=False), (0.05, -0.1)]
    canvas.shape(on_boat(main), lighter(sail, 0.1), darker(sail, 0.16))
    jib = [(-0.01, -0.9), *smooth([(-0.01, -0.9), (-0.2, -0.5), (-0.42, -0.08)], closed=False), (-0.01, -0.12)]
    canvas.shape(on_boat(jib), lighter(second, 0.15), darker(second, 0.1))
    for seam in (0.3, 0.52, 0.74):
        canvas.line(on_boat([(0.05, -1 + seam), (0.05 + 0.42 * seam, -1 + seam)]), darker(sail, 0.2), 0.006 * size)
    hull = hsv(canvas.between(0, 1), canvas.between(0.1, 0.7), canvas.between(0.3, 0.85))
    side = [(-0.52, -0.06), (0.5, -0.06), (0.42, 0.08), (0.3, 0.12), (-0.32, 0.12)]
    canvas.shape(on_boat(side), lighter(hull, 0.15), darker(hull, 0.35))
    canvas.line(on_boat([(-0.52, -0.06), (0.5, -0.06)]), lighter(hull, 0.6), 0.018 * size)
    canvas.line(on_boat([(0.02, -1.0), (0.02, -1.07)]), wood, 0.012 * size)
    canvas.pen.polygon(on_boat([(0.02, -1.08), (0.16, -1.05), (0.02, -1.01)]), fill=(220, 60, 50))
    canvas.glow((x, y + 0.12 * size), 0.5 * size, 0.04 * size, (250, 252, 255), 0.5)


def _girth(height: float) -> float:
    """Half the width of a balloon between its crown (0) and its mouth (1): half a ball, then a taper."""
    widest = 0.42
    if height < widest:
        return math.sqrt(1 - (1 - height / widest) ** 2)
    return 1 - 0.74 * math.pow((height - widest) / (1 - widest), 1.7)


def _one_balloon(canvas: Canvas, at: Point, size: float) -> None:
    x, y = at
    hue = canvas.between(0, 1)
    colours = [hsv(hue, 0.75, 0.9), hsv(hue + canvas.between(0.08, 0.5), 0.65, 0.95), (252, 246, 232)]
    colours = colours[: canvas.count(2, 3)]
    gores = canvas.count(4, 6) * 2
    profile = [(n / 16, _girth(n / 16)) for n in range(17)]
    for strip in reversed(range(gores)):  # meridians of a turned body, seen from the side
        start, stop = (math.cos(math.pi * (strip + side) / gores) for side in (0, 1))
        left = [(x + stop * width * size, y + (2.15 * t - 1) * size) for t, width in profile]
        right = [(x + start * width * size, y + (2.15 * t - 1) * size) for t, width in profile]
        colour = colours[strip % len(colours)]
        shade = 0.28 * (1 - (strip + 0.5) / gores)
        canvas.shape([*left, *reversed(right)], lighter(darker(colour, shade), 0.15), darker(colour, shade + 0.2))
    if canvas.chance(0.5):  # a belt around the widest part
        belt = canvas.pick(((250, 220, 90), (40, 60, 120), (250, 250, 250)))
        across = [(n / 8 - 1) for n in range(17)]
        upper = [(x + 0.99 * u * size, y + (0.08 * (1 - u * u) - 0.2) * size) for u in across]
        lower = [(x + 0.995 * u * size, y + (0.16 * (1 - u * u) - 0.02) * size) for u in reversed(across)]
        band = [*upper, *lower]
        canvas.shape(band, belt)
    mouth, basket = y + 1.15 * size, y + 1.42 * size
    neck = profile[-1][1] * size
    for side in (-1, -0.35, 0.35, 1):
        canvas.line([(x + side * neck, mouth), (x + side * 0.15 * size, basket)], (90, 70, 60), 0.012 * size)
    weave = (150, 104, 60)
    box = [(x - 0.17 * size, basket), (x + 0.17 * size, basket), (x + 0.14 * size, basket + 0.24 * size)]
    canvas.shape([*box, (x - 0.14 * size, basket + 0.24 * size)], lighter(weave, 0.15), darker(weave, 0.3))


def _one_snowman(canvas: Canvas, x: float, foot: float, size: float, snow: Colour) -> None:
    white = lighter(snow, 0.7)
    levels = (foot - 0.85 * size, foot - 2.15 * size, foot - 3.1 * size)
    radii = (size, 0.76 * size, 0.55 * size)
    canvas.glow((x, foot), 1.6 * size, 0.25 * size, (90, 110, 160), 0.5)
    coat = hsv(canvas.between(0, 1), 0.7, 0.75)
    for side in (-1, 1):
        lift = canvas.between(-0.9, 0.5)
        elbow = x + side * 1.25 * size, levels[1] + 0.35 * lift * size
        hand = x + side * 1.6 * size, levels[1] + 0.8 * lift * size
        canvas.line([(x + side * 0.6 * size, levels[1]), elbow, hand], (90, 64, 48), 0.06 * size)
        for spread in (-0.2, 0.15):
            canvas.line([elbow, (hand[0] + spread * size, hand[1] - 0.25 * size)], (90, 64, 48), 0.035 * size)
    for level, radius in zip(levels, radii, strict=True):
        canvas.ball((x, level), radius, radius * 0.95, white, light=0.22)
    for button in range(3):
        canvas.dot((x, levels[1] + (0.35 * button - 0.3) * size), 0.06 * size, (40, 40, 48))
    head = levels[2]
    for side in (-1, 1):
        canvas.dot((x + side * 0.18 * size, head - 0.1 * size), 0.06 * size, (30, 30, 36))
    for tooth in range(5):
        angle = math.pi * (0.25 + 0.125 * tooth)
        canvas.dot((x + 0.3 * size * math.cos(angle), head + 0.3 * size * math.sin(angle)), 0.03 * size, (40, 40, 48))
    way = 1 if canvas.chance(0.5) else -1
    carrot = [(x, head - 0.02 * size), (x + way * 0.55 * size, head + 0.08 * size), (x, head + 0.13 * size)]
    canvas.shape(carrot, (250, 150, 50), (220, 100, 30))
    scarf = [(x - 0.58 * size, head + 0.4 * size), (x, head + 0.5 * size), (x + 0.58 * size, head + 0.4 * size)]
    scarf += [(x + 0.55 * size, head + 0.62 * size), (x, head + 0.74 * size), (x - 0.55 * size, head + 0.62 * size)]
    end = x - way * 0.3 * size
    tail = [(end, head + 0.6 * size), (end + 0.24 * size, head + 0.62 * size), (end + 0.26 * size, head + 1.35 * size)]
    canvas.shape([*tail, (end + 0.02 * size, head + 1.32 * size)], darker(coat, 0.1), darker(coat, 0.25))
    canvas.shape(smooth(scarf), lighter(coat, 0.1), coat)
    _hat(canvas, x, head - 0.42 * size, size, coat)


def _hat(canvas: Canvas, x: float, brim: float, size: float, coat: Colour) -> None:
    if canvas.chance(0.55):  # a top hat
        felt = canvas.pick(((44, 42, 52), (90, 50, 50), (50, 60, 90)))
        crown = [(x - 0.36 * size, brim), (x - 0.34 * size, brim - 0.66 * size), (x + 0.34 * size, brim - 0.66 * size)]
        canvas.shape([*crown, (x + 0.36 * size, brim)], lighter(felt, 0.12), felt)
        band = [(x - 0.36 * size, brim), (x - 0.355 * size, brim - 0.16 * size), (x + 0.355 * size, brim - 0.16 * size)]
        canvas.shape([*band, (x + 0.36 * size, brim)], coat)
        canvas.pen.ellipse((x - 0.62 * size, brim - 0.08 * size, x + 0.62 * size, brim + 0.1 * size), fill=felt)
    else:  # a bobble hat
        cap = [(x - 0.5 * size, brim + 0.06 * size), (x - 0.36 * size, brim - 0.4 * size), (x, brim - 0.56 * size)]
        cap += [(x + 0.36 * size, brim - 0.4 * size), (x + 0.5 * size, brim + 0.06 * size)]
        canvas.shape(smooth(cap), lighter(coat, 0.15), darker(coat, 0.15))
        canvas.ball((x, brim - 0.6 * size), 0.16 * size, 0.16 * size, (250, 250, 252))
        canvas.pen.rounded_rectangle(
            (x - 0.54 * size, brim - 0.06 * size, x + 0.54 * size, brim + 0.14 * size),
            0.1 * size,
            fill=lighter(coat, 0.6),
        )
