"""The section "tinyslm" of config.json: what the keys and tensors of the family cannot hold.

Only this library reads it. For example:

    "tinyslm": {"head_dim": 6, "replaced": {"layers.3.feed_forward.up": {"kind": "QuantizedLinear", ...}}}

head_dim: the size of a head, in families that have no key for it, where it is not hidden_size / num_attention_heads.
replaced: the compressed modules, see `compressed_modules`.
"""

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError

SECTION = "tinyslm"
HEAD_DIM, REPLACED = "head_dim", "replaced"
KEYS = (HEAD_DIM, REPLACED)


def own_section(values: dict, where) -> dict:
    """The section of a config.json, {} if it has none. Raises ConfigError naming `where` for unknown keys."""
    section = values.get(SECTION, {})
    if not isinstance(section, dict) or not isinstance(section.get(REPLACED, {}), dict):
        raise ConfigError(f"{where}: {SECTION} is {shown(section)}, expected an object with the object {REPLACED!r}")
    for key in section:
        if key not in KEYS:
            raise ConfigError(f"{where}: {SECTION} has the key {shown(key)}, expected only {' and '.join(KEYS)}")
    return section
