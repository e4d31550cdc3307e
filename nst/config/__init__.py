"""Every option, once: its default, its help, its checks; presets; TOML files."""
