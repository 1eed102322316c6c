"""Every setting, typed, with units, one file per section; the only reader of the environment.

`load_config` resolves defaults < TOML file < `TRIPTYCH_SECTION__FIELD` < `section.field=value`.
"""

from __future__ import annotations

from triptych.config.loader import Config, load_config

__all__ = ["Config", "load_config"]
