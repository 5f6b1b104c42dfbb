"""Product pictures, drawn: one simple drawing per kind of goods, in the item's colour.

Coordinates run from 0 to 100, x to the right and y down; the item stands on the floor at y = 84.
Drawn at twice the size and halved, which smooths the edges.
"""

import colorsys
import io
import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from shopkeeper.demo.goods import COLOURS, GOODS, STYLES

SIZE = 256  # pixels of a side
FLOOR = 84

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

WOOD: RGB = (190, 142, 98)
METAL: RGB = (176, 182, 190)
STEEL: RGB = (120, 126, 134)
DARK: RGB = (58, 60, 68)
PAPER: RGB = (250, 247, 238)
GLASS: RGB = (206, 226, 234)
SCREEN: RGB = (44, 56, 78)
LEAF: RGB = (92, 156, 96)
SOIL: RGB = (110, 84, 66)
GLOW: RGB = (255, 226, 140)
CLAY: RGB = (198, 118, 84)
CREAM: RGB = (246, 232, 206)


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """`one` with `share` of `other` in it."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(one, other, strict=True))
    return r, g, b


class Pen:
    """A canvas and the four tones of the item's colour."""

    def __init__(self, base: RGB, wall: RGB, style: str) -> None:
        self.base = base
        self.dark = mix(base, (20, 20, 30), 0.28)
        self.light = mix(base, (255, 255, 255), 0.38)
        self.style = style
        self.image = Image.new("RGB", (2 * SIZE, 2 * SIZE), wall)
        self.draw = ImageDraw.Draw(self.image)
        self.scale = 2 * SIZE / 100
        floor = mix(wall, (90, 80, 70), 0.13)
        self.box(0, 76, 100, 100, floor)
        self.oval(14, 8, 86, 80, mix(wall, (255, 255, 255), 0.45))

    def shadow(self, left: float, right: float, y: float = FLOOR) -> None:
        tone = self.image.getpixel((2, 2 * SIZE - 2))
        assert isinstance(tone, tuple)
        self.oval(left, y - 3, right, y + 3.5, mix((tone[0], tone[1], tone[2]), (60, 50, 50), 0.3))

    def _xy(self, points: Points) -> list[tuple[float, float]]:
        return [(x * self.scale, y * self.scale) for x, y in points]

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, r: float = 0.0) -> None:
        corners = [v * self.scale for v in (x0, y0, x1, y1)]
        if r:
            self.draw.rounded_rectangle(corners, r * self.scale, fill)
        else:
            self.draw.rectangle(corners, fill)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self.draw.ellipse([v * self.scale for v in (x0, y0, x1, y1)], fill)

    def dot(self, x: float, y: float, r: float, fill: RGB) -> None:
        self.oval(x - r, y - r, x + r, y + r, fill)

    def ring(self, x: float, y: float, r: float, w: float, fill: RGB) -> None:
        corners = [v * self.scale for v in (x - r, y - r, x + r, y + r)]
        self.draw.ellipse(corners, outline=fill, width=round(w * self.scale))

    def poly(self, points: Points, fill: RGB) -> None:
        self.draw.polygon(self._xy(points), fill)

    def line(self, points: Points, w: float, fill: RGB) -> None:
        xy = self._xy(points)
        self.draw.line(xy, fill, round(w * self.scale), joint="curve")
        for x, y in (xy[0], xy[-1]):
            r = w * self.scale / 2
            self.draw.ellipse([x - r, y - r, x + r, y + r], fill)

    def arc(
        self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, w: float,
        fill: RGB,
    ) -> None:  # fmt: skip
        corners = [v * self.scale for v in (x0, y0, x1, y1)]
        self.draw.arc(corners, start, end, fill, round(w * self.scale))

    def pie(
        self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, fill: RGB
    ) -> None:
        self.draw.pieslice([v * self.scale for v in (x0, y0, x1, y1)], start, end, fill)

    def mark(self, x: float, y: float, size: float = 7.0, on: RGB | None = None) -> None:
        """The sign of the item's style, centred at (x, y), on the tone `on`."""
        tone = on or self.base
        ink = mix(tone, (255, 255, 255), 0.75) if sum(tone) < 480 else mix(tone, DARK, 0.6)
        s = size / 2
        if self.style == "minimalist":
            self.line([(x - s * 0.6, y), (x + s * 0.6, y)], 0.9, ink)
        elif self.style == "retro":
            for shift, w in ((-0.55, 1.3), (0.0, 1.3), (0.55, 1.3)):
                self.line([(x - s, y + shift * s), (x + s, y + shift * s)], w * 0.8, ink)
        elif self.style == "cute":
            self.dot(x - s * 0.42, y - s * 0.3, s * 0.5, ink)
            self.dot(x + s * 0.42, y - s * 0.3, s * 0.5, ink)
            self.poly([(x - s * 0.88, y - s * 0.1), (x + s * 0.88, y - s * 0.1), (x, y + s)], ink)
        elif self.style == "urban":
            for shift in (-0.6, 0.1):
                self.poly(
                    [(x + (shift - 0.5) * s, y + s), (x + (shift + 0.1) * s, y + s),
                     (x + (shift + 0.9) * s, y - s), (x + (shift + 0.3) * s, y - s)], ink)  # fmt: skip
        elif self.style == "classic":
            self.box(x - s * 0.7, y - s * 0.7, x + s * 0.7, y + s * 0.7, ink)
            self.box(x - s * 0.4, y - s * 0.4, x + s * 0.4, y + s * 0.4, tone)
        else:
            self.oval(x - s * 0.5, y - s, x + s * 0.5, y + s, ink)
            self.line([(x, y - s * 0.5), (x, y + s * 1.3)], 0.6, tone)

    def finish(self) -> Image.Image:
        return self.image.reduce(2)


def lamp_glow(p: Pen, x: float, y: float, r: float) -> None:
    p.dot(x, y, r * 1.8, mix(GLOW, (255, 255, 255), 0.65))
    p.dot(x, y, r, GLOW)


# ---- one function a drawing, in alphabetical order of the name it is found by


def armchair(p: Pen) -> None:
    p.shadow(16, 84)
    for x in (24, 72):
        p.box(x, 76, x + 4, FLOOR, WOOD)
    p.box(22, 28, 78, 70, p.dark, 10)
    p.box(27, 33, 73, 66, p.base, 8)
    p.box(16, 46, 30, 78, p.light, 6)
    p.box(70, 46, 84, 78, p.light, 6)
    p.box(28, 58, 72, 78, p.base, 4)
    p.box(28, 58, 72, 66, p.light, 4)
    p.mark(50, 46)


def backpack(p: Pen) -> None:
    p.shadow(24, 76)
    p.arc(40, 12, 60, 34, 180, 360, 3, p.dark)
    p.box(26, 22, 74, FLOOR, p.base, 14)
    p.box(20, 50, 28, 78, p.dark, 4)
    p.box(72, 50, 80, 78, p.dark, 4)
    p.box(32, 52, 68, 78, p.light, 6)
    p.line([(32, 58), (68, 58)], 1.2, p.dark)
    p.line([(34, 40), (66, 40)], 1.2, p.dark)
    p.mark(50, 68, 8, p.light)


def belt(p: Pen) -> None:
    p.shadow(18, 82)
    p.ring(50, 54, 30, 8, p.dark)
    p.ring(50, 51, 30, 8, p.base)
    p.box(40, 72, 60, 88, METAL, 3)
    p.box(44, 76, 56, 84, p.base, 1)
    p.box(49, 76, 51, 90, STEEL)


def blocks(p: Pen) -> None:
    p.shadow(14, 88)
    for x, y, tone in (
        (16, 62, p.base), (40, 62, GLOW), (64, 62, (110, 170, 210)),
        (28, 40, (226, 110, 100)), (52, 40, p.dark), (40, 18, p.light),
    ):  # fmt: skip
        for knob in (5, 14):
            p.box(x + knob, y - 3, x + knob + 5, y + 2, mix(tone, DARK, 0.15), 1)
        p.box(x, y, x + 23, y + 22, tone, 2)


