"""The version of the SDK; pyproject.toml says the same, and a test that they agree."""

VERSION = "0.1.0"
