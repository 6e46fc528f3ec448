//! Flags, environment, file and defaults become the `Settings` of each component.