def board(p: Pen) -> None:
    p.shadow(20, 80)
    p.box(24, 20, 76, FLOOR, WOOD, 6)
    p.box(24, 20, 76, 30, p.base, 6)
    p.box(42, 22, 58, 28, mix(WOOD, DARK, 0.5), 3)
    for x in (34, 45, 57, 66):
        p.line([(x, 36), (x + 1, 78)], 0.6, mix(WOOD, DARK, 0.2))
    p.mark(50, 58, 9, WOOD)


def book(p: Pen) -> None:
    p.shadow(18, 84)
    p.poly([(28, 20), (74, 14), (78, 78), (32, FLOOR)], PAPER)
    p.poly([(22, 22), (68, 16), (72, 78), (26, FLOOR)], p.base)
    p.poly([(22, 22), (28, 21), (32, 83), (26, FLOOR)], p.dark)
    p.dot(50, 44, 11, p.light)
    p.dot(46, 42, 1.6, DARK)
    p.dot(54, 41, 1.6, DARK)
    p.arc(44, 40, 56, 50, 20, 160, 1, DARK)
    p.line([(38, 66), (62, 63)], 2, p.light)


def bookshelf(p: Pen) -> None:
    p.shadow(22, 78)
    p.box(24, 12, 76, FLOOR, p.dark, 2)
    tones = ((200, 90, 80), (90, 140, 180), GLOW, (120, 170, 130), PAPER)
    for row in range(4):
        top = 16 + row * 17
        p.box(28, top, 72, top + 14, mix(p.light, (255, 255, 255), 0.3))
        x = 29.0 + 3 * (row % 2)
        for number in range(5 + row % 2):
            tall = 9 + (number * 7 + row * 3) % 5
            p.box(x, top + 14 - tall, x + 4, top + 14, tones[(number + row) % 5])
            x += 5
    p.box(62, 24, 68, 30, CLAY)
    p.dot(65, 21, 4, LEAF)


def boot(p: Pen) -> None:
    p.shadow(20, 86)
    p.poly([(34, 16), (58, 16), (57, 52), (80, 64), (84, 78), (34, 78)], p.base)
    p.oval(62, 58, 85, 82, p.base)
    p.box(32, 76, 85, FLOOR, DARK, 3)
    p.box(32, 74, 46, FLOOR + 1, DARK, 1)
    p.box(33, 14, 59, 22, p.dark, 2)
    for y in (32, 40, 48, 56):
        p.line([(50, y), (60, y + 3)], 1.4, p.light)
    p.mark(42, 40)


def bottle(p: Pen) -> None:
    p.shadow(34, 66)
    p.box(40, 12, 60, 26, STEEL, 4)
    p.box(43, 24, 57, 32, METAL)
    p.box(34, 28, 66, FLOOR, p.base, 8)
    p.box(38, 32, 43, 78, p.light, 2)
    p.box(34, 76, 66, 79, p.dark)
    p.mark(54, 54, 10)


def bowl(p: Pen) -> None:
    p.shadow(18, 82)
    p.poly([(14, 54), (86, 54), (76, FLOOR), (24, FLOOR)], p.base)
    p.oval(14, 46, 86, 62, p.dark)
    p.oval(18, 48, 82, 60, CREAM)
    for x in range(24, 78, 7):
        p.dot(x, 53 + (x % 3), 3.6, mix(WOOD, DARK, 0.2 + 0.1 * (x % 2)))
    p.mark(50, 72, 9)


def box(p: Pen) -> None:
    p.shadow(18, 84)
    p.poly([(22, 30), (60, 24), (60, FLOOR), (22, 80)], p.base)
    p.poly([(60, 24), (80, 32), (80, 76), (60, FLOOR)], p.dark)
    p.poly([(22, 30), (42, 22), (80, 32), (60, 24)], p.light)
    p.poly([(22, 30), (60, 24), (80, 32), (42, 36)], p.light)
    p.poly([(26, 50), (56, 47), (56, 66), (26, 66)], PAPER)
    p.mark(41, 57, 9, PAPER)


def bulb(p: Pen) -> None:
    p.shadow(38, 62)
    p.dot(50, 38, 25, mix(GLOW, (255, 255, 255), 0.3))
    p.poly([(32, 54), (68, 54), (60, 68), (40, 68)], mix(GLOW, (255, 255, 255), 0.3))
    p.line(
        [(43, 64), (40, 40), (46, 48), (50, 38), (54, 48), (60, 40), (57, 64)], 1.2, (230, 150, 60)
    )
    p.box(40, 66, 60, 80, p.base, 2)
    for y in (69, 73, 77):
        p.line([(40, y), (60, y)], 1, p.dark)
    p.box(45, 80, 55, FLOOR, DARK, 2)


def cable(p: Pen) -> None:
    p.shadow(22, 78)
    for r in (27, 22, 17):
        p.ring(50, 48, r, 3.4, p.base if r != 22 else p.dark)
    p.line([(26, 56), (20, 76)], 3.4, p.base)
    p.line([(74, 56), (80, 72)], 3.4, p.base)
    p.box(15, 70, 25, FLOOR, p.light, 2)
    p.box(17, FLOOR, 23, FLOOR + 6, METAL)
    p.box(75, 68, 85, FLOOR - 2, p.light, 2)
    p.box(78, FLOOR - 2, 82, FLOOR + 4, METAL)
    p.box(44, 18, 56, 34, DARK, 2)


def camping_chair(p: Pen) -> None:
    p.shadow(18, 82)
    for one, two in (((24, 58), (74, FLOOR)), ((76, 58), (26, FLOOR))):
        p.line([one, two], 2.4, STEEL)
    for x in (26, 74):
        p.line([(x, 24), (x, 60)], 2.6, STEEL)
    p.poly([(26, 22), (74, 22), (72, 50), (28, 50)], p.base)
    p.poly([(26, 50), (74, 50), (78, 64), (22, 64)], p.dark)
    p.line([(16, 44), (30, 44)], 3, p.light)
    p.line([(70, 44), (84, 44)], 3, p.light)
    p.mark(50, 36, 9)


def cat_toy(p: Pen) -> None:
    p.shadow(20, 60)
    p.line([(24, FLOOR), (62, 24)], 2.6, WOOD)
    p.line([(62, 24), (72, 30), (74, 42)], 0.8, DARK)
    for shift, tone in ((-10, p.base), (0, p.light), (10, p.dark)):
        p.poly([(74, 42), (70 + shift, 68), (76 + shift, 70)], tone)
        p.oval(66 + shift, 52, 80 + shift, 74, tone)
    p.dot(74, 43, 3, GLOW)
    p.dot(40, 78, 7, p.base)
    p.arc(34, 72, 46, 84, 200, 330, 1, p.light)


def charger(p: Pen) -> None:
    p.shadow(28, 72)
    p.box(38, 12, 43, 30, METAL, 1)
    p.box(57, 12, 62, 30, METAL, 1)
    p.box(28, 26, 72, FLOOR, p.base, 10)
    p.box(32, 30, 38, 78, p.light, 3)
    p.box(42, 66, 58, 72, DARK, 3)
    p.mark(52, 48, 11)


def chocolate(p: Pen) -> None:
    p.shadow(20, 80)
    brown: RGB = (104, 66, 48)
    p.box(30, 14, 70, 52, brown, 2)
    for x in (31, 44.5, 58):
        for y in (16, 29, 42):
            p.box(x + 0.5, y, x + 11, y + 11, mix(brown, (255, 255, 255), 0.13), 2)
    p.poly([(26, 44), (74, 38), (74, FLOOR), (26, FLOOR)], p.base)
    p.poly([(26, 44), (74, 38), (74, 44), (26, 50)], METAL)
    p.box(33, 58, 67, 76, PAPER, 2)
    p.mark(50, 67, 9, PAPER)


