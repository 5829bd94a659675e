"""The composition root: the only package that knows concrete classes.

`node` is a node's life, step by step; `control` what signals do to it; `settings`, `keys`, `logins`
and `listeners` make the parts from the configuration.
"""

from appliance.assembly.node import create, run, with_keys

__all__ = ["create", "run", "with_keys"]
