"""Sunsets over the sea, mountains, forests."""

import math

from vitseek.sample.canvas import Canvas, Colour, box, darker, hsv, lighter, mix, smooth

SUNSETS: tuple[tuple[Colour, Colour, Colour, Colour], ...] = (  # zenith, middle, horizon, sun
    ((54, 38, 96), (214, 84, 84), (255, 196, 100), (255, 244, 190)),
    ((30, 52, 104), (236, 128, 74), (255, 214, 110), (255, 240, 170)),
    ((92, 48, 110), (232, 110, 130), (255, 200, 160), (255, 236, 200)),
    ((120, 28, 48), (238, 84, 46), (255, 180, 60), (255, 226, 130)),
    ((44, 84, 120), (240, 160, 110), (255, 226, 160), (255, 250, 214)),
    ((70, 30, 80), (190, 50, 90), (250, 140, 70), (255, 210, 120)),
)
DAY_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((92, 154, 222), (214, 234, 246)),
    ((70, 130, 200), (250, 226, 200)),
    ((130, 170, 206), (236, 238, 236)),
    ((88, 120, 190), (250, 206, 190)),
    ((110, 186, 220), (232, 246, 240)),
)


def sunset(canvas: Canvas) -> None:
    """The sun low over the sea, its path on the water."""
    zenith, middle, glow, sun = SUNSETS[canvas.count(0, len(SUNSETS) - 1)]
    horizon = canvas.between(0.5, 0.68)
    level = horizon * canvas.height
    canvas.backdrop(zenith, middle, glow, bottom=horizon)
    x = canvas.between(0.25, 0.75) * canvas.width
    radius = canvas.between(0.07, 0.13) * canvas.unit
    y = level - radius * canvas.between(-0.3, 2.6)
    canvas.glow((x, y), radius * 7, radius * 6, lighter(glow, 0.3), 0.75)
    canvas.glow((x, y), radius * 2.4, radius * 2.4, sun, 0.9)
    canvas.dot((x, y), radius, sun)
    for _ in range(canvas.count(4, 12)):  # streaks of cloud, lit from below
        streak_y = canvas.between(0.05, 0.95) * level
        length = canvas.between(0.12, 0.45) * canvas.width
        tint = mix(lighter(glow, 0.25), darker(zenith, 0.1), canvas.between(0, 1))
        for _ in range(3):
            centre = canvas.between(0, canvas.width), streak_y + canvas.between(-0.012, 0.012) * canvas.height
            canvas.glow(centre, length, canvas.between(0.008, 0.028) * canvas.height, tint, 0.6)
    sea_far, sea_near = mix(glow, middle, 0.55), darker(zenith, 0.35)
    canvas.backdrop(sea_far, mix(middle, zenith, 0.6), sea_near, top=horizon)
    if canvas.chance(0.4):
        _island(canvas, level, mix(zenith, middle, 0.35))
    _waves(canvas, horizon, lighter(sea_far, 0.1), sea_near)
    for _ in range(130):  # the path of light
        depth = canvas.rng.random() ** 1.4
        row = level + depth * (canvas.height - level)
        spread = radius * (0.5 + 2.2 * depth)
        length = radius * canvas.between(0.15, 0.7) * (0.6 + depth)
        centre = x + float(canvas.rng.normal(0, 0.5)) * spread
        thickness = (0.0015 + 0.006 * depth) * canvas.unit
        canvas.pen.ellipse(
            (centre - length, row - thickness, centre + length, row + thickness), fill=mix(sun, glow, depth)
        )
    foreground = canvas.count(0, 3)
    ink = darker(zenith, 0.72)
    if foreground == 1:
        _palm(canvas, ink)
    elif foreground == 2:
        canvas.shape(canvas.ridge(canvas.between(0.96, 1.02), canvas.between(0.05, 0.14), 0.6), ink, darker(ink, 0.5))
    if canvas.chance(0.5):
        _birds(canvas, ink, canvas.count(2, 6), bottom=horizon - 0.08)


