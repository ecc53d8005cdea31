"""City skylines at night, houses in the country."""

import math

from vitseek.sample.canvas import Canvas, Colour, arc, box, darker, hsv, lighter, mix
from vitseek.sample.landscapes import DAY_SKIES, broadleaf, fir

NIGHTS: tuple[tuple[Colour, Colour], ...] = (  # above, above the roofs
    ((10, 14, 44), (84, 60, 120)),
    ((8, 20, 52), (40, 96, 130)),
    ((20, 10, 40), (150, 70, 90)),
    ((6, 10, 30), (36, 50, 100)),
    ((30, 20, 60), (210, 120, 90)),
)
WINDOWS: tuple[Colour, ...] = ((255, 220, 130), (255, 200, 100), (255, 236, 180), (190, 220, 255))
WALLS: tuple[Colour, ...] = (
    (240, 226, 196),
    (246, 240, 230),
    (226, 160, 120),
    (176, 200, 214),
    (236, 200, 110),
    (200, 110, 96),
    (196, 214, 176),
)
ROOFS: tuple[Colour, ...] = ((176, 70, 52), (120, 60, 54), (84, 88, 104), (150, 96, 60), (70, 100, 110))


def city(canvas: Canvas) -> None:
    """Towers with lit windows under the stars, often mirrored in a river."""
    above, low = NIGHTS[canvas.count(0, len(NIGHTS) - 1)]
    river = canvas.chance(0.55)
    ground = canvas.between(0.7, 0.82) if river else canvas.between(0.93, 1.0)
    canvas.backdrop(above, mix(above, low, 0.4), low, bottom=ground)
    for _ in range(canvas.count(30, 110)):
        star = canvas.between(0, canvas.width), canvas.between(0, 0.55 * ground) * canvas.height
        canvas.dot(star, canvas.between(0.4, 1.5), mix(above, (255, 255, 240), canvas.between(0.3, 1)))
    if canvas.chance(0.65):
        _moon(canvas)
    canvas.glow((canvas.width / 2, ground * canvas.height), canvas.width, 0.4 * canvas.height, lighter(low, 0.3), 0.6)
    layers = 3
    for layer in range(layers):
        near = layer / (layers - 1)
        tint = mix(mix(low, above, 0.45), darker(above, 0.45), near)
        x = -canvas.between(0, 0.1) * canvas.unit
        while x < canvas.width:
            wide = canvas.between(0.07, 0.16) * canvas.unit * (0.8 + 0.4 * near)
            tall = canvas.between(0.22, 0.74 - 0.26 * near) * ground * canvas.height
            _tower(canvas, x, ground * canvas.height, wide, tall, canvas.near(tint, 5), near)
            x += wide * canvas.between(0.85, 1.25)
    if river:
        _river(canvas, ground, mix(above, low, 0.3))


def house(canvas: Canvas) -> None:
    """A cottage on a lawn: gable, chimney, door, windows; trees, a fence, flowers or snow."""
    season = canvas.count(0, 3)
    top, low = DAY_SKIES[canvas.count(0, len(DAY_SKIES) - 1)]
    horizon = canvas.between(0.58, 0.68)
    canvas.backdrop(top, low, bottom=horizon)
    canvas.clouds(canvas.count(1, 4), (255, 255, 255), bottom=0.3)
    snow = season == 3
    lawn = (226, 232, 242) if snow else hsv(canvas.between(0.22, 0.32), canvas.between(0.4, 0.6), 0.62)
    hill = mix(lawn, low, 0.45)
    canvas.shape(canvas.ridge(horizon + 0.02, canvas.between(0.08, 0.18), 0.3), hill, darker(hill, 0.15))
    canvas.grass(horizon, lawn, blades=0 if snow else 150)
    leaf = (hsv(0.26, 0.6, 0.6), hsv(0.32, 0.55, 0.45), hsv(canvas.between(0.03, 0.11), 0.8, 0.8), (220, 228, 236))[
        season
    ]
    size = canvas.between(0.4, 0.58) * canvas.unit
    x = canvas.between(0.34, 0.66) * canvas.width
    foot = (horizon + canvas.between(0.08, 0.16)) * canvas.height
    for _ in range(canvas.count(1, 4)):  # behind the house
        place = x + canvas.between(0.55, 1.1) * size * (1 if canvas.chance(0.5) else -1)
        if canvas.chance(0.35):
            fir(canvas, place, foot - 0.02 * size, size * canvas.between(0.7, 1.1), hsv(0.38, 0.4, 0.4))
        else:
            broadleaf(canvas, place, foot - 0.02 * size, size * canvas.between(0.75, 1.15), leaf, (96, 70, 54))
    _cottage(canvas, x, foot, size, roof_of_snow=snow)
    if canvas.chance(0.5):
        _fence(canvas, min(foot + 0.12 * size, canvas.height * 0.95), 0.12 * canvas.unit)
    if not snow:
        for _ in range(canvas.count(0, 50)):
            spot = canvas.between(0, canvas.width), canvas.between(foot / canvas.height + 0.1, 1.0) * canvas.height
            canvas.dot(spot, canvas.between(0.005, 0.011) * canvas.unit, hsv(canvas.between(0, 1), 0.5, 1))


