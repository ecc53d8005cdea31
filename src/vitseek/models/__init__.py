"""Model families: frozen configs and forward passes that read like the papers."""