def mountains(canvas: Canvas) -> None:
    """Ranges behind each other, paler with distance; snow on the highest."""
    top, low = DAY_SKIES[canvas.count(0, len(DAY_SKIES) - 1)]
    canvas.backdrop(top, low, low)
    canvas.clouds(canvas.count(0, 4), lighter(low, 0.7), bottom=0.3)
    hue = canvas.between(0.55, 0.72)
    far, near = mix(hsv(hue, 0.3, 0.72), low, 0.45), hsv(canvas.between(0.28, 0.45), 0.4, 0.26)
    base = canvas.between(0.62, 0.74)
    canvas.shape(canvas.ridge(base - 0.04, canvas.between(0.12, 0.22), 0.55), far, mix(far, low, 0.5))
    for number in range(canvas.count(2, 4)):
        _peak(canvas, base, mix(far, hsv(hue, 0.42, 0.46), 0.4 + 0.2 * number), low)
    canvas.glow((canvas.width / 2, base * canvas.height), canvas.width, 0.1 * canvas.height, low, 0.7)
    layers = canvas.count(2, 3)
    lake = canvas.chance(0.4)
    for layer in range(layers):
        share = (layer + 1) / layers
        tint = mix(hsv(hue - 0.1, 0.4, 0.5), near, share)
        foot = base + 0.02 + (0.12 if lake else 0.2) * share
        canvas.shape(canvas.ridge(foot, 0.1, 0.45), canvas.near(tint), darker(tint, 0.3))
    if lake:
        shore = base + canvas.between(0.1, 0.14)
        water = mix(top, near, 0.35)
        canvas.mirror(shore, water, share=0.35, blur=4)
        for _ in range(26):
            x, y = canvas.between(0, canvas.width), canvas.between(shore, 1) * canvas.height
            canvas.glow(
                (x, y), canvas.between(0.05, 0.3) * canvas.width, 0.004 * canvas.height, lighter(water, 0.5), 0.5
            )
    elif canvas.chance(0.7):
        for _ in range(canvas.count(5, 16)):
            y = canvas.between(0.9, 1.04) * canvas.height
            fir(canvas, canvas.between(0, canvas.width), y, canvas.between(0.14, 0.26) * canvas.unit, darker(near, 0.1))


def forest(canvas: Canvas) -> None:
    """Trunks and crowns in rows that fade into mist; four seasons."""
    season = canvas.count(0, 3)
    light = (
        hsv(canvas.between(0.18, 0.24), 0.25, 0.93),
        hsv(canvas.between(0.26, 0.34), 0.28, 0.85),
        hsv(canvas.between(0.1, 0.14), 0.35, 0.95),
        hsv(canvas.between(0.5, 0.6), 0.16, 0.85),
    )[season]
    leaf = (
        hsv(canvas.between(0.22, 0.29), 0.62, 0.66),
        hsv(canvas.between(0.3, 0.38), 0.6, 0.45),
        hsv(canvas.between(0.03, 0.11), 0.8, 0.82),
        hsv(canvas.between(0.36, 0.44), 0.5, 0.36),
    )[season]
    ground = (0.36, 0.3, 0.09, 0.32)[season]
    floor = hsv(canvas.between(ground - 0.04, ground + 0.02), 0.45, 0.42)
    horizon = canvas.between(0.62, 0.74)
    canvas.backdrop(lighter(light, 0.3), light, mix(light, leaf, 0.35), bottom=horizon)
    canvas.grass(horizon, floor, blades=220)
    conifers = season == 3 or canvas.chance(0.3)
    rows = 4
    for row in range(rows):
        near = (row + 1) / rows
        foot = horizon + 0.02 + 0.26 * near**1.8
        tint = mix(light, leaf, 0.3 + 0.7 * near)
        number = round((10 - 5 * near) * canvas.width / canvas.unit)
        for place in range(number):
            x = (place + canvas.between(0.0, 1.0)) / number * canvas.width
            y = (foot + canvas.between(-0.02, 0.02)) * canvas.height
            size = canvas.unit * (0.3 + 0.5 * near) * canvas.between(0.8, 1.2)
            if conifers:
                fir(canvas, x, y, size, canvas.near(tint, 9))
            else:
                broadleaf(canvas, x, y, size, canvas.near(tint, 14), mix(light, (74, 54, 44), 0.35 + 0.65 * near))
        if row < rows - 1:
            centre = canvas.between(0.2, 0.8) * canvas.width, foot * canvas.height
            canvas.glow(centre, canvas.width, 0.2 * canvas.height, light, 0.5)
    if canvas.chance(0.5):
        canvas.rays(lighter(light, 0.6))


