//! Listeners for clients, people and monitors.

pub mod http;
pub mod view;