def crossbody(p: Pen) -> None:
    p.shadow(20, 80)
    p.arc(26, 4, 74, 80, 190, 350, 2, p.dark)
    p.box(20, 42, 80, FLOOR, p.base, 9)
    p.poly([(20, 48), (80, 48), (72, 66), (28, 66)], p.dark)
    p.box(22, 42, 78, 54, p.dark, 8)
    p.box(46, 60, 54, 70, GLOW, 2)
    p.line([(26, 78), (74, 78)], 0.8, p.light)


def desk(p: Pen) -> None:
    p.shadow(10, 90)
    for x in (14, 82):
        p.box(x, 48, x + 4, FLOOR, STEEL)
    p.box(58, 48, 82, 70, p.base)
    for y in (50, 60):
        p.box(60, y, 80, y + 8, p.light, 1)
        p.box(68, y + 3, 72, y + 5, DARK)
    p.box(8, 42, 92, 49, WOOD, 2)
    p.box(22, 24, 46, 40, SCREEN, 2)
    p.box(32, 38, 36, 42, STEEL)
    p.box(60, 34, 68, 42, p.dark, 1)
    p.line([(62, 34), (61, 26)], 1, GLOW)
    p.line([(66, 34), (67, 25)], 1, (200, 90, 80))


def desk_lamp(p: Pen) -> None:
    p.shadow(22, 66)
    p.poly([(64, 40), (88, 52), (90, 76), (52, 76)], mix(GLOW, (255, 255, 255), 0.45))
    p.box(26, 78, 62, FLOOR, p.dark, 3)
    p.line([(44, 78), (32, 48), (62, 22)], 2.8, STEEL)
    p.dot(32, 48, 3, p.dark)
    p.poly([(54, 22), (66, 12), (88, 42), (62, 48)], p.base)
    p.oval(60, 38, 90, 52, GLOW)
    p.poly([(54, 22), (66, 12), (70, 18), (56, 28)], p.dark)


def dress(p: Pen) -> None:
    p.arc(42, 6, 58, 22, 180, 330, 1.4, STEEL)
    p.line([(38, 18), (40, 30)], 2.4, p.dark)
    p.line([(62, 18), (60, 30)], 2.4, p.dark)
    p.poly([(36, 24), (64, 24), (60, 46), (80, FLOOR), (20, FLOOR), (40, 46)], p.base)
    p.poly([(40, 46), (60, 46), (61, 51), (39, 51)], p.dark)
    for x, y in ((36, 66), (50, 60), (62, 70), (44, 76), (70, 79), (30, 79), (56, 78)):
        p.mark(x, y, 4.6)
    p.oval(43, 20, 57, 30, p.light)


def dripper(p: Pen) -> None:
    p.shadow(28, 72)
    p.box(30, 60, 70, FLOOR, GLASS, 6)
    p.box(32, 70, 68, 82, mix(SOIL, DARK, 0.2), 5)
    p.box(24, 54, 76, 59, p.dark, 2)
    p.poly([(22, 22), (78, 22), (58, 55), (42, 55)], p.base)
    p.oval(22, 16, 78, 28, p.light)
    p.oval(27, 18, 73, 27, SOIL)
    p.arc(70, 26, 86, 46, 270, 100, 2.6, p.dark)
    for x in (36, 46, 56):
        p.line([(x, 32), (x + 4, 48)], 0.8, p.light)


def dumbbell(p: Pen) -> None:
    p.shadow(10, 90)
    for y, shift in ((70, 0), (50, 6)):
        p.box(30 + shift, y - 3, 66 + shift, y + 4, METAL, 2)
        for x in (14, 62):
            p.box(x + shift, y - 13, x + 10 + shift, y + 14, p.base, 3)
            p.box(x + 9 + shift, y - 10, x + 17 + shift, y + 11, p.dark, 3)
            p.box(x + 2 + shift, y - 10, x + 4 + shift, y + 10, p.light, 1)


def earbuds(p: Pen) -> None:
    p.shadow(24, 76)
    p.box(24, 50, 76, FLOOR, p.base, 14)
    p.line([(25, 62), (75, 62)], 1, p.dark)
    p.dot(50, 70, 2, GLOW)
    for x, way in ((38, -1), (62, 1)):
        p.box(x - 3, 28, x + 3, 52, p.light, 3)
        p.dot(x + 2 * way, 26, 8, p.light)
        p.dot(x - 3 * way, 26, 4, DARK)
    p.mark(50, 77, 5)


def floor_lamp(p: Pen) -> None:
    p.shadow(32, 68)
    p.poly([(34, 36), (66, 36), (80, 76), (20, 76)], mix(GLOW, (255, 255, 255), 0.55))
    p.line([(50, 32), (50, 80)], 2, STEEL)
    p.line([(50, 66), (36, FLOOR)], 2, WOOD)
    p.line([(50, 66), (64, FLOOR)], 2, WOOD)
    p.poly([(38, 10), (62, 10), (72, 38), (28, 38)], p.base)
    p.poly([(38, 10), (44, 10), (38, 38), (28, 38)], p.light)
    p.oval(28, 35, 72, 41, GLOW)


def frother(p: Pen) -> None:
    p.shadow(30, 70)
    p.box(32, 24, 66, FLOOR, p.base, 6)
    p.box(36, 28, 41, 78, p.light, 2)
    p.poly([(32, 24), (24, 18), (66, 18), (66, 26)], p.dark)
    p.arc(58, 34, 82, 66, 270, 90, 4, DARK)
    p.oval(30, 12, 64, 24, (255, 253, 246))
    p.dot(40, 13, 5, (255, 253, 246))
    p.dot(52, 12, 6, (255, 253, 246))
    p.mark(50, 56, 9)


def grinder(p: Pen) -> None:
    p.shadow(30, 70)
    p.line([(50, 20), (74, 14)], 2.4, STEEL)
    p.dot(76, 14, 4, WOOD)
    p.box(38, 18, 62, 28, STEEL, 4)
    p.box(34, 26, 66, 58, p.base, 4)
    p.box(38, 30, 43, 54, p.light, 2)
    p.box(36, 56, 64, FLOOR, WOOD, 4)
    p.box(34, 55, 66, 60, p.dark, 1)
    p.oval(42, 64, 58, 76, mix(SOIL, DARK, 0.3))
    p.mark(54, 42, 8)


def hair_dryer(p: Pen) -> None:
    p.shadow(34, 66)
    p.poly([(48, 50), (62, 50), (58, FLOOR), (44, FLOOR)], p.dark)
    p.box(26, 24, 74, 54, p.base, 14)
    p.box(14, 30, 30, 48, DARK, 2)
    p.dot(62, 39, 13, p.light)
    p.dot(62, 39, 9, p.dark)
    for x in (57, 62, 67):
        p.line([(x, 34), (x, 44)], 1, p.light)
    p.box(50, 60, 55, 68, GLOW, 2)


def headphones(p: Pen) -> None:
    p.shadow(22, 78)
    p.arc(20, 14, 80, 90, 180, 360, 6, p.dark)
    p.arc(24, 18, 76, 90, 190, 350, 2, p.light)
    for x in (16, 66):
        p.box(x, 50, x + 18, FLOOR, p.base, 8)
    p.box(30, 53, 37, 80, DARK, 3)
    p.box(63, 53, 70, 80, DARK, 3)
    p.mark(23, 67, 7)
    p.mark(77, 67, 7)


def hoodie(p: Pen) -> None:
    p.poly([(30, 28), (12, 40), (14, 74), (26, 74), (28, 48)], p.dark)
    p.poly([(70, 28), (88, 40), (86, 74), (74, 74), (72, 48)], p.dark)
    p.box(28, 26, 72, FLOOR, p.base, 5)
    p.box(28, 78, 72, FLOOR + 1, p.dark, 2)
    p.oval(34, 10, 66, 38, p.dark)
    p.oval(39, 14, 61, 36, mix(p.dark, DARK, 0.5))
    p.poly([(34, 26), (50, 42), (66, 26), (60, 34), (50, 38), (40, 34)], p.base)
    p.line([(45, 36), (44, 48)], 1, PAPER)
    p.line([(55, 36), (56, 48)], 1, PAPER)
    p.poly([(36, 74), (40, 60), (60, 60), (64, 74)], p.light)
    p.mark(50, 53, 7)


