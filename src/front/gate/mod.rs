//! The strict check of what a request means, before anything acts on it.
