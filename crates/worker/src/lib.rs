//! The worker side: an extension module (`monoceros_worker`) that the user's own interpreter loads.

pub mod asgi;
pub mod load;
pub mod wsgi;
pub mod zygote;
