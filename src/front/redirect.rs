//! http → https.