def ink(p: Pen) -> None:
    p.shadow(26, 74)
    p.box(40, 18, 60, 34, DARK, 3)
    p.box(26, 32, 74, FLOOR, GLASS, 8)
    p.box(29, 46, 71, 81, p.base, 6)
    p.box(36, 54, 64, 74, PAPER, 2)
    p.mark(50, 64, 9, PAPER)
    p.box(30, 36, 33, 76, (255, 255, 255), 1)


def jacket(p: Pen) -> None:
    p.poly([(30, 20), (12, 34), (12, 74), (25, 74), (30, 48)], p.dark)
    p.poly([(70, 20), (88, 34), (88, 74), (75, 74), (70, 48)], p.dark)
    p.box(27, 18, 73, FLOOR, p.base, 5)
    p.poly([(40, 18), (60, 18), (50, 32)], mix(p.dark, DARK, 0.4))
    p.poly([(36, 16), (42, 16), (50, 32), (44, 36)], p.light)
    p.poly([(64, 16), (58, 16), (50, 32), (56, 36)], p.light)
    p.line([(50, 33), (50, FLOOR)], 1.4, METAL)
    for x in (32, 57):
        p.box(x, 58, x + 11, 60.5, p.dark, 1)
    p.mark(62, 44, 7)


def jar(p: Pen) -> None:
    p.shadow(22, 78)
    p.box(24, 44, 76, FLOOR, p.base, 8)
    p.box(22, 24, 78, 46, p.dark, 5)
    p.box(26, 27, 31, 43, p.light, 2)
    p.box(30, 54, 70, 76, PAPER, 3)
    p.mark(50, 65, 10, PAPER)


def jeans(p: Pen) -> None:
    p.poly(
        [(30, 16), (70, 16), (76, FLOOR), (56, FLOOR), (50, 40), (44, FLOOR), (24, FLOOR)], p.base
    )
    p.poly([(30, 16), (70, 16), (71, 23), (29, 23)], p.dark)
    p.line([(50, 23), (50, 38)], 1, p.light)
    p.arc(22, 16, 42, 36, 10, 80, 1, p.light)
    p.arc(58, 16, 78, 36, 100, 170, 1, p.light)
    p.dot(50, 19.5, 1.8, GLOW)
    p.poly([(24, 79), (44.5, 79), (44, FLOOR), (24, FLOOR)], p.light)
    p.poly([(55.5, 79), (75.5, 79), (76, FLOOR), (56, FLOOR)], p.light)
    p.mark(35, 58, 6)


def kettle(p: Pen) -> None:
    p.shadow(22, 80)
    p.arc(54, 22, 90, 74, 280, 70, 4.4, DARK)
    p.poly([(30, 42), (14, 34), (18, 30), (34, 34)], p.dark)
    p.poly([(34, 26), (66, 26), (74, 78), (26, 78)], p.base)
    p.poly([(38, 30), (43, 30), (38, 74), (32, 74)], p.light)
    p.box(36, 20, 64, 28, p.dark, 3)
    p.dot(50, 18, 3.6, DARK)
    p.box(22, 77, 78, FLOOR, DARK, 3)
    p.mark(54, 56, 10)


def keyboard(p: Pen) -> None:
    p.shadow(6, 94, 72)
    p.box(6, 36, 94, 72, p.dark, 5)
    keys = mix(p.light, (255, 255, 255), 0.3)
    for row in range(4):
        for column in range(12):
            x = 9.5 + column * 6.9
            tone = p.base if (row, column) in ((0, 0), (2, 11), (1, 11)) else keys
            if row == 3 and 3 <= column <= 8:
                continue
            p.box(x, 39.5 + row * 7.6, x + 5.6, 45.5 + row * 7.6, tone, 1)
    p.box(30.2, 62.3, 70, 68.3, p.base, 1)


def knife(p: Pen) -> None:
    p.shadow(12, 88, 74)
    p.poly([(10, 40), (64, 34), (64, 62), (30, 62), (14, 52)], METAL)
    p.poly([(10, 40), (64, 34), (64, 39), (12, 45)], mix(METAL, (255, 255, 255), 0.6))
    p.box(62, 34, 67, 52, STEEL, 1)
    p.box(66, 35, 92, 49, p.base, 5)
    for x in (72, 79, 86):
        p.dot(x, 42, 1.5, METAL)


def laptop(p: Pen) -> None:
    p.shadow(8, 92, 78)
    p.box(20, 22, 80, 66, p.dark, 3)
    p.box(23, 25, 77, 63, SCREEN)
    p.poly([(23, 63), (44, 25), (60, 25), (39, 63)], mix(SCREEN, p.light, 0.35))
    p.poly([(20, 66), (80, 66), (92, 76), (8, 76)], p.light)
    p.poly([(26, 68), (74, 68), (78, 72), (22, 72)], p.dark)
    p.box(8, 76, 92, 79, p.base, 1)
    p.mark(50, 44, 9, SCREEN)


def leash(p: Pen) -> None:
    p.shadow(20, 80)
    p.ring(40, 46, 22, 4.4, p.base)
    p.ring(46, 52, 20, 4.4, p.dark)
    p.line([(62, 56), (74, 76)], 4, p.base)
    p.ring(77, 80, 5, 2, METAL)
    p.box(22, 60, 48, 74, p.light, 5)
    p.mark(35, 67, 6, p.light)


def leggings(p: Pen) -> None:
    p.poly(
        [
            (34, 12),
            (66, 12),
            (68, 34),
            (62, FLOOR),
            (53, FLOOR),
            (50, 40),
            (47, FLOOR),
            (38, FLOOR),
            (32, 34),
        ],
        p.base,
    )
    p.poly([(34, 12), (66, 12), (67, 22), (33, 22)], p.dark)
    p.line([(35, 30), (41, 80)], 1.2, p.light)
    p.line([(65, 30), (59, 80)], 1.2, p.light)
    p.mark(50, 17, 6, p.dark)


def lipstick(p: Pen) -> None:
    p.shadow(34, 66)
    p.poly([(42, 34), (42, 22), (58, 12), (58, 34)], p.base)
    p.poly([(42, 22), (58, 12), (58, 17), (45, 25)], p.light)
    p.box(40, 33, 60, 50, GLOW, 1)
    p.box(42, 35, 45, 49, mix(GLOW, (255, 255, 255), 0.6))
    p.box(36, 48, 64, FLOOR, DARK, 3)
    p.box(39, 52, 42, 80, STEEL, 1)
    p.mark(54, 67, 8, DARK)


def lunch_box(p: Pen) -> None:
    p.shadow(14, 86)
    p.box(14, 52, 86, FLOOR, p.base, 8)
    p.box(12, 40, 88, 54, p.light, 5)
    p.box(44, 48, 56, 60, p.dark, 2)
    p.arc(30, 24, 70, 60, 180, 360, 3.4, p.dark)
    p.line([(20, 70), (80, 70)], 0.8, p.dark)
    p.mark(28, 76, 7)


def mat(p: Pen) -> None:
    p.shadow(8, 92, 78)
    p.poly([(18, 34), (82, 34), (94, 76), (6, 76)], p.base)
    p.poly([(6, 76), (94, 76), (93, 79), (7, 79)], p.dark)
    p.poly([(20, 36), (80, 36), (91, 74), (9, 74)], p.dark)
    p.poly([(21, 37), (79, 37), (89.6, 73), (10.4, 73)], p.base)
    p.oval(62, 46, 74, 64, PAPER)
    p.box(24, 46, 54, 60, mix(p.base, (255, 255, 255), 0.6), 2)
    p.mark(76, 69, 6)


def monitor(p: Pen) -> None:
    p.shadow(28, 72)
    p.box(46, 62, 54, 80, STEEL)
    p.box(32, 79, 68, FLOOR, p.dark, 2)
    p.box(8, 16, 92, 66, p.dark, 3)
    p.box(11, 19, 89, 60, SCREEN, 1)
    p.poly([(11, 60), (36, 34), (52, 50), (66, 38), (89, 60)], mix(SCREEN, p.base, 0.7))
    p.dot(72, 30, 5, GLOW)
    p.box(44, 62, 56, 64, p.light)


