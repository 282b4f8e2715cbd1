"""The translations: complete, consistent, compiled, and used on the pages."""
