"""The web page and its API (extra `web`)."""
