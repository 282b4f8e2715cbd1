"""The adapters: one file for each provider, on top of one transport. Nothing here knows Django."""