def _moon(canvas: Canvas) -> None:
    centre = canvas.between(0.12, 0.88) * canvas.width, canvas.between(0.1, 0.26) * canvas.height
    radius = canvas.between(0.035, 0.07) * canvas.unit
    canvas.glow(centre, radius * 4.5, radius * 4.5, (230, 230, 255), 0.35)
    if canvas.chance(0.6):
        canvas.ball(centre, radius, radius, (244, 240, 220), light=0.1)
        return
    outer = arc(centre, radius, radius, 0.4 * math.pi, 1.6 * math.pi)  # a crescent, open to the right
    inner_x = centre[0] + 0.31 * radius
    canvas.shape(
        [*outer, *reversed(arc((inner_x, centre[1]), 0.62 * radius, 0.95 * radius, 0.5 * math.pi, 1.5 * math.pi))],
        (250, 246, 226),
    )


def _tower(canvas: Canvas, x: float, foot: float, wide: float, tall: float, wall: Colour, near: float) -> None:
    top = foot - tall
    crown = canvas.count(0, 4)
    outline = [(x, foot), (x, top), (x + wide, top), (x + wide, foot)]
    if crown == 1:  # a slanted roof
        outline[1] = (x, top + 0.2 * wide)
    elif crown == 2:  # steps
        outline[2:2] = [(x + 0.2 * wide, top), (x + 0.2 * wide, top - 0.3 * wide), (x + 0.8 * wide, top - 0.3 * wide)]
        outline.insert(5, (x + 0.8 * wide, top))
    elif crown == 3:  # a spire
        outline[2:2] = [
            (x + 0.42 * wide, top - 0.2 * wide),
            (x + 0.5 * wide, top - wide),
            (x + 0.58 * wide, top - 0.2 * wide),
        ]
    canvas.shape(outline, lighter(wall, 0.1), darker(wall, 0.3))
    if crown == 4:
        canvas.line([(x + wide / 2, top), (x + wide / 2, top - 0.7 * wide)], wall, 0.006 * canvas.unit)
        canvas.dot((x + wide / 2, top - 0.7 * wide), 0.006 * canvas.unit, (255, 80, 70))
    columns = canvas.count(3, 5)
    pitch = wide / (columns + 0.5)
    lit = canvas.between(0.3, 0.75)
    glass = canvas.pick(WINDOWS)
    row = top + pitch * 0.7
    while row < foot - pitch:
        for column in range(columns):
            if canvas.chance(lit):
                left = x + pitch * (column + 0.4)
                shine = mix(wall, canvas.near(glass, 10), canvas.between(0.35, 1.0) * (0.55 + 0.45 * near))
                canvas.pen.rectangle((left, row, left + pitch * 0.6, row + pitch * 0.75), fill=shine)
        row += pitch * 1.35


def _river(canvas: Canvas, shore: float, water: Colour) -> None:
    canvas.mirror(shore, water, share=0.4, blur=5)
    for _ in range(90):
        depth = canvas.rng.random()
        y = (shore + (1 - shore) * depth) * canvas.height
        x, length = canvas.between(0, canvas.width), canvas.between(0.01, 0.04) * canvas.width
        tint = mix(water, canvas.pick(WINDOWS), canvas.between(0.1, 0.5))
        canvas.pen.ellipse((x - length, y - 1.5, x + length, y + 1.5), fill=tint)