def monitor_light(p: Pen) -> None:
    p.shadow(28, 72)
    p.poly([(12, 34), (88, 34), (96, 70), (4, 70)], mix(GLOW, (255, 255, 255), 0.5))
    p.box(46, 66, 54, 80, STEEL)
    p.box(34, 79, 66, FLOOR, DARK, 2)
    p.box(16, 36, 84, 70, DARK, 3)
    p.box(19, 39, 81, 67, SCREEN)
    p.box(44, 20, 56, 42, p.dark, 3)
    p.box(10, 22, 90, 31, p.base, 4)
    p.box(13, 30, 87, 34, GLOW, 1)


def mouse(p: Pen) -> None:
    p.shadow(30, 70)
    p.box(31, 22, 69, FLOOR, p.base, 18)
    p.box(31, 22, 69, 48, p.light, 18)
    p.box(31, 40, 69, 50, p.light)
    p.line([(50, 23), (50, 50)], 1, p.dark)
    p.line([(32, 50), (68, 50)], 1, p.dark)
    p.box(47, 32, 53, 44, DARK, 3)
    p.mark(50, 66, 9)


def mug(p: Pen) -> None:
    p.shadow(24, 74)
    p.arc(58, 40, 86, 72, 270, 90, 5, p.dark)
    p.box(26, 32, 68, FLOOR, p.base, 7)
    p.box(26, 32, 68, 60, p.base)
    p.oval(26, 26, 68, 38, p.light)
    p.oval(29, 28, 65, 37, (112, 78, 58))
    p.box(31, 42, 36, 76, p.light, 2)
    for x in (40, 50):
        p.arc(x, 8, x + 8, 18, 90, 270, 1.2, METAL)
        p.arc(x, 16, x + 8, 26, 270, 90, 1.2, METAL)
    p.mark(51, 59, 13)


def night_light(p: Pen) -> None:
    p.shadow(28, 72)
    lamp_glow(p, 50, 54, 25)
    p.dot(50, 56, 25, p.light)
    p.oval(27, 26, 43, 48, p.light)
    p.oval(57, 26, 73, 48, p.light)
    p.oval(31, 31, 39, 43, p.base)
    p.oval(61, 31, 69, 43, p.base)
    p.dot(42, 54, 2.2, DARK)
    p.dot(58, 54, 2.2, DARK)
    p.arc(44, 54, 56, 64, 20, 160, 1.2, DARK)
    p.dot(36, 61, 3, (244, 160, 150))
    p.dot(64, 61, 3, (244, 160, 150))


def notebook(p: Pen) -> None:
    p.shadow(22, 80)
    p.box(28, 16, 80, FLOOR, PAPER, 3)
    p.box(24, 14, 76, 82, p.base, 3)
    p.box(24, 14, 33, 82, p.dark, 2)
    p.box(66, 14, 69, 82, p.dark)
    p.box(38, 28, 62, 42, PAPER, 2)
    p.mark(50, 35, 7, PAPER)
    p.poly([(56, 82), (60, 82), (60, 91), (58, 88), (56, 91)], (205, 66, 62))


def office_chair(p: Pen) -> None:
    p.shadow(22, 78, 88)
    p.box(47, 62, 53, 78, STEEL)
    p.line([(50, 78), (26, 86)], 3, DARK)
    p.line([(50, 78), (74, 86)], 3, DARK)
    for x in (25, 50, 75):
        p.dot(x, 87, 3, DARK)
    p.box(34, 8, 66, 18, p.dark, 4)
    p.box(30, 20, 70, 54, p.base, 9)
    for y in (27, 34, 41):
        p.line([(36, y), (64, y)], 0.9, p.light)
    p.box(26, 56, 74, 66, p.dark, 5)
    p.line([(20, 44), (20, 60)], 3, DARK)
    p.line([(80, 44), (80, 60)], 3, DARK)
    p.line([(16, 44), (26, 44)], 3.4, DARK)
    p.line([(74, 44), (84, 44)], 3.4, DARK)


def pack(p: Pen) -> None:
    p.shadow(14, 86)
    p.box(16, 34, 84, FLOOR, p.base, 10)
    p.poly([(16, 44), (10, 38), (14, 32), (24, 36)], p.dark)
    p.poly([(84, 44), (90, 38), (86, 32), (76, 36)], p.dark)
    p.box(34, 30, 66, 46, p.light, 4)
    p.oval(40, 34, 60, 42, PAPER)
    p.dot(50, 64, 13, CREAM)
    p.dot(45, 62, 1.6, DARK)
    p.dot(55, 62, 1.6, DARK)
    p.arc(44, 62, 56, 71, 20, 160, 1.2, DARK)


def pan(p: Pen) -> None:
    p.shadow(10, 66, 76)
    p.box(58, 48, 96, 55, DARK, 3)
    p.oval(6, 36, 66, 76, p.dark)
    p.oval(8, 34, 64, 70, p.base)
    p.oval(13, 38, 59, 66, mix(DARK, p.base, 0.25))
    p.oval(24, 43, 46, 60, (255, 253, 246))
    p.dot(36, 51, 4.6, (246, 190, 60))


def pen(p: Pen) -> None:
    p.shadow(16, 80)
    p.poly([(24, 70), (18, FLOOR), (32, 78)], GLOW)
    p.line([(27, 75), (38, 64)], 6, DARK)
    p.line([(38, 64), (66, 34)], 9, p.base)
    p.line([(68, 32), (82, 17)], 9.6, p.dark)
    p.line([(64, 30), (74, 19)], 1.6, GLOW)
    p.line([(37, 60), (62, 33)], 1.4, p.light)
    p.line([(18, FLOOR), (23, 76)], 0.8, DARK)


def pencil_case(p: Pen) -> None:
    p.shadow(10, 90)
    for x, tone in ((30, GLOW), (42, (200, 90, 80)), (56, (90, 140, 180))):
        p.line([(x, 56), (x + 4, 26)], 3.6, tone)
        p.poly([(x + 2.2, 27), (x + 6, 27), (x + 5, 19)], CREAM)
    p.box(10, 46, 90, FLOOR, p.base, 12)
    p.line([(16, 54), (84, 54)], 1.6, p.light)
    p.box(80, 52, 88, 57, METAL, 1)
    p.mark(50, 69, 11)


def pens(p: Pen) -> None:
    p.shadow(26, 76)
    for number, tone in enumerate((p.base, DARK, (200, 90, 80), (90, 140, 180), p.dark)):
        x = 30 + number * 9.5
        p.box(x, 24, x + 6, 76, mix(tone, (255, 255, 255), 0.12), 2)
        p.box(x, 56, x + 6, 70, p.light)
        p.poly([(x, 76), (x + 6, 76), (x + 3, FLOOR)], METAL)
        p.box(x + 1.6, 16, x + 4.4, 25, tone, 1)


def pet_bag(p: Pen) -> None:
    p.shadow(22, 80)
    p.poly([(26, 16), (74, 16), (78, FLOOR), (22, FLOOR)], p.base)
    p.box(25, 14, 75, 22, p.dark, 1)
    p.dot(50, 48, 17, PAPER)
    p.poly([(37, 44), (37, 30), (47, 37)], mix(p.dark, WOOD, 0.5))
    p.poly([(63, 44), (63, 30), (53, 37)], mix(p.dark, WOOD, 0.5))
    p.dot(50, 48, 11.5, mix(p.dark, WOOD, 0.5))
    p.dot(46, 46, 1.6, PAPER)
    p.dot(54, 46, 1.6, PAPER)
    p.poly([(48.4, 50), (51.6, 50), (50, 52.4)], (244, 160, 150))
    p.box(34, 70, 66, 78, p.light, 3)


