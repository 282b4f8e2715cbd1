"""The translations: complete, kept, compiled, and on the pages."""