def _cottage(canvas: Canvas, x: float, foot: float, size: float, *, roof_of_snow: bool) -> None:
    wall, roof = canvas.pick(WALLS), canvas.pick(ROOFS)
    wood = hsv(canvas.between(0, 1), 0.5, 0.45)
    half, tall, rise = (
        size * canvas.between(0.42, 0.52),
        size * canvas.between(0.38, 0.5),
        size * canvas.between(0.28, 0.4),
    )
    eaves = foot - tall
    chimney = x + half * canvas.between(0.35, 0.6) * (1 if canvas.chance(0.5) else -1)
    brick = darker(roof, 0.15)
    canvas.shape(box(chimney, eaves, 0.1 * size, rise * 1.1), brick)
    if canvas.chance(0.6):
        for puff in range(7):
            centre = chimney + puff * 0.035 * size, eaves - rise * 1.15 - puff * 0.07 * size
            canvas.glow(
                centre, (0.06 + 0.014 * puff) * size, (0.06 + 0.01 * puff) * size, (240, 240, 240), 0.6 - 0.06 * puff
            )
    canvas.glow((x, foot), half * 1.5, 0.06 * size, (30, 40, 30), 0.5)
    canvas.shape(box(x, foot, 2 * half, tall), wall, darker(wall, 0.14))
    over = 0.07 * size
    if canvas.chance(0.5):  # the gable looks at us
        canvas.shape([(x - half, eaves + 1), (x, eaves - rise), (x + half, eaves + 1)], wall, darker(wall, 0.06))
        for side in (-1, 1):
            edge = [(x, eaves - rise - over), (x + side * (half + over), eaves + over * 0.6)]
            lower = [(x + side * (half + over), eaves + over * 1.5), (x, eaves - rise + over * 0.4)]
            canvas.shape([*edge, *lower], (246, 248, 252) if roof_of_snow else roof)
        _window(canvas, x, eaves - rise * 0.32, 0.09 * size)
    else:  # the long side does
        ridge = half * canvas.between(0.7, 0.9)
        cover = [(x - half - over, eaves + over * 0.4), (x - ridge, eaves - rise), (x + ridge, eaves - rise)]
        tint = (246, 248, 252) if roof_of_snow else roof
        canvas.shape([*cover, (x + half + over, eaves + over * 0.4)], lighter(tint, 0.1), darker(tint, 0.15))
        if not roof_of_snow:
            for course in range(1, 6):
                y, spread = eaves - rise * course / 6, half + over - (half + over - ridge) * course / 6
                canvas.line([(x - spread, y), (x + spread, y)], darker(roof, 0.22), 0.006 * size)
    door = x + half * canvas.between(-0.15, 0.15)
    canvas.shape(box(door, foot, 0.14 * size, tall * 0.58), wood)
    canvas.dot((door + 0.045 * size, foot - tall * 0.27), 0.01 * size, (240, 210, 120))
    for side in (-1, 1):
        _window(canvas, x + side * half * 0.62, foot - tall * 0.52, 0.11 * size)
    path = lighter((186, 164, 136), 0.2)
    end = canvas.height + 2.0
    way = [(door - 0.07 * size, foot), (door + 0.07 * size, foot), (door + 0.3 * size, end), (door - 0.12 * size, end)]
    canvas.shape(way, path, darker(path, 0.12))


def _window(canvas: Canvas, x: float, y: float, size: float) -> None:
    frame, glass = (250, 248, 240), canvas.pick(((90, 120, 150), (120, 150, 176), (255, 222, 140)))
    half, tall = size * 0.8, size
    canvas.pen.rectangle((x - half, y - tall, x + half, y + tall), fill=frame)
    inset = size * 0.16
    canvas.pen.rectangle((x - half + inset, y - tall + inset, x + half - inset, y + tall - inset), fill=glass)
    canvas.line([(x, y - tall), (x, y + tall)], frame, size * 0.14)
    canvas.line([(x - half, y), (x + half, y)], frame, size * 0.14)


def _fence(canvas: Canvas, y: float, tall: float) -> None:
    paint = canvas.pick(((250, 250, 246), (170, 130, 96), (210, 190, 160)))
    for rail in (0.35, 0.72):
        canvas.line([(0, y - rail * tall), (canvas.width, y - rail * tall)], darker(paint, 0.1), 0.12 * tall)
    step = tall * 0.42
    for number in range(int(canvas.width / step) + 1):
        x = number * step
        top = y - tall
        canvas.shape(
            [(x, y), (x, top), (x + step * 0.25, top - tall * 0.14), (x + step * 0.5, top), (x + step * 0.5, y)],
            paint,
            darker(paint, 0.12),
        )
