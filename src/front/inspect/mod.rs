//! The byte stream that hyper or h2 sees: the client's, with the gate in the way of everything that is read, and a watch on
//! how long the client takes.

pub(super) mod http1;
pub(super) mod http2;
mod linger;
mod patience;
