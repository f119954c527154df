"""From a configuration to a finished folder."""
