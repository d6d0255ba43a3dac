//! The Digital Twins door through its routes, without a socket: what official clients would send, and what they must get.

mod access;
mod event_routes;
mod fixture;
mod graph;
mod limits;
mod models;
mod queries;
