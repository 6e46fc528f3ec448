//! Builds the components, joins them, and defines the order in which they start and stop.
