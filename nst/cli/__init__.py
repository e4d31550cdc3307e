"""The `nst` command: the only folder that prints or exits."""
