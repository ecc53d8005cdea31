"""From an official checkpoint to canonical arrays: formats, key tables, checks, downloads."""
