//! Who serves now.
