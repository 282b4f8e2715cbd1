"""Helpers of the tests: build rows, read rows and pages. One name has one meaning in all folders.

No module here asserts anything about the package; the tests do.
"""