def pet_bed(p: Pen) -> None:
    p.shadow(8, 92)
    p.oval(8, 42, 92, 90, p.dark)
    p.oval(8, 36, 92, 82, p.base)
    p.oval(19, 42, 81, 74, CREAM)
    p.oval(32, 44, 70, 68, WOOD)
    p.dot(36, 52, 9, WOOD)
    p.poly([(29, 50), (29, 39), (37, 45)], WOOD)
    p.poly([(44, 48), (46, 39), (38, 44)], WOOD)
    p.arc(30, 50, 36, 54, 0, 180, 0.9, DARK)
    p.arc(38, 50, 44, 54, 0, 180, 0.9, DARK)
    p.mark(50, 79, 6)


def phone(p: Pen) -> None:
    p.shadow(30, 70)
    p.box(46, 16, 76, 80, p.base, 6)
    p.box(50, 20, 64, 34, p.dark, 4)
    for x, y in ((54, 24), (60, 30), (60, 24)):
        p.dot(x, y, 2.4, DARK)
    p.box(26, 18, 58, FLOOR, DARK, 6)
    p.box(28, 20, 56, 82, SCREEN, 4)
    p.poly([(28, 78), (28, 52), (56, 28), (56, 62)], mix(SCREEN, p.base, 0.75))
    p.box(38, 22, 46, 24, DARK, 1)
    for x in (32, 39, 46):
        p.box(x, 72, x + 5, 77, p.light, 1.4)


def phone_case(p: Pen) -> None:
    p.shadow(30, 70)
    p.box(29, 12, 71, FLOOR, p.dark, 9)
    p.box(31, 14, 69, 82, p.base, 8)
    p.box(35, 18, 53, 36, p.dark, 5)
    for x, y in ((40, 23), (48, 23), (40, 31)):
        p.dot(x, y, 3, DARK)
    p.box(33, 40, 35, 76, p.light, 1)
    p.mark(51, 58, 15)


def plant(p: Pen) -> None:
    p.shadow(30, 70)
    stem = (50.0, 58.0)
    for angle in (-80, -52, -25, 0, 25, 52, 80):
        a = math.radians(angle)
        long = 42 - abs(angle) * 0.12
        tip = (stem[0] + long * math.sin(a), stem[1] - long * math.cos(a))
        across = (8 * math.cos(a), 8 * math.sin(a))
        half = ((stem[0] + tip[0]) / 2, (stem[1] + tip[1]) / 2)
        tone = (
            mix(LEAF, (30, 80, 50), 0.06 * (abs(angle) % 4)) if angle % 2 else mix(LEAF, GLOW, 0.2)
        )
        p.poly(
            [stem, (half[0] - across[0], half[1] - across[1]), tip,
             (half[0] + across[0], half[1] + across[1])], tone)  # fmt: skip
        p.line([stem, tip], 0.6, mix(LEAF, (255, 255, 255), 0.4))
    p.poly([(32, 58), (68, 58), (62, FLOOR), (38, FLOOR)], p.base)
    p.box(30, 55, 70, 62, p.dark, 2)
    p.mark(50, 73, 8)


def planter(p: Pen) -> None:
    p.shadow(22, 78)
    p.oval(24, 30, 76, 48, p.dark)
    p.oval(28, 33, 72, 46, SOIL)
    p.poly([(20, 38), (80, 38), (70, FLOOR), (30, FLOOR)], p.base)
    p.oval(20, 31, 80, 45, p.dark)
    p.oval(25, 33, 75, 43, SOIL)
    p.poly([(26, 46), (31, 46), (37, 80), (34, 80)], p.light)
    p.line([(50, 38), (50, 26)], 1.4, LEAF)
    p.oval(50, 18, 60, 27, LEAF)
    p.oval(40, 20, 50, 29, mix(LEAF, GLOW, 0.3))
    p.mark(52, 62, 13)


def plush(p: Pen) -> None:
    p.shadow(28, 72)
    for x in (34, 66):
        p.dot(x, 22, 8, p.base)
        p.dot(x, 22, 4, p.light)
        p.oval(x - 9, 72, x + 9, 87, p.dark)
    p.oval(30, 46, 70, 86, p.base)
    p.oval(38, 54, 62, 82, p.light)
    p.dot(26, 58, 7, p.base)
    p.dot(74, 58, 7, p.base)
    p.dot(50, 34, 21, p.base)
    p.oval(41, 36, 59, 50, p.light)
    p.dot(43, 31, 2.4, DARK)
    p.dot(57, 31, 2.4, DARK)
    p.oval(47, 38, 53, 42, DARK)
    p.arc(45, 39, 55, 47, 20, 160, 1, DARK)


def pouch(p: Pen) -> None:
    p.shadow(26, 74)
    p.poly([(28, 14), (72, 14), (76, 78), (70, FLOOR), (30, FLOOR), (24, 78)], p.base)
    p.box(28, 12, 72, 20, p.dark, 1)
    p.line([(29, 24), (71, 24)], 0.8, p.light)
    p.oval(33, 34, 67, 70, PAPER)
    for x, y in ((44, 58), (56, 60), (50, 64)):
        p.oval(x - 4, y - 3, x + 4, y + 3, mix(SOIL, WOOD, 0.4))
    p.mark(50, 46, 10, PAPER)


def power_bank(p: Pen) -> None:
    p.shadow(30, 72)
    p.box(32, 14, 72, FLOOR, p.dark, 8)
    p.box(29, 14, 69, FLOOR, p.base, 8)
    p.box(33, 18, 37, 80, p.light, 2)
    for x in (43, 49, 55, 61):
        p.dot(x, 74, 1.6, GLOW if x < 60 else p.dark)
    p.box(44, 14, 56, 17, DARK, 1)
    p.poly([(53, 32), (44, 50), (50, 50), (47, 64), (57, 45), (51, 45)], GLOW)


def pump(p: Pen) -> None:
    p.shadow(30, 70)
    p.line([(50, 32), (50, 16)], 3, METAL)
    p.box(30, 12, 54, 18, p.dark, 3)
    p.box(42, 26, 58, 36, p.dark, 2)
    p.box(30, 34, 70, FLOOR, p.base, 9)
    p.box(34, 40, 38, 78, p.light, 2)
    p.box(40, 48, 64, 74, PAPER, 3)
    p.mark(52, 61, 10, PAPER)


def puzzle(p: Pen) -> None:
    p.shadow(16, 84, 82)
    for x, y, tone in (
        (18, 20, p.base), (51, 20, p.light), (18, 52, GLOW), (51, 52, p.dark),
    ):  # fmt: skip
        p.box(x, y, x + 31, y + 30, tone, 2)
    p.dot(51, 34, 5, p.base)
    p.dot(33, 52, 5, GLOW)
    p.dot(51, 66, 5, GLOW)
    p.dot(67, 51, 5, p.light)
    p.mark(34, 34, 8)
    p.mark(67, 68, 8, p.dark)


def sandal(p: Pen) -> None:
    p.shadow(10, 92)
    p.poly([(10, 66), (34, 66), (56, 74), (84, 74), (92, 79), (88, FLOOR), (12, FLOOR)], WOOD)
    p.poly(
        [(10, 74), (34, 74), (56, 80), (92, 80), (88, FLOOR), (12, FLOOR)], mix(WOOD, DARK, 0.35)
    )
    p.poly([(56, 75), (62, 54), (80, 54), (86, 76)], p.base)
    p.poly([(62, 54), (80, 54), (80.6, 58), (61, 58)], p.light)
    p.line([(14, 66), (18, 44), (32, 46), (40, 68)], 4.6, p.dark)
    p.line([(16, 45), (33, 47)], 5.4, p.base)
    p.dot(31, 47, 2.4, GLOW)
    p.mark(71, 67, 7)


def screen_protector(p: Pen) -> None:
    p.shadow(26, 74)
    p.box(26, 14, 60, 78, p.base, 6)
    p.box(29, 17, 57, 75, SCREEN, 4)
    p.box(40, 22, 74, FLOOR, mix(GLASS, (255, 255, 255), 0.3), 6)
    p.box(42, 24, 72, 82, mix(GLASS, p.base, 0.12), 5)
    p.poly([(44, 60), (64, 28), (70, 28), (44, 72)], (255, 255, 255))
    p.poly([(58, 78), (70, 58), (70, 64), (62, 78)], (255, 255, 255))
    p.box(52, 26, 62, 29, mix(GLASS, DARK, 0.3), 1)


