"""The sample gallery: pictures drawn by a seeded generator, so that a demo needs no network."""
