//! The reference of all options, written from the table: `docs/configuration.md` and `config/monoceros.toml`.