def shoe(p: Pen) -> None:
    p.shadow(8, 94)
    p.poly([(12, 40), (24, 36), (34, 46), (50, 42), (64, 58), (86, 66), (92, 76), (12, 76)], p.base)
    p.oval(74, 60, 94, 82, p.base)
    p.poly([(12, 40), (24, 36), (30, 44), (14, 52)], p.dark)
    p.poly([(8, 74), (94, 74), (90, FLOOR), (12, FLOOR)], PAPER)
    p.line([(12, 80), (90, 80)], 1.4, p.dark)
    for x in (42, 48, 54, 60):
        p.line([(x - 3, 46 + (x - 42) * 0.75), (x + 3, 50 + (x - 42) * 0.75)], 1.6, PAPER)
    p.poly([(24, 68), (44, 52), (50, 56), (34, 70)], p.light)
    p.mark(70, 68, 6)


def side_table(p: Pen) -> None:
    p.shadow(22, 78)
    for one, two in (((34, 46), (26, FLOOR)), ((66, 46), (74, FLOOR)), ((50, 46), (50, FLOOR - 3))):
        p.line([one, two], 2.6, WOOD)
    p.oval(16, 38, 84, 54, p.dark)
    p.oval(16, 35, 84, 50, p.base)
    p.oval(22, 37, 70, 46, p.light)
    p.box(42, 26, 52, 42, PAPER, 2)
    p.arc(48, 29, 57, 38, 270, 90, 1.6, PAPER)
    p.oval(42, 24, 52, 29, (112, 78, 58))


def sleeping_bag(p: Pen) -> None:
    p.shadow(8, 92)
    p.box(8, 46, 80, FLOOR, p.base, 14)
    for x in (26, 42, 58):
        p.line([(x, 47), (x, 83)], 1, p.dark)
    p.oval(64, 44, 94, 86, p.dark)
    p.oval(68, 49, 91, 81, p.light)
    p.ring(79, 65, 7, 1.6, p.dark)
    p.line([(34, 46), (34, FLOOR)], 3, DARK)
    p.line([(52, 46), (52, FLOOR)], 3, DARK)
    p.mark(17, 65, 7)


def sleeve(p: Pen) -> None:
    p.shadow(10, 90, 80)
    p.box(24, 20, 86, 50, METAL, 3)
    p.box(10, 30, 86, 80, p.base, 5)
    p.box(10, 30, 86, 38, p.dark, 4)
    p.line([(14, 76), (82, 76)], 0.8, p.light)
    p.line([(14, 42), (14, 76)], 0.8, p.light)
    p.mark(50, 58, 13)


def sneaker(p: Pen) -> None:
    p.shadow(8, 94)
    p.poly([(14, 34), (34, 34), (40, 46), (58, 52), (84, 62), (92, 72), (92, 78), (14, 78)], p.base)
    p.oval(72, 60, 94, 84, PAPER)
    p.poly([(14, 34), (24, 34), (24, 78), (14, 78)], p.dark)
    p.box(10, 74, 94, FLOOR, PAPER, 4)
    p.line([(12, 78), (92, 78)], 1, p.base)
    for x in (42, 48, 54, 60):
        p.line([(x - 4, 50 + (x - 42) * 0.45), (x + 4, 48 + (x - 42) * 0.5)], 1.8, PAPER)
    p.mark(38, 66, 11)


def socks(p: Pen) -> None:
    p.shadow(18, 84)
    for shift, tone, band in ((0, p.dark, p.base), (18, p.base, p.light)):
        p.box(26 + shift, 14, 44 + shift, 66, tone, 2)
        p.box(26 + shift, 58, 62 + shift, 80, tone, 10)
        p.box(26 + shift, 14, 44 + shift, 24, band, 2)
        p.pie(20 + shift, 60, 40 + shift, 82, 90, 270, band)
        p.line([(27 + shift, 32), (43 + shift, 32)], 1.4, band)
    p.mark(53, 48, 7)


def speaker(p: Pen) -> None:
    p.shadow(24, 76)
    p.box(26, 14, 74, FLOOR, p.base, 8)
    p.dot(50, 58, 18, p.dark)
    p.dot(50, 58, 14, DARK)
    p.dot(50, 58, 6, STEEL)
    p.dot(50, 28, 8, p.dark)
    p.dot(50, 28, 5, STEEL)
    for x in (34, 66):
        p.dot(x, 20, 1.3, p.light)
    p.box(30, 18, 32, 78, p.light, 1)


def stand(p: Pen) -> None:
    p.shadow(26, 76)
    p.box(40, 12, 70, 62, DARK, 4)
    p.box(42, 15, 68, 59, SCREEN, 2)
    p.poly([(42, 59), (54, 30), (68, 44), (68, 59)], mix(SCREEN, GLOW, 0.5))
    p.line([(38, 60), (58, 78)], 5, p.base)
    p.line([(34, 64), (74, 64)], 5, p.base)
    p.box(30, 76, 76, FLOOR, p.dark, 3)


def string_lights(p: Pen) -> None:
    points = [(4 + x, 26 + 16 * math.sin(x / 92 * math.pi)) for x in range(0, 93, 4)]
    p.line(points, 1, DARK)
    lower = [(4 + x, 50 + 14 * math.sin(x / 92 * math.pi)) for x in range(0, 93, 4)]
    p.line(lower, 1, DARK)
    for row in (points, lower):
        for number, (x, y) in enumerate(row[1::3]):
            lamp_glow(p, x, y + 7, 4)
            p.box(x - 1.6, y, x + 1.6, y + 4, DARK)
            if number % 2:
                p.dot(x, y + 7, 3.6, p.light)
    p.shadow(20, 80, 86)


def succulent(p: Pen) -> None:
    p.shadow(24, 76)
    for ring, tone in ((23, mix(LEAF, p.base, 0.25)), (16, LEAF), (9, mix(LEAF, GLOW, 0.35))):
        for step in range(8):
            a = math.radians(step * 45 + ring * 3)
            x, y = 50 + ring * 0.9 * math.cos(a), 40 + ring * 0.55 * math.sin(a)
            p.oval(x - 8, y - 7, x + 8, y + 7, tone)
            p.dot(x + 3 * math.cos(a), y + 3 * math.sin(a), 1.2, (236, 150, 150))
    p.dot(50, 40, 5, mix(LEAF, GLOW, 0.6))
    p.poly([(28, 56), (72, 56), (66, FLOOR), (34, FLOOR)], p.base)
    p.box(26, 54, 74, 60, p.dark, 2)
    p.mark(50, 71, 8)


def suitcase(p: Pen) -> None:
    p.shadow(24, 76, 88)
    for x in (40, 58):
        p.line([(x, 24), (x, 6)], 1.6, STEEL)
    p.line([(39, 6), (59, 6)], 3, DARK)
    p.box(26, 20, 74, FLOOR, p.base, 8)
    for x in (36, 45, 54, 63):
        p.line([(x, 24), (x, 80)], 1.6, p.dark if x % 2 else p.light)
    p.box(26, 48, 74, 51, p.dark)
    p.dot(34, 87, 3, DARK)
    p.dot(66, 87, 3, DARK)
    p.box(44, 30, 56, 38, PAPER, 1)
    p.mark(50, 34, 4.4, PAPER)


def tablet(p: Pen) -> None:
    p.shadow(18, 84)
    p.box(20, 18, 80, 80, p.base, 5)
    p.box(23, 21, 77, 77, PAPER, 3)
    p.box(27, 25, 54, 28, DARK)
    for y in range(33, 60, 4):
        p.line([(28, y), (72 - (y * 7) % 13, y)], 0.9, METAL)
    p.box(27, 62, 48, 73, p.light, 1)
    p.box(51, 62, 73, 73, mix(p.light, p.base, 0.5), 1)
    p.line([(86, 22), (86, 72)], 2.4, p.dark)
    p.poly([(84.8, 73), (87.2, 73), (86, 78)], DARK)