def fir(canvas: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    """A conifer standing at (x, y), ``size`` high."""
    canvas.shape(box(x, y, size * 0.05, size * 0.2), mix(colour, (70, 48, 36), 0.7))
    width = size * canvas.between(0.2, 0.27)
    tiers = 5
    for tier in range(tiers):
        low = y - size * (0.1 + 0.17 * tier)
        half = width * (1 - tier / (tiers + 0.6))
        sag = size * 0.04
        outline = [(x - half, low + sag), (x, low - size * 0.27), (x + half, low + sag), (x, low - sag * 0.3)]
        canvas.shape(outline, lighter(colour, 0.16), darker(colour, 0.28))


def broadleaf(canvas: Canvas, x: float, y: float, size: float, leaf: Colour, bark: Colour) -> None:
    """A tree with a round crown standing at (x, y), ``size`` high."""
    lean = canvas.between(-0.05, 0.05) * size
    foot, neck = size * 0.045, size * 0.022
    top = y - size * 0.6
    trunk = [(x - foot, y), (x - neck + lean, top), (x + neck + lean, top), (x + foot, y)]
    canvas.shape(trunk, lighter(bark, 0.1), darker(bark, 0.3), sideways=True)
    heap = sorted(((canvas.between(-1, 1), canvas.between(-1, 1)) for _ in range(11)), key=lambda place: -place[1])
    for across, up in heap:
        reach = math.sqrt(max(0.0, 1 - 0.7 * up * up))
        centre = x + lean + across * reach * size * 0.22, y - size * (0.7 + 0.19 * up)
        radius = size * canvas.between(0.09, 0.13)
        tint = canvas.near(mix(darker(leaf, 0.3), lighter(leaf, 0.08), 0.5 + up / 2), 7)
        canvas.ball(centre, radius * 1.15, radius, tint, light=0.2)
        for _ in range(9):
            turn, far = canvas.between(0, math.tau), radius * canvas.between(0.3, 1.15)
            spot = centre[0] + far * math.cos(turn), centre[1] + far * math.sin(turn)
            shade = lighter(tint, 0.25) if math.sin(turn) < 0 else darker(tint, 0.18)
            canvas.dot(spot, size * canvas.between(0.005, 0.012), shade)


def _peak(canvas: Canvas, base: float, rock: Colour, sky: Colour) -> None:
    """One mountain: a lit and a shaded flank, and a snow cap with a ragged edge."""
    top = canvas.between(0.12, 0.38) * canvas.height
    foot = (base + 0.06) * canvas.height
    x = canvas.between(0.1, 0.9) * canvas.width
    spread = (foot - top) * canvas.between(0.8, 1.25)
    steps = 9

    def flank(side: int) -> list[tuple[float, float]]:
        edge = []
        for step in range(steps + 1):
            t = step / steps
            wobble = canvas.between(-0.05, 0.05) * spread * (0 < step < steps)
            edge.append((x + side * spread * t + wobble, top + (foot - top) * t**0.93 + wobble * 0.4))
        return edge

    left, right = flank(-1), flank(1)
    crest = [(x, top)]
    for step in range(1, steps + 1):
        t = step / steps
        crest.append((x + canvas.between(-0.13, 0.16) * spread * t, top + (foot - top) * t))
    shaded = darker(rock, 0.3)
    canvas.shape([*left, *reversed(crest)], lighter(rock, 0.28), mix(rock, sky, 0.35))
    canvas.shape([*right, *reversed(crest)], shaded, mix(shaded, sky, 0.4))
    line = canvas.between(0.28, 0.5)
    kept = max(2, round(line * steps))
    ragged = [
        (x + side * spread * kept / steps * share, top + (foot - top) * line * canvas.between(0.62, 1.12))
        for side, share in ((-1, 0.75), (-1, 0.4))
    ]
    canvas.shape([*left[: kept + 1], *ragged, crest[kept], *reversed(crest[:kept])], (252, 252, 255), (222, 230, 244))
    ragged = [
        (x + spread * kept / steps * share, top + (foot - top) * line * canvas.between(0.62, 1.12))
        for share in (0.75, 0.4)
    ]
    canvas.shape([*right[: kept + 1], *ragged, crest[kept], *reversed(crest[:kept])], (196, 208, 232), (160, 176, 210))


def _waves(canvas: Canvas, horizon: float, far: Colour, near: Colour) -> None:
    for _ in range(150):
        depth = canvas.rng.random() ** 1.3
        y = (horizon + (1 - horizon) * depth) * canvas.height
        x, length = canvas.between(0, canvas.width), (0.01 + 0.06 * depth) * canvas.width
        thickness = (0.001 + 0.004 * depth) * canvas.unit
        tint = mix(mix(far, near, depth), far if canvas.chance(0.5) else near, 0.5)
        canvas.pen.ellipse((x - length, y - thickness, x + length, y + thickness), fill=tint)


def _island(canvas: Canvas, level: float, colour: Colour) -> None:
    x, half = canvas.between(0.1, 0.9) * canvas.width, canvas.between(0.1, 0.25) * canvas.width
    height = canvas.between(0.02, 0.08) * canvas.height
    outline = [(x - half, level), (x - half * 0.4, level - height * 0.7), (x, level - height * canvas.between(0.5, 1))]
    canvas.shape([*outline, (x + half * 0.5, level - height * 0.6), (x + half, level)], colour)


def _palm(canvas: Canvas, ink: Colour) -> None:
    side = 1 if canvas.chance(0.5) else -1
    foot = canvas.width * (0.12 if side > 0 else 0.88)
    height = canvas.between(0.5, 0.75) * canvas.height
    trunk = [
        (foot + side * 0.1 * canvas.unit * math.sin(t * 1.4), canvas.height - height * t)
        for t in (0, 0.25, 0.5, 0.75, 1)
    ]
    canvas.line(trunk, ink, 0.022 * canvas.unit)
    x, y = trunk[-1]
    for frond in range(9):
        angle = math.pi * (0.9 + 1.2 * frond / 8) + canvas.between(-0.12, 0.12)
        reach = canvas.between(0.2, 0.27) * canvas.unit
        across, up = math.cos(angle) * reach, math.sin(angle) * reach
        spine = [
            (x, y),
            (x + 0.4 * across, y + 0.62 * up - 0.05 * reach),
            (x + 0.8 * across, y + 0.55 * up + 0.16 * reach),
        ]
        tip = x + across, y + 0.3 * up + 0.5 * reach
        under = [(px, py + 0.16 * reach) for px, py in reversed(spine[1:])]
        canvas.pen.polygon(smooth([*spine, tip, *under]), fill=ink)


def _birds(canvas: Canvas, ink: Colour, number: int, *, bottom: float) -> None:
    for _ in range(number):
        x, y = canvas.between(0.1, 0.9) * canvas.width, canvas.between(0.08, max(0.1, bottom)) * canvas.height
        span = canvas.between(0.012, 0.03) * canvas.unit
        points = [
            (x - span, y - span * 0.4),
            (x - span * 0.4, y - span * 0.6),
            (x, y),
            (x + span * 0.4, y - span * 0.6),
        ]
        canvas.line([*points, (x + span, y - span * 0.4)], ink, 0.006 * canvas.unit)
