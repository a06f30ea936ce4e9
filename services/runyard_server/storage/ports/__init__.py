"""The promises that services rely on; each docstring is a contract that tests/contract checks."""