def tee(p: Pen) -> None:
    p.poly([(30, 20), (8, 36), (18, 50), (30, 44)], p.dark)
    p.poly([(70, 20), (92, 36), (82, 50), (70, 44)], p.dark)
    p.poly([(30, 20), (70, 20), (71, FLOOR), (29, FLOOR)], p.base)
    p.oval(40, 12, 60, 28, p.dark)
    p.oval(42, 11, 58, 25, mix(p.base, DARK, 0.5))
    p.line([(30, 80), (70, 80)], 0.8, p.dark)
    p.mark(50, 50, 18)


def teapot(p: Pen) -> None:
    p.shadow(22, 78)
    p.poly([(30, 60), (8, 40), (14, 36), (34, 46)], p.dark)
    p.arc(62, 38, 90, 72, 270, 90, 4.4, p.dark)
    p.oval(24, 36, 76, 86, p.base)
    p.box(36, 78, 64, FLOOR, p.dark, 2)
    p.oval(34, 30, 66, 44, p.dark)
    p.dot(50, 28, 4.4, p.dark)
    p.arc(30, 42, 60, 80, 130, 210, 2, p.light)
    p.mark(54, 60, 11)


def tent(p: Pen) -> None:
    p.shadow(6, 94)
    p.poly([(50, 16), (94, FLOOR), (6, FLOOR)], p.base)
    p.poly([(50, 16), (94, FLOOR), (66, FLOOR)], p.dark)
    p.poly([(50, 34), (66, FLOOR), (34, FLOOR)], mix(p.dark, DARK, 0.6))
    p.poly([(50, 34), (40, 60), (30, FLOOR), (38, FLOOR)], p.light)
    p.line([(50, 16), (50, 8)], 1.2, DARK)
    p.poly([(50, 8), (60, 11), (50, 14)], (205, 66, 62))
    p.line([(6, FLOOR), (2, 88)], 1, DARK)
    p.mark(28, 72, 7)


def tin(p: Pen) -> None:
    p.shadow(30, 70)
    p.box(31, 30, 69, FLOOR, p.base, 3)
    p.oval(31, 78, 69, 88, p.base)
    p.box(29, 18, 71, 34, p.dark, 2)
    p.oval(29, 13, 71, 23, p.light)
    p.box(34, 36, 37, 82, p.light, 1)
    p.box(38, 44, 64, 76, PAPER, 2)
    p.oval(46, 48, 56, 64, LEAF)
    p.line([(51, 50), (51, 70)], 0.9, mix(LEAF, DARK, 0.4))


def tote(p: Pen) -> None:
    p.shadow(20, 80)
    p.arc(34, 8, 66, 66, 180, 360, 3, p.dark)
    p.poly([(20, 36), (80, 36), (74, FLOOR), (26, FLOOR)], p.base)
    p.poly([(20, 36), (80, 36), (79.4, 42), (20.6, 42)], p.dark)
    p.line([(27, 80), (73, 80)], 0.7, p.light)
    p.mark(50, 61, 18)


def tub(p: Pen) -> None:
    p.shadow(24, 76)
    p.box(26, 28, 74, FLOOR, p.base, 5)
    p.box(24, 16, 76, 30, DARK, 3)
    for x in range(28, 75, 6):
        p.line([(x, 18), (x, 28)], 0.8, STEEL)
    p.box(26, 42, 74, 74, PAPER)
    p.box(26, 42, 74, 47, p.dark)
    p.mark(50, 60, 13, PAPER)


def tube(p: Pen) -> None:
    p.shadow(36, 64)
    p.poly([(28, 12), (72, 12), (62, 72), (38, 72)], p.base)
    p.box(28, 10, 72, 17, p.dark, 1)
    p.box(40, 70, 60, FLOOR, p.dark, 2)
    p.poly([(33, 20), (38, 20), (43, 66), (41, 66)], p.light)
    p.poly([(43, 30), (62, 30), (58, 60), (45, 60)], PAPER)
    p.mark(51.5, 44, 9, PAPER)


def wallet(p: Pen) -> None:
    p.shadow(14, 86)
    p.box(26, 26, 74, 50, PAPER, 2)
    p.box(30, 22, 78, 48, (120, 180, 150), 2)
    p.box(14, 36, 84, FLOOR, p.base, 6)
    p.line([(18, 41), (80, 41)], 0.8, p.light)
    p.line([(18, 79), (80, 79)], 0.8, p.light)
    p.box(64, 52, 90, 68, p.dark, 5)
    p.dot(71, 60, 2.6, GLOW)
    p.mark(36, 60, 10)


def watch(p: Pen) -> None:
    p.shadow(36, 64, 90)
    p.poly([(40, 8), (60, 8), (62, 34), (38, 34)], p.base)
    p.poly([(38, 66), (62, 66), (60, 92), (40, 92)], p.base)
    for y in (74, 79, 84):
        p.dot(50, y, 1.2, p.dark)
    p.box(31, 28, 69, 72, STEEL, 12)
    p.box(34, 31, 66, 69, DARK, 10)
    p.box(69, 44, 72, 54, METAL, 1)
    p.arc(38, 36, 62, 64, 270, 150, 2.4, p.light)
    p.line([(50, 50), (50, 41)], 1.6, PAPER)
    p.line([(50, 50), (57, 53)], 1.6, PAPER)


def watering_can(p: Pen) -> None:
    p.shadow(30, 80)
    p.arc(52, 20, 92, 74, 250, 80, 3.4, p.dark)
    p.line([(38, 68), (18, 36)], 5, p.dark)
    p.poly([(8, 40), (22, 26), (26, 32), (14, 44)], p.base)
    p.poly([(38, 40), (74, 40), (78, FLOOR), (34, FLOOR)], p.base)
    p.oval(38, 34, 74, 46, p.dark)
    p.oval(42, 36, 70, 44, GLASS)
    p.poly([(41, 48), (46, 48), (44, 80), (39, 80)], p.light)
    for x, y in ((8, 50), (14, 52), (10, 58)):
        p.dot(x, y, 1.4, (120, 180, 220))
    p.mark(60, 64, 11)


def yoga_mat(p: Pen) -> None:
    p.shadow(8, 92)
    p.poly([(28, 70), (94, 70), (90, 82), (30, 82)], p.light)
    p.poly([(20, 40), (72, 24), (82, 54), (34, 80)], p.base)
    p.line([(20, 42), (72, 26)], 3, p.base)
    p.oval(14, 42, 46, 86, p.dark)
    p.oval(18, 48, 42, 82, p.light)
    p.ring(30, 65, 8, 2, p.dark)
    p.ring(30, 65, 3.6, 1.6, p.dark)
    p.line([(52, 31), (64, 66)], 2.4, DARK)


DRAWINGS: dict[str, Callable[[Pen], None]] = {
    name: globals()[name] for name in sorted({good.drawing for good in GOODS})
}


def picture(good: int, colour: int, style: int, brand: int) -> Image.Image:
    """The picture of an item, SIZE x SIZE. Arguments are rows of goods.py's tables."""
    hue = (brand * 0.381966) % 1.0
    r, g, b = colorsys.hsv_to_rgb(hue, 0.09 + 0.04 * (brand % 3), 0.94)
    wall = (round(r * 255), round(g * 255), round(b * 255))
    pen_ = Pen(COLOURS[colour].rgb, wall, STYLES[style][0])
    DRAWINGS[GOODS[good].drawing](pen_)
    return pen_.finish()


FORMATS = ("jpg", "jpg", "jpg", "jpg", "png", "jpg", "webp", "jpg")  # by item row


def encode(image: Image.Image, suffix: str) -> bytes:
    """The bytes of a small file: "jpg", "png" or "webp"."""
    out = io.BytesIO()
    if suffix == "jpg":
        image.save(out, "JPEG", quality=78)
    elif suffix == "webp":
        image.save(out, "WEBP", quality=82, method=2)
    else:
        image.quantize(48, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "PNG")
    return out.getvalue()
