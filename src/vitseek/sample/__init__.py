"""The sample gallery: pictures drawn by a seeded generator, so that a demo needs no network."""

from vitseek.sample.gallery import KINDS as KINDS
from vitseek.sample.gallery import draw_gallery as draw_gallery
